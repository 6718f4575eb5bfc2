//! The metrics for Prometheus: stable names and labels, and correct counts.

use crate::support::{open_hub, subscriber, user_handler, wait_until_empty};
use hauyna::{ChannelOptions, Hub, json, metrics};
use hauyna_test::TestServer;

/// Returns the value of a metric with its labels.
fn value(page: &str, metric: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric} in {page}")).parse().expect("a number")
}

#[test]
fn metric_names_types_and_labels_stay_the_same() {
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
    let page = metrics::text(&hub);
    let types: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected = [
        "hauyna_connections gauge",
        "hauyna_route_connections gauge",
        "hauyna_sessions gauge",
        "hauyna_sessions_resumed counter",
        "hauyna_sessions_ended counter",
        "hauyna_sessions_evicted counter",
        "hauyna_connections_opened counter",
        "hauyna_connections_closed counter",
        "hauyna_handshakes_refused counter",
        "hauyna_handshake_seconds histogram",
        "hauyna_accept_errors counter",
        "hauyna_control_errors counter",
        "hauyna_received_bytes counter",
        "hauyna_sent_bytes counter",
        "hauyna_messages_received counter",
        "hauyna_messages_published counter",
        "hauyna_messages_delivered counter",
        "hauyna_events_dropped counter",
        "hauyna_messages_dropped counter",
        "hauyna_client_events counter",
        "hauyna_client_events_dropped counter",
        "hauyna_errors counter",
        "hauyna_callback_panics counter",
        "hauyna_memory_bytes gauge",
        "hauyna_channels gauge",
        "hauyna_subscriptions gauge",
        "hauyna_broker_up gauge",
    ];
    assert_eq!(types, expected);
    let guide = include_str!("../../../../docs/operations.md");
    for (name, kind) in expected.map(|line| line.split_once(' ').unwrap()) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        assert!(guide.contains(&format!("`{name}{suffix}`")), "{name} is not in docs/operations.md");
    }
    assert_eq!(page.matches("# HELP hauyna_").count(), expected.len());
    assert!(page.ends_with("# EOF\n"));
    let mut labels: Vec<&str> = page
        .lines()
        .filter_map(|line| line.split_once('{')?.1.split_once('=').map(|(label, _)| label))
        .collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels, ["error_type", "le", "part", "pattern", "reason", "state"]);
}

#[tokio::test]
async fn metrics_count_what_happens_by_route_pattern_reason_and_error() {
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
    let server = TestServer::route(hub.clone(), |router| router.websocket("/live/{zone}", user_handler()));
    let mut client = server.connect("/live/1?user=ann").await;
    for room in ["room:1", "room:2"] {
        client.request(json!({ "type": "subscribe_channel", "channel": room })).await.unwrap();
    }
    client.request(json!({ "type": "subscribe_channel", "channel": "closed" })).await.unwrap_err();
    hub.channel("room:1").broadcast(1).await.unwrap();
    client.expect("message").await;
    let page = metrics::text(&hub);
    for (metric, expected) in [
        ("hauyna_connections{state=\"connected\"}", 1.0),
        ("hauyna_connections{state=\"idle\"}", 0.0),
        ("hauyna_route_connections{route=\"/live/{zone}\"}", 1.0),
        ("hauyna_connections_opened_total", 1.0),
        ("hauyna_handshake_seconds_count", 1.0),
        ("hauyna_handshake_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("hauyna_messages_received_total", 3.0),
        ("hauyna_messages_published_total", 1.0),
        ("hauyna_messages_delivered_total", 1.0),
        ("hauyna_errors_total{error_type=\"permission_denied\"}", 1.0),
        ("hauyna_errors_total{error_type=\"parse_error\"}", 0.0),
        ("hauyna_channels{pattern=\"room:{id}\"}", 2.0),
        ("hauyna_channels{pattern=\"(none)\"}", 0.0),
        ("hauyna_subscriptions{pattern=\"room:{id}\"}", 2.0),
        ("hauyna_broker_up", 1.0),
    ] {
        assert_eq!(value(&page, metric), expected, "{metric}");
    }
    assert!(value(&page, "hauyna_handshake_seconds_sum") < 10.0);
    assert!(
        value(&page, "hauyna_received_bytes_total") > 0.0 && value(&page, "hauyna_sent_bytes_total") > 0.0
    );
    client.close(1000, "").await;
    wait_until_empty(&hub).await;
    let page = metrics::text(&hub);
    assert_eq!(value(&page, "hauyna_connections_closed_total{reason=\"client\"}"), 1.0);
    assert_eq!(value(&page, "hauyna_route_connections{route=\"/live/{zone}\"}"), 0.0);
    assert_eq!(value(&page, "hauyna_channels{pattern=\"room:{id}\"}"), 0.0);
    assert_eq!(value(&page, "hauyna_subscriptions{pattern=\"room:{id}\"}"), 0.0);
}

#[test]
fn patterns_with_quotes_are_escaped() {
    let odd = "say \"hi\" \\ {id}";
    let page = metrics::text(&Hub::builder().channels(odd, ChannelOptions::new()).build());
    assert_eq!(page.matches(r#"hauyna_channels{pattern="say \"hi\" \\ {id}"} 0"#).count(), 1, "{page}");
}

#[tokio::test]
async fn application_registry_collects_metrics_without_keeping_the_hub() {
    let mut registry = prometheus_client::registry::Registry::default();
    let own: prometheus_client::metrics::counter::Counter = Default::default();
    registry.register("orders", "Orders placed", own.clone());
    own.inc();
    let hub = open_hub().build();
    metrics::register(&hub, &mut registry);
    let page = |registry| {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, registry).unwrap();
        page
    };
    let server = TestServer::start(hub.clone(), user_handler());
    let client = subscriber(&server, "ann", "news").await;
    assert_eq!(value(&page(&registry), "orders_total"), 1.0);
    assert_eq!(value(&page(&registry), "hauyna_connections{state=\"connected\"}"), 1.0);
    client.close(1000, "").await;
    wait_until_empty(&hub).await;
    server.stop().await;
    drop(hub);
    assert!(page(&registry).contains("orders_total 1"));
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn metrics_service_answers_only_get_and_mounts_in_axum() {
    use axum::http::{Method, Request, StatusCode};
    use tower_service::Service;

    let hub = Hub::new();
    let mut application: axum::Router = axum::Router::new().route_service("/metrics", metrics::service(&hub));
    for (method, status) in [(Method::GET, StatusCode::OK), (Method::POST, StatusCode::METHOD_NOT_ALLOWED)] {
        let request =
            Request::builder().method(method).uri("/metrics").body(axum::body::Body::empty()).unwrap();
        let response = application.call(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], metrics::CONTENT_TYPE);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert_eq!(body.starts_with(b"# HELP hauyna_"), status == StatusCode::OK);
    }
}
