//! `/metrics` on a listener of its own: on loopback by default, and on other addresses only with a token. The
//! public listener never serves it. The control thread runs it.

use anyhow::{Context as _, bail};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hauyna::Hub;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// The value of `--metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsAddress {
    Off,
    At(SocketAddr),
}

/// A bound listener and the token that requests need.
#[derive(Debug)]
pub(super) struct Metrics {
    listener: TcpListener,
    pub(super) address: SocketAddr,
    token: Option<Arc<str>>,
}

pub(super) fn metrics_address(text: &str) -> Result<MetricsAddress, String> {
    if text == "off" {
        Ok(MetricsAddress::Off)
    } else {
        super::options::address(text).map(MetricsAddress::At)
    }
}

impl Metrics {
    /// Binds the listener. If the default port is in use, it only logs a warning, as nobody asked for that
    /// port.
    pub(super) fn bind(
        requested: Option<MetricsAddress>,
        token: Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let token = token.filter(|token| !token.is_empty()).map(Arc::from);
        let address = match requested {
            Some(MetricsAddress::Off) => return Ok(None),
            Some(MetricsAddress::At(address)) => address,
            None => DEFAULT,
        };
        if !address.ip().is_loopback() && token.is_none() {
            bail!("metrics at {address} are open to other machines: set {TOKEN}, or use a loopback address");
        }
        match TcpListener::bind(address) {
            Ok(listener) => Ok(Some(Self { address: listener.local_addr()?, listener, token })),
            Err(error) if requested.is_none() => {
                tracing::warn!(target: "hauyna::server", %address, %error, "metrics are not served: choose another address with --metrics");
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("cannot listen on {address} for metrics")),
        }
    }

    /// Serves until the hub is shut down, with the same deadlines as the public listener.
    pub(super) async fn serve(self, hub: Hub) -> hauyna::Result {
        let server = hauyna::Router::new(hub.clone()).fallback(router(hub, self.token)).into_server();
        server.serve_listener(self.listener).await
    }
}

fn router(hub: Hub, token: Option<Arc<str>>) -> Router {
    let answer = move |headers: HeaderMap| {
        let is_known = token.as_deref().is_none_or(|token| is_bearer(&headers, token));
        let hub = hub.clone();
        async move { if is_known { page(&hub) } else { refusal() } }
    };
    Router::new().route("/metrics", get(answer))
}

fn page(hub: &Hub) -> Response {
    let headers = [
        (header::CONTENT_TYPE, hauyna::metrics::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, hauyna::metrics::text(hub)).into_response()
}

fn refusal() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "unauthorized\n").into_response()
}

fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    given.strip_prefix(b"Bearer ").is_some_and(|given| is_same(given, token.as_bytes()))
}

/// Compares in a time that does not depend on where the two differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differing = given.iter().zip(token).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
    given.len() == token.len() && differing == 0
}

/// Name of the environment variable with the token. It is no argument, because every user of the machine can
/// see arguments.
pub(super) const TOKEN: &str = "HAUYNA_METRICS_TOKEN";
/// Default address; OpenTelemetry's exporters for Prometheus use the same port.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_as_a_whole() {
        assert!(is_same(b"secret", b"secret"));
        for wrong in ["", "secre", "secrets", "Secret", "secreT"] {
            assert!(!is_same(wrong.as_bytes(), b"secret"), "{wrong}");
        }
    }

    #[test]
    fn other_machines_need_a_token() {
        let everywhere = Some(MetricsAddress::At("0.0.0.0:0".parse().unwrap()));
        assert!(Metrics::bind(everywhere, None).is_err());
        assert!(Metrics::bind(everywhere, Some(String::new())).is_err());
        assert!(Metrics::bind(everywhere, Some("secret".to_owned())).unwrap().is_some());
    }
}
