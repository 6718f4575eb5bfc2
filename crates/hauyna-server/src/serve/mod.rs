//! `hauyna serve`: assembles the hub, the chat endpoint and the pages, and serves them until a signal.

mod chat;
mod metrics;
mod pages;
mod signals;

pub(crate) use chat::contract;

use crate::output;
use crate::signal::{Signals, ignore_meaningless};
use anyhow::Context as _;
use clap::Parser;
use hauyna::server::{AllowedOrigin, TlsConfig};
use hauyna::{Handler, Hub, Origins, Router};
use metrics::{Metrics, MetricsAddress};
use pages::{CHAT, DEMO};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
pub(crate) use signals::drain_window;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The flags of `hauyna serve`.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_ADDRESS, value_parser = address)]
    listen: SocketAddr,
    /// Also mount a plain echo endpoint at this path, for conformance and load tests
    #[arg(long, value_name = "PATH", value_parser = path)]
    echo: Option<String>,
    /// Serve TLS with these certificates, in PEM, the server's own first
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let pages of this origin connect, too, such as `https://app.example.com`, `http://localhost:5173` or
    /// capacitor://localhost; may be repeated. Pages of the same host and port always may
    #[arg(long, value_name = "URL")]
    origin: Vec<AllowedOrigin>,
    /// Let pages of this machine connect, whatever their port: those of localhost, 127.0.0.1 and `[::1]`
    #[arg(long)]
    dev: bool,
    /// Offer permessage-deflate to clients that ask for it
    #[arg(long)]
    deflate: bool,
    /// Messages a second that one connection of /chat may send, and twice as many at once; more is refused
    /// with `rate_limited` [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: Option<u32>,
    /// Worker threads, each with a runtime and a shard of its own [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// Address for Prometheus to read `/metrics` at, or `off`; beyond this machine only with a token in the
    /// environment variable HAUYNA_METRICS_TOKEN [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR", value_parser = metrics::metrics_address)]
    metrics: Option<MetricsAddress>,
    /// After SIGTERM, SIGINT, SIGQUIT or SIGHUP: close the connections evenly over so long, such as 500ms,
    /// 30s or 2m, and exit with 0 at most 5 s later; a second signal exits at once, with 128 and its number
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = drain_window)]
    drain: Duration,
    /// What to log: error, warn, info, debug, trace, or a filter such as `hauyna::connection=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    log: String,
}

impl Default for Options {
    fn default() -> Self {
        Self::parse_from(["hauyna"])
    }
}

const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// Parses `host:port` and looks up names such as `localhost`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|_| "an address such as 127.0.0.1:8080".to_owned())?.next();
    found.ok_or_else(|| "the host has no address".to_owned())
}

fn path(text: &str) -> Result<String, String> {
    // Characters with a meaning in routes, and another spelling of `/chat`, would make mounting panic.
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    if !text.starts_with('/') || text == "/chat" || !text.chars().all(is_plain) {
        return Err("a path such as /echo, other than /chat".to_owned());
    }
    if text.split('/').any(|segment| [".", ".."].contains(&segment)) {
        return Err("a path without dot segments, which clients remove before sending".to_owned());
    }
    if pages::has(text) {
        return Err(format!("a path that is not in use: the program serves a page at `{text}`"));
    }
    Ok(text.to_owned())
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Serves until a signal of `TERMINATION_SIGNALS` and the end of the drain.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log).context("the log filter is invalid")?;
    log(filter);
    raise_descriptors();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = options.shards.map_or(cores, usize::from);
    let (hub, origins) = (chat::hub(workers), origins(options));
    let chat = chat::handler(options.deflate, options.rate_limit).origins(origins.clone());
    let mut router = Router::new(hub.clone()).websocket("/chat", chat);
    if let Some(path) = &options.echo {
        let echo = Handler::echo().max_message(ECHO_MESSAGE).origins(origins);
        router = router.websocket(path, if options.deflate { echo.deflate() } else { echo });
    }
    let mut server = router.fallback(pages::router(hub.clone())).into_server();
    if let (Some(certificates), Some(key)) = (&options.tls_cert, &options.tls_key) {
        server = server.tls(TlsConfig::from_files(certificates, key)?);
    }
    let metrics = Metrics::bind(options.metrics, std::env::var(metrics::TOKEN).ok())?;
    let readable = metrics.as_ref().map(|metrics| metrics.address);
    let drained = control(hub, metrics, options.drain)?;
    server.serve_per_core(options.listen, workers, |address| announce(address, readable, options))?;
    // All connections are closed by now.
    drained.recv().context("the control thread panicked")
}

