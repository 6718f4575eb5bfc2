//! Metrics for Prometheus: the counters of a hub in the text format of OpenMetrics.
//!
//! [`register`] adds them to a registry that the application has, [`service`] is a tower service for
//! `/metrics`, and [`text`] is just the text. Serve them on a private listener. The guide, with a table of
//! all metrics, is [operations](crate::guide::operations).
//
// A hub's counters in the text format of OpenMetrics, which Prometheus reads. Labels come only from the
// configuration (route, channel pattern) or from fixed tables (reason, error type), never from a channel, a
// user or an address, so the number of lines is fixed when the hub is built. Only reads counters; the
// application calls it.

use crate::close::CloseReason;
use crate::counters::Durations;
use crate::hub::{Hub, HubCore, Stats};
use crate::router::Body;
use bytes::Bytes;
use hauyna_protocol::ErrorType;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE as CONTENT_TYPE_HEADER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tower_service::Service;

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Adds a hub's metrics to a registry of the application, beside its own. All names begin with `hauyna_`.
///
/// The registry does not keep the hub alive; once the hub is gone, its metrics are no longer written.
///
/// # Examples
///
/// ```
/// use prometheus_client::registry::Registry;
///
/// let (hub, mut registry) = (hauyna::Hub::new(), Registry::default());
/// hauyna::metrics::register(&hub, &mut registry);
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
/// assert!(text.contains("# TYPE hauyna_sent_bytes counter"));
/// ```
pub fn register(hub: &Hub, registry: &mut Registry) {
    registry.register_collector(Box::new(HubMetrics(Arc::downgrade(&hub.0))));
}

/// Returns a hub's metrics as text of the type [`CONTENT_TYPE`].
///
/// # Panics
///
/// Never: writing to a `String` does not fail.
pub fn text(hub: &Hub) -> String {
    let mut registry = Registry::default();
    register(hub, &mut registry);
    let mut text = String::with_capacity(8 * 1024);
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("invariant: writing to a string does not fail");
    text
}

/// Returns a tower service that answers every GET with the metrics of a hub.
///
/// Mount it where strangers cannot reach it: the numbers reveal much about an application.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "axum")] {
/// let hub = hauyna::Hub::new();
/// let private: axum::Router =
///     axum::Router::new().route_service("/metrics", hauyna::metrics::service(&hub));
/// # }
/// ```
pub fn service(hub: &Hub) -> MetricsService {
    MetricsService(hub.clone())
}

/// A tower service that answers with the metrics of a hub; [`service`] creates it.
#[derive(Debug, Clone)]
pub struct MetricsService(Hub);

impl<B> Service<Request<B>> for MetricsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let body = if is_read { text(&self.0) } else { String::new() };
        let mut response =
            Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if !is_read {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
        ready(Ok(response))
    }
}

#[derive(Debug)]
struct HubMetrics(Weak<HubCore>);

impl Collector for HubMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(core) = self.0.upgrade() else { return Ok(()) };
        let stats = Hub(core.clone()).stats();
        let mut page = Page(encoder);
        connections(&core, &stats, &mut page)?;
        messages(&core, &stats, &mut page)?;
        channels(&core, &mut page)
    }
}

fn connections(core: &HubCore, stats: &Stats, page: &mut Page<'_>) -> fmt::Result {
    let states = stats.states.iter().map(|(state, count)| (state.name().to_owned(), count as u64)).collect();
    page.gauges("hauyna_connections", "Live connections, by their state", "state", &states)?;
    let mut routes = Tally::new();
    for endpoint in core.routes.lock().iter().filter_map(Weak::upgrade) {
        *routes.entry(endpoint.route.clone()).or_default() += endpoint.connections.value();
    }
    page.gauges(
        "hauyna_route_connections",
        "Live connections, by the pattern of their route",
        "route",
        &routes,
    )?;
    page.gauge("hauyna_sessions", "Sessions of lost connections that wait", stats.sessions as u64)?;
    page.counter("hauyna_sessions_resumed", "Clients that came back with their session", stats.resumed)?;
    page.counter("hauyna_sessions_ended", "Sessions whose clients did not come back", stats.sessions_ended)?;
    page.counter(
        "hauyna_sessions_evicted",
        "Sessions that ended early to make room",
        stats.sessions_evicted,
    )?;
    page.counter("hauyna_connections_opened", "Connections opened", stats.opened)?;
    let reasons = CloseReason::NAMES.iter().zip(&core.metrics.closed);
    let reasons = reasons.map(|(name, count)| ((*name).to_owned(), count.value())).collect();
    page.counters("hauyna_connections_closed", "Connections that ended, by the reason", "reason", &reasons)?;
    page.counter("hauyna_handshakes_refused", "Upgrades refused", stats.handshakes_refused)?;
    page.histogram(
        "hauyna_handshake_seconds",
        "Time from a connection, or its request, to the upgrade; the application's decision included",
        &core.metrics.handshakes,
    )?;
    page.counter("hauyna_accept_errors", "Times that accepting a connection failed", stats.accept_errors)?;
    page.counter("hauyna_control_errors", "Messages of other nodes not understood", stats.control_errors)
}

