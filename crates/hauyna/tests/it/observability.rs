//! What operators see: counts, the memory estimate, and snapshots of one user, channel or connection.

use crate::support::{eventually, open_hub, subscriber, user_handler, wait_for_connections};
use hauyna::{ChannelOptions, Context, Handler, Hub, SlowConsumer, json};
use hauyna_test::TestServer;
use std::time::Duration;

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
    // Bytes count once the kernel has them, which may be after the client has them.
    eventually("sent bytes are counted", || server.hub().stats().bytes_sent == 3 * (2 + 100)).await;
}

#[tokio::test]
async fn bytes_received_with_the_handshake_are_counted() {
    let server = TestServer::start(open_hub().build(), user_handler());
    let ping = json!({ "type": "ping", "id": 1 });
    let mut client = server.client("/").first(&ping).connect().await;
    let pong = client.expect("pong").await;
    let stats = server.hub().stats();
    assert_eq!(stats.bytes_received as usize, 6 + ping.to_string().len());
    let sent = 2 + pong.to_string().len();
    eventually("sent bytes are counted", || server.hub().stats().bytes_sent as usize == sent).await;
}

#[tokio::test]
async fn delivery_counts_once_per_receiver() {
    let server = TestServer::start(open_hub().build(), user_handler());
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
        // Different channels have no common order.
        let mut kinds = [client.next().await, client.next().await, client.next().await];
        kinds.sort_by_key(|message| message["type"].to_string());
        assert_eq!(kinds.map(|message| message["type"].clone()), ["broadcast", "message", "private"]);
    }
    eventually("all deliveries are counted", || hub.stats().delivered == 3 + 1 + 2 + 3).await;
    assert_eq!(hub.stats().published, 4);
}

#[tokio::test]
async fn histories_and_full_outboxes_are_in_the_memory_estimate() {
    let server = TestServer::start(open_hub().outbox(4 << 20, 100_000).build(), user_handler());
    let hub = server.hub();
    let before = hub.stats().memory;
    let _lazy = server.client("/?user=lazy").receive_buffer(4096).json().connect().await;
    wait_for_connections(hub, 1).await;
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
    eventually("the shard has processed the message", || hub.stats().memory.outboxes >= 1 << 20).await;
    assert!(hub.stats().memory.total() > (1 << 20) + published * content.len());
}

#[tokio::test]
async fn connection_snapshot_has_identity_and_counters() {
    let server =
        TestServer::route(open_hub().build(), |router| router.websocket("/live/{room}", user_handler()));
    let hub = server.hub();
    let mut client = server.client("/live/7?user=ann&token=secret").message_pack().connect().await;
    client.expect("session").await;
    client.subscribe("news").await;
    let id = hub.connections().of_user("ann")[0].id();
    let seen = hub.inspect().connection(id).unwrap();
    assert_eq!((seen.id, &*seen.user, &*seen.route), (id, "ann", "/live/{room}"));
    assert_eq!(seen.peer, client.local_address());
    assert_eq!((seen.encoding, seen.deflated, seen.open), ("hauyna.v1.msgpack", false, true));
    assert_eq!((seen.channels, seen.channel_count, seen.backlog), (vec!["news".to_owned()], 1, 0));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    assert!((now - 60_000..=now).contains(&seen.opened_at), "{} at {now}", seen.opened_at);
    let text = serde_json::to_string(&hub.inspect().connection(id)).unwrap();
    assert!(text.contains(&id.to_string()) && !text.contains("secret"), "{text}");
    client.close(1000, "").await;
    eventually("the connection has closed", || hub.inspect().connection(id).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn connection_snapshot_has_the_time_of_silence() {
    let server = TestServer::start(Hub::new(), user_handler().no_heartbeat());
    let mut client = server.client("/?user=ann").json().timeout(Duration::from_secs(3600)).connect().await;
    client.expect("session").await;
    let silent = || server.hub().inspect().user("ann").connections[0].silent_for;
    assert!(silent() < 2000);
    hauyna_test::advance(Duration::from_secs(90)).await;
    assert!((88_000..=91_000).contains(&silent()), "{}", silent());
    client.request(json!({ "type": "ping" })).await.unwrap();
    assert!(silent() < 2000, "{}", silent());
}

#[tokio::test]
async fn user_snapshot_has_all_connections_in_pages() {
    let server = TestServer::start(open_hub().build(), user_handler().on_open(present));
    let hub = server.hub();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.connect("/?user=ann").await);
    }
    wait_for_connections(hub, 5).await;
    hub.groups().add("ann", "admins").await.unwrap();
    let seen = hub.inspect().user("ann");
    assert_eq!((seen.connections.len(), seen.connection_count), (5, 5));
    assert_eq!(seen.presence.unwrap().status, hauyna::presence::Status::Online);
    assert_eq!((seen.groups, seen.group_count), (vec!["admins".to_owned()], 1));
    let first = hub.inspect().limit(3).user("ann");
    let rest = hub.inspect().limit(3).after(first.connections[2].id).user("ann");
    let ids: Vec<_> = first.connections.iter().chain(&rest.connections).map(|seen| seen.id).collect();
    assert_eq!(ids, seen.connections.iter().map(|seen| seen.id).collect::<Vec<_>>());
    let nobody = hub.inspect().user("nobody");
    assert!(nobody.connections.is_empty() && nobody.presence.is_none());
}

async fn present(cx: Context) -> hauyna::Result {
    cx.presence().track(json!({ "status": "online" })).await
}

#[tokio::test]
async fn channel_snapshot_has_options_top_and_subscribers_in_pages() {
    let room =
        ChannelOptions::new().history(3, Duration::from_secs(60)).slow_consumer(SlowConsumer::Conflate);
    let hub = Hub::builder()
        .channels("room:{id}", room)
        .channels("lobby", ChannelOptions::new().no_history())
        .build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut clients = Vec::new();
    for number in 0..25 {
        clients.push(subscriber(&server, &format!("u{number}"), "room:7").await);
    }
    for number in 0..5 {
        hub.channel("room:7").broadcast(number).await.unwrap();
    }
    let seen = hub.inspect().channel("room:7").await.unwrap();
    assert_eq!((seen.pattern.as_deref(), seen.subscriber_count, seen.next), (Some("room:{id}"), 25, None));
    let options = &seen.options;
    assert_eq!((options.history, options.history_age, options.access), (3, 60_000, "open"));
    assert_eq!((options.publishers, options.slow_consumer), ("subscribers", "conflate"));
    assert_eq!((seen.position.unwrap().offset, seen.history), (5, 3));
    let (mut users, mut page) = (Vec::new(), hub.inspect().limit(10).channel("room:7").await.unwrap());
    loop {
        users.extend(page.subscribers.iter().map(|subscriber| subscriber.user.to_string()));
        let Some(next) = page.next else { break };
        assert_eq!(page.subscribers.len(), 10);
        page = hub.inspect().limit(10).after(next).channel("room:7").await.unwrap();
    }
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 25);
    let lobby = hub.inspect().channel("lobby").await.unwrap();
    assert!(lobby.position.is_none() && lobby.subscribers.is_empty() && lobby.present == 0);
    assert_eq!(hub.inspect().channel("other").await.unwrap().options.access, "undeclared");
    assert!(hub.inspect().channel("a\nb").await.is_err());
}
