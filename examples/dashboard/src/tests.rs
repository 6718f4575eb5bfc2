//! The dashboard over real sockets: it publishes the hub's counts.

use super::{handler, hub, measure};
use hauyna::json;
use hauyna_test::TestServer;
use std::time::Duration;

#[tokio::test]
async fn every_page_gets_the_counts_and_noise_is_counted_for_each_of_them() {
    let server = TestServer::start(hub(), handler());
    let (mut ann, mut bob) = (server.json("/").await, server.json("/").await);
    bob.expect("session").await;
    ann.request(json!({ "type": "noise", "messages": 50 })).await.unwrap();
    let measuring = tokio::spawn(measure(server.hub().clone(), Duration::from_millis(5)));
    loop {
        let counted = bob.wait_for("stats").await;
        let stats = &counted["stats"];
        assert_eq!((&stats["connections"], &stats["states"]["connected"]), (&json!(2), &json!(2)));
        assert!(counted["memory"].as_u64().unwrap() > 0);
        if stats["delivered"].as_u64().unwrap() >= 100 {
            break; // fifty messages for each of two pages
        }
    }
    measuring.abort();
    let metrics = hauyna::metrics::text(server.hub());
    assert!(metrics.contains("hauyna_connections{state=\"connected\"} 2"), "{metrics}");
}

#[tokio::test]
async fn too_much_noise_is_refused() {
    let server = TestServer::start(hub(), handler());
    let mut ann = server.json("/").await;
    let refused = ann.request(json!({ "type": "noise", "messages": 1001 })).await.unwrap_err();
    assert_eq!(refused["error_type"], "validation_error");
    assert_eq!(server.hub().stats().published, 0);
}