/// Returns the origins whose pages may connect.
fn origins(options: &Options) -> Origins {
    let local = options.dev.then_some(LOCAL).into_iter().flatten();
    let local = local.map(|text| text.parse().expect("invariant: the list below holds only origins"));
    let listed: Vec<AllowedOrigin> = options.origin.iter().cloned().chain(local).collect();
    if listed.is_empty() { Origins::SameOrigin } else { Origins::Listed(listed) }
}

/// Starts the log. No thread waits for its lines to be written.
fn log(filter: EnvFilter) {
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(|| output::Log)
        // These would go through `eprintln!`, which panics when stderr cannot be written to.
        .log_internal_errors(false)
        .init();
    output::redirect_panics();
}

/// Raises the soft limit of descriptors: each connection needs one, and the usual limit of 1,024 is soon
/// reached. Where raising it is not allowed, the accept loop handles the lack of descriptors.
fn raise_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limits.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(target: "hauyna::server", %error, "the limit of open files cannot be raised");
        }
    }
}

/// Starts a thread that serves the metrics and handles signals until the process ends. The receiver gets a
/// value when the drain is over.
fn control(hub: Hub, metrics: Option<Metrics>, drain: Duration) -> anyhow::Result<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _within = runtime.enter();
        ignore_meaningless();
        Signals::new().context("cannot listen for signals")?
    };
    let (drained, over) = sync_channel(1);
    std::thread::Builder::new().name("hauyna-control".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Some(metrics) = metrics {
                let hub = hub.clone();
                tokio::spawn(async move {
                    if let Err(error) = metrics.serve(hub).await {
                        tracing::error!(target: "hauyna::server", %error, "metrics are not served");
                    }
                });
            }
            signals::shut_down_on_signal(signals, hub, drain, drained).await;
        });
    })?;
    Ok(over)
}

/// Prints the URLs of everything that is served. Programs read the address from the first line.
fn announce(address: SocketAddr, metrics: Option<SocketAddr>, options: &Options) {
    let (http, ws) = if options.tls_cert.is_some() { ("https", "wss") } else { ("http", "ws") };
    let mut text = format!(
        "hauyna is listening on {http}://{address}\n  \
           demo        {http}://{address}{DEMO}  (two people side by side: cut one of them)\n  \
           chat        {http}://{address}{CHAT}  (open it twice)\n  \
           WebSocket   {ws}://{address}/chat?user_id=YOUR_NAME\n"
    );
    if let Some(path) = &options.echo {
        let _ = writeln!(text, "  echo        {ws}://{address}{path}");
    }
    let _ = writeln!(text, "  health      {http}://{address}/live  {http}://{address}/ready");
    if let Some(metrics) = metrics {
        let _ = writeln!(text, "  metrics     http://{metrics}/metrics");
    }
    output::announce(&text);
}

/// Origins of pages that this machine serves to its own user.
const LOCAL: [&str; 8] = [
    "http://localhost:*",
    "https://localhost:*",
    "http://*.localhost:*",
    "https://*.localhost:*",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://[::1]:*",
    "https://[::1]:*",
];
/// Number of descriptors to ask for where there is no hard limit.
const DESCRIPTORS: u64 = 1 << 20;
/// Maximum size of an echoed message, in bytes. Conformance suites echo 16 MiB.
const ECHO_MESSAGE: usize = 64 << 20;
