//! The command `hauyna serve`: assembles the hub, the chat endpoint and the pages, and serves them until a
//! signal.

use super::metrics::{self, Metrics};
use super::options::{Options, origins};
use super::pages::{CHAT, DEMO};
use super::process::{raise_descriptors, start_log};
use super::{chat, pages, signals};
use crate::output;
use crate::signal::{Signals, ignore_meaningless};
use anyhow::Context as _;
use hauyna::server::TlsConfig;
use hauyna::{Handler, Hub, Router};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Serves until a signal of `TERMINATION_SIGNALS` and the end of the drain.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log).context("the log filter is invalid")?;
    start_log(filter);
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

/// Maximum size of an echoed message, in bytes. Conformance suites echo 16 MiB.
const ECHO_MESSAGE: usize = 64 << 20;
