//! What operators see: counts, the memory estimate, snapshots of one user, channel or connection, metrics, log.

use crate::support::{eventually, named, open_hub, subscriber};
use hauyna::{Handler, Hub, json};
use hauyna_test::TestServer;

#[tokio::test]
async fn stats_count_messages_and_bytes_of_both_directions() {
    let server = TestServer::start(Hub::new(), Handler::echo());
    let mut client = server.connect("/").await;
    for _ in 0..3 {
        client.send_text(&"x".repeat(100)).await;
        assert_eq!(client.next_text().await.len(), 100);
    }
    let stats = server.hub().stats();
    assert_eq!(stats.requests, 3);
    assert_eq!(stats.bytes_received, 3 * (2 + 4 + 100), "header, mask, payload");
    assert_eq!(stats.bytes_sent, 3 * (2 + 100));
}

#[tokio::test]
async fn bytes_that_came_with_the_handshake_are_counted_too() {
    let server = TestServer::start(open_hub().build(), named());
    let ping = json!({ "type": "ping", "id": 1 });
    let mut client = server.client("/").first(&ping).connect().await;
    let pong = client.expect("pong").await;
    let stats = server.hub().stats();
    assert_eq!(stats.bytes_received as usize, 6 + ping.to_string().len());
    assert_eq!(stats.bytes_sent as usize, 2 + pong.to_string().len());
}

#[tokio::test]
async fn a_delivery_counts_once_for_each_receiver() {
    let server = TestServer::start(open_hub().build(), named());
    let hub = server.hub();
    let mut clients = Vec::new();
    for user in ["a", "b", "b"] {
        clients.push(subscriber(&server, user, "news").await);
    }
    hub.channel("news").broadcast(1).await.unwrap();
    hub.user("a").send(2).await.unwrap();
    hub.user("b").send(3).await.unwrap();
    hub.connections().broadcast(4).await.unwrap();
    for client in &mut clients {
        // Channels have no order among each other.
        let mut kinds = [client.next().await, client.next().await, client.next().await];
        kinds.sort_by_key(|message| message["type"].to_string());
        assert_eq!(kinds.map(|message| message["type"].clone()), ["broadcast", "message", "private"]);
    }
    eventually("all of it is counted", || hub.stats().delivered == 3 + 1 + 2 + 3).await;
    assert_eq!(hub.stats().published, 4);
}

#[tokio::test]
async fn histories_and_full_outboxes_are_in_the_memory_estimate() {
    let server = TestServer::start(open_hub().outbox(4 << 20, 100_000).build(), named());
    let hub = server.hub();
    let before = hub.stats().memory;
    let _lazy = server.client("/?user=lazy").receive_buffer(4096).json().connect().await;
    eventually("it is there", || hub.stats().connections == 1).await;
    let connection = hub.connections().of_user("lazy").remove(0);
    hub.channel("news").subscribe(&connection, ()).await.unwrap();
    let memory = hub.stats().memory;
    assert!(memory.connections > before.connections && memory.channels > before.channels);
    let content = "x".repeat(32 * 1024);
    while connection.backlog() < 1 << 20 {
        hub.channel("news").broadcast(&content).await.unwrap();
        tokio::task::yield_now().await;
    }
    let published = hub.stats().published as usize;
    let memory = hub.stats().memory;
    assert!(memory.history > published * content.len(), "{memory:?} after {published}");
    eventually("the shard has looked", || hub.stats().memory.outboxes >= 1 << 20).await;
    assert!(hub.stats().memory.total() > (1 << 20) + published * content.len());
}
