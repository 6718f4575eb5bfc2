//! The flags of `hauyna serve` and their parsers. `command` reads them.

use super::metrics::{self, MetricsAddress};
use super::pages;
use super::signals::drain_window;
use clap::Parser;
use hauyna::Origins;
use hauyna::server::AllowedOrigin;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The flags of `hauyna serve`.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_ADDRESS, value_parser = address)]
    pub(super) listen: SocketAddr,
    /// Also mount a plain echo endpoint at this path, for conformance and load tests
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub(super) echo: Option<String>,
    /// Serve TLS with these certificates, in PEM, the server's own first
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Let pages of this origin connect, too, such as `https://app.example.com`, `http://localhost:5173` or
    /// capacitor://localhost; may be repeated. Pages of the same host and port always may
    #[arg(long, value_name = "URL")]
    pub(super) origin: Vec<AllowedOrigin>,
    /// Let pages of this machine connect, whatever their port: those of localhost, 127.0.0.1 and `[::1]`
    #[arg(long)]
    pub(super) dev: bool,
    /// Offer permessage-deflate to clients that ask for it
    #[arg(long)]
    pub(super) deflate: bool,
    /// Messages a second that one connection of /chat may send, and twice as many at once; more is refused
    /// with `rate_limited` [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate_limit: Option<u32>,
    /// Worker threads, each with a runtime and a shard of its own [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) shards: Option<u16>,
    /// Address for Prometheus to read `/metrics` at, or `off`; beyond this machine only with a token in the
    /// environment variable HAUYNA_METRICS_TOKEN [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR", value_parser = metrics::metrics_address)]
    pub(super) metrics: Option<MetricsAddress>,
    /// After SIGTERM, SIGINT, SIGQUIT or SIGHUP: close the connections evenly over so long, such as 500ms,
    /// 30s or 2m, and exit with 0 at most 5 s later; a second signal exits at once, with 128 and its number
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = drain_window)]
    pub(super) drain: Duration,
    /// What to log: error, warn, info, debug, trace, or a filter such as `hauyna::connection=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(super) log: String,
}

impl Default for Options {
    fn default() -> Self {
        Self::parse_from(["hauyna"])
    }
}

/// Parses `host:port` and looks up names such as `localhost`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
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

/// Returns the origins whose pages may connect.
pub(super) fn origins(options: &Options) -> Origins {
    let local = options.dev.then_some(LOCAL).into_iter().flatten();
    let local = local.map(|text| text.parse().expect("invariant: LOCAL holds only origins"));
    let listed: Vec<AllowedOrigin> = options.origin.iter().cloned().chain(local).collect();
    if listed.is_empty() { Origins::SameOrigin } else { Origins::Listed(listed) }
}

const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
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
