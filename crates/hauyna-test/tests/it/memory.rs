//! Servers in memory with a paused clock: minutes of silence, grace times and timeouts pass in no time.

use hauyna::{ChannelOptions, Handler, Heartbeat, Hub, Presence, json};
use hauyna_test::{Frame, MemoryServer, advance, settle};
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rooms() -> Hub {
    let channels = ChannelOptions::new().presence(Presence::each()).history(100, seconds(600));
    Hub::builder().channels("room:{id}", channels).presence_grace(seconds(30)).build()
}

fn user_handler() -> Handler {
    let heartbeat = Heartbeat::every(seconds(20)).timeout(seconds(10));
    Handler::new().identify(|request| Ok(request.query("user"))).heartbeat(heartbeat)
}

#[tokio::test(start_paused = true)]
async fn silent_user_goes_offline_and_one_that_answers_pings_does_not() {
    let server = MemoryServer::start(rooms(), user_handler());
    let _mute = server.connect("/?user=mute").await;
    let mut alive = server.message_pack("/?user=alive").await;
    alive.expect("session").await;
    settle().await;
    assert!(server.hub().user("mute").is_connected().await);
    alive.expect_silence(seconds(60)).await;
    assert!(!server.hub().user("mute").is_connected().await);
    assert!(server.hub().user("alive").is_connected().await);
    // A client that is not read answers no pings either.
    advance(seconds(60)).await;
    assert_eq!(server.hub().stats().connections, 0);
    assert_eq!(server.hub().stats().heartbeat_timeouts, 2);
}

#[tokio::test(start_paused = true)]
async fn leave_is_sent_only_after_the_grace_time() {
    let server = MemoryServer::start(rooms(), user_handler().no_heartbeat());
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("room:1").await;
    ann.expect("presence_state").await;
    let mut bob = server.connect("/?user=bob").await;
    let position = bob.subscribe("room:1").await;
    ann.expect_presence("join", "bob").await;
    bob.vanish();
    ann.expect_silence(seconds(29)).await;
    let mut bob = server.connect("/?user=bob").await;
    bob.recover("room:1", &position).await;
    bob.expect("presence_state").await;
    ann.expect_silence(seconds(300)).await;
    bob.vanish();
    let lost_at = tokio::time::Instant::now();
    ann.expect_silence(seconds(29)).await;
    ann.expect_presence("leave", "bob").await;
    assert!((30..=31).contains(&lost_at.elapsed().as_secs()), "{:?}", lost_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn missed_publications_are_replayed_in_order() {
    let server = MemoryServer::route(rooms(), |router| router.websocket("/live/{id}", user_handler()));
    let mut reader = server.json("/live/7?user=ann").await;
    reader.expect("session").await;
    let position = reader.subscribe("room:1").await;
    reader.vanish();
    for number in 0..40 {
        server.hub().channel("room:1").broadcast(number).await.unwrap();
    }
    let mut reader = server.json("/live/7?user=ann").await;
    reader.expect("session").await;
    assert_eq!(reader.recover("room:1", &position).await["recovered"], true);
    reader.expect("presence_state").await;
    assert_eq!(reader.expect_in_order("room:1", 40).await, (0..40).collect::<Vec<_>>());
    let refused = server.client("/nowhere").try_connect().await.unwrap_err();
    assert_eq!(refused.status.as_u16(), 404);
    reader.close(1000, "").await;
}

#[tokio::test(start_paused = true)]
async fn short_pipe_makes_its_client_a_slow_consumer() {
    let hub = Hub::builder().channels("x", ChannelOptions::new()).outbox(4096, 100).build();
    let server = MemoryServer::start(hub, user_handler());
    let mut slow = server.client("/?user=slow").receive_buffer(256).connect().await;
    slow.subscribe("x").await;
    for _ in 0..10 {
        server.hub().channel("x").broadcast(json!("x".repeat(1000))).await.unwrap();
    }
    settle().await; // the client has not read in the meantime
    assert_eq!(slow.expect_close().await.0, 3008);
}

#[tokio::test(start_paused = true)]
async fn dropped_server_closes_its_clients() {
    let server = MemoryServer::start(rooms(), user_handler());
    let mut client = server.connect("/?user=ann").await;
    settle().await;
    drop(server);
    assert!(matches!(client.next_frame().await, Frame::Close(Some((1001, _)))));
}
