//! Sessions on a real server: clients resume them after cuts, and others see no one leave.

use crate::support::{client, content, named, next, quick};
use hauyna::{ChannelOptions, Hub, Presence, SlowConsumer};
use hauyna_client::protocol::PresenceKind;
use hauyna_client::{Client, Publication, Stream, StreamError};
use hauyna_test::{Behaviour, Cut, Direction, FaultProxy, TestServer};
use std::time::Duration;

fn server() -> TestServer {
    let room = ChannelOptions::new()
        .history(1_000, Duration::from_secs(600))
        .presence(Presence::each())
        .announce_subscribers();
    let hub = Hub::builder()
        .channels("room:{id}", room)
        .channels("live:{id}", ChannelOptions::new().no_history())
        .retry_policy(quick());
    TestServer::start(hub.build(), named())
}

async fn resumed(client: &Client, before: &str) {
    while client.session().is_none_or(|session| session.connection_id == before) {
        tokio::task::yield_now().await;
    }
    assert!(client.session().unwrap().resumed);
}

#[tokio::test]
async fn a_cut_socket_resumes_without_a_leave() {
    let server = server();
    let proxy = FaultProxy::start(server.address()).await;
    let (ana, bob) = (client(&server.url("/?user=ana")), client(&proxy.url("/?user=bob")));
    let (at_ana, at_bob) = (ana.channel::<u32>("room:1"), bob.channel::<u32>("room:1"));
    let (mut seen, mut updates) = (at_ana.subscribers(), at_ana.presence_updates());
    at_ana.subscribe().await.unwrap().keep();
    at_bob.subscribe().await.unwrap().keep();
    let mut messages = at_bob.messages();
    for _ in 0..3 {
        let before = bob.session().unwrap().connection_id;
        proxy.cut_all(Cut::Reset);
        at_ana.publish(&1).await.unwrap();
        assert_eq!(content(&mut messages).await, 1, "without a gap");
        resumed(&bob, &before).await;
    }
    bob.close().await;
    loop {
        let update = next(&mut updates).await.unwrap();
        if update.kind == PresenceKind::Leave {
            break assert_eq!(update.user, "bob", "who has closed, and only then");
        }
    }
    let mut events = Vec::new();
    while events.last().is_none_or(|event| event != "subscription_removed") {
        events.push(next(&mut seen).await.unwrap().event);
    }
    let reconnected = events.iter().filter(|event| *event == "subscription_reconnected").count();
    assert_eq!(reconnected, 3, "{events:?}");
}

#[tokio::test]
async fn a_resumed_session_reports_gaps_in_channels_without_history() {
    let server = server();
    let proxy = FaultProxy::start(server.address()).await;
    let bob = client(&proxy.url("/?user=bob"));
    let live = bob.channel::<u32>("live:1");
    let mut messages = live.messages();
    live.subscribe().await.unwrap().keep();
    let before = bob.session().unwrap().connection_id;
    proxy.cut_all(Cut::Fin);
    assert!(matches!(next(&mut messages).await, Err(StreamError::Gap(_))));
    resumed(&bob, &before).await;
    server.hub().channel("live:1").broadcast(7).await.unwrap();
    assert_eq!(content(&mut messages).await, 7);
}

#[tokio::test]
async fn server_subscriptions_survive_a_resume() {
    let server = server();
    let proxy = FaultProxy::start(server.address()).await;
    let bob = client(&proxy.url("/?user=bob"));
    let room = bob.channel::<u32>("room:9");
    let mut messages = room.messages();
    let session = bob.connected().await.unwrap();
    for connection in server.hub().connections().all() {
        server.hub().channel("room:9").subscribe(&connection, ()).await.unwrap();
    }
    server.hub().channel("room:9").broadcast(1).await.unwrap();
    assert_eq!(content(&mut messages).await, 1);
    proxy.cut_all(Cut::Reset);
    server.hub().channel("room:9").broadcast(2).await.unwrap();
    assert_eq!(content(&mut messages).await, 2);
    resumed(&bob, &session.connection_id).await;
}

/// Returns a client that reads `room:1`, its stream, and the id of its connection.
async fn reader(proxy: &FaultProxy) -> (Client, Stream<Publication<(u32, String)>>, String) {
    let client = Client::builder(&proxy.url("/?user=ana")).stream_buffer(100_000, 1 << 30).connect().unwrap();
    let room = client.channel("room:1");
    let messages = room.messages();
    room.subscribe().await.unwrap().keep();
    let connection = client.session().unwrap().connection_id;
    (client, messages, connection)
}

/// Publishes more than the sockets can buffer while the proxy forwards nothing to the client, so that the
/// outbox of the server overflows.
async fn flood(
    server: &TestServer,
    (proxy, channel): (&FaultProxy, &str),
    is_over: impl Fn(&hauyna::inspect::Stats) -> bool,
) -> u32 {
    proxy.set_all(Behaviour::new().stall(Direction::Down));
    let text = "x".repeat(32 * 1024);
    let mut count = 0;
    while !is_over(&server.hub().stats()) {
        assert!(count < 4_000, "the sockets hold everything");
        server.hub().channel(channel).broadcast((count, &text)).await.unwrap();
        count += 1;
        tokio::task::yield_now().await;
    }
    proxy.set_all(Behaviour::new());
    count
}

#[tokio::test]
async fn a_slow_consumer_reconnects_and_receives_everything_once() {
    let hub = Hub::builder()
        .channels("room:{id}", ChannelOptions::new().history(10_000, Duration::from_secs(600)))
        .recovery_limit(10_000)
        .retry_policy(quick());
    let server = TestServer::start(hub.build(), named());
    let proxy = FaultProxy::start(server.address()).await;
    let (client, mut messages, before) = reader(&proxy).await;
    let count = flood(&server, (&proxy, "room:1"), |stats| stats.slow_consumers > 0).await;
    for number in 0..count {
        assert_eq!(content(&mut messages).await.0, number);
    }
    resumed(&client, &before).await;
}

#[tokio::test]
async fn dropped_messages_are_fetched_from_history() {
    let room = ChannelOptions::new()
        .history(10_000, Duration::from_secs(600))
        .slow_consumer(SlowConsumer::DropOldest);
    let server = TestServer::start(Hub::builder().channels("room:{id}", room).build(), named());
    let proxy = FaultProxy::start(server.address()).await;
    let (client, mut messages, before) = reader(&proxy).await;
    let count = flood(&server, (&proxy, "room:1"), |stats| stats.dropped > 10).await;
    for number in 0..count {
        assert_eq!(content(&mut messages).await.0, number);
    }
    assert_eq!(client.session().unwrap().connection_id, before, "nobody was closed for it");
}