fn messages(core: &HubCore, stats: &Stats, page: &mut Page<'_>) -> fmt::Result {
    page.counter("hauyna_received_bytes", "Bytes of frames received", stats.bytes_received)?;
    page.counter("hauyna_sent_bytes", "Bytes of frames sent", stats.bytes_sent)?;
    page.counter("hauyna_messages_received", "Messages received from clients", stats.requests)?;
    page.counter("hauyna_messages_published", "Publications handed to the broker", stats.published)?;
    page.counter("hauyna_messages_delivered", "Messages given to receivers", stats.delivered)?;
    page.counter("hauyna_events_dropped", "System events that no listener was told", stats.events_dropped)?;
    page.counter("hauyna_messages_dropped", "Publications dropped for slow consumers", stats.dropped)?;
    page.counter("hauyna_client_events", "Client events admitted", stats.client_events)?;
    page.counter(
        "hauyna_client_events_dropped",
        "Client events not written to one of their receivers",
        stats.client_events_dropped,
    )?;
    let types = ErrorType::ALL.iter().zip(&core.metrics.refused);
    let types = types.map(|(kind, count)| (kind.as_str().to_owned(), count.value())).collect();
    page.counters("hauyna_errors", "Requests answered with an error, by its type", "error_type", &types)?;
    page.counter("hauyna_callback_panics", "Panics of the application's callbacks", stats.panics)?;
    let parts = [
        ("connections", stats.memory.connections),
        ("sessions", stats.memory.sessions),
        ("channels", stats.memory.channels),
        ("history", stats.memory.history),
        ("outboxes", stats.memory.outboxes),
    ];
    let parts = parts.map(|(part, bytes)| (part.to_owned(), bytes as u64)).into();
    page.gauges("hauyna_memory_bytes", "Estimate of the memory taken, by what takes it", "part", &parts)
}

fn channels(core: &HubCore, page: &mut Page<'_>) -> fmt::Result {
    let (mut channels, mut subscriptions) = (Tally::new(), Tally::new());
    for usage in core.declarations.usages() {
        let pattern = usage.pattern.as_deref().unwrap_or(NO_PATTERN);
        *channels.entry(pattern.to_owned()).or_default() += usage.channels.value();
        *subscriptions.entry(pattern.to_owned()).or_default() += usage.subscriptions.value();
    }
    page.gauges(
        "hauyna_channels",
        "Channels with subscribers, by the pattern they are declared with",
        "pattern",
        &channels,
    )?;
    page.gauges(
        "hauyna_subscriptions",
        "Subscriptions, by the pattern of their channel",
        "pattern",
        &subscriptions,
    )?;
    page.gauge("hauyna_broker_up", "Whether the broker can publish", u64::from(core.broker.is_ready()))
}

/// Values by label, each label once.
type Tally = BTreeMap<String, u64>;

/// The page that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&signed(value))
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &Tally) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (label_value, value) in values {
            metric.encode_family(&[(label, &*escaped(label_value))])?.encode_gauge(&signed(*value))?;
        }
        Ok(())
    }

    /// Writes a counter, whose name gets the suffix `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &Tally) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (label_value, value) in values {
            let labels = [(label, &*escaped(label_value))];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        let (sum, buckets) = durations.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Escapes a label's value for the format, because the encoder does not.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}

/// The label of channels that match no declared pattern.
const NO_PATTERN: &str = "(none)";
