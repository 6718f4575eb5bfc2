//! Clients that recover a stream whose epoch changes: nothing is missing if the numbering continued, and no
//! message follows the end of the subscription.

use crate::support::user_handler;
use crate::turning::{Engine, Latency, Turning};
use hauyna::{ChannelOptions, Hub, SessionOptions, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

struct Scene {
    engine: Engine,
    hub: Hub,
    server: TestServer,
    /// The position before the first publication.
    start: Value,
}

impl Scene {
    async fn new() -> Self {
        let engine = Engine::new(Latency::AtOnce);
        let channels = ChannelOptions::new().history(100_000, Duration::from_secs(600));
        let hub = Hub::builder()
            .sessions(SessionOptions::none())
            .channels("x", channels)
            .recovery_limit(10_000)
            .broker(engine.clone())
            .build();
        let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(600)));
        let start = server.json("/").await.subscribe("x").await;
        Self { engine, hub, server, start }
    }

    async fn publish(&self, count: u64, padding: usize) {
        for _ in 0..count {
            self.hub.channel("x").broadcast("x".repeat(padding)).await.unwrap();
        }
    }

    async fn client(&self) -> Client {
        let mut client = self.server.client("/").json().receive_buffer(4096).connect().await;
        client.expect("session").await;
        client
    }

    /// Returns a client with a replay that is longer than its socket accepts.
    async fn replaying(&self) -> Client {
        self.publish(400, 16 * 1024).await;
        let mut client = self.client().await;
        assert_eq!(client.recover("x", &self.start).await["recovered"], true);
        client
    }
}

#[tokio::test]
async fn earlier_epoch_position_is_recovered_if_the_numbering_continued() {
    let scene = Scene::new().await;
    scene.publish(100, 1).await;
    let top = scene.engine.turn("x", Turning::Whole);
    scene.publish(1, 1).await;
    let mut client = scene.client().await;
    let answer = client.recover("x", &scene.start).await;
    assert_eq!((&answer["recovered"], &answer["offset"]), (&json!(true), &json!(101)));
    assert_eq!(answer["epoch"], top.epoch.to_string());
    client.expect_in_order("x", 101).await;
    scene.publish(1, 1).await;
    assert_eq!(client.expect_message("x").await["offset"], 102);
}

#[tokio::test]
async fn replay_continues_if_the_numbering_continues() {
    let scene = Scene::new().await;
    let mut client = scene.replaying().await;
    let top = scene.engine.turn("x", Turning::Whole);
    scene.publish(1, 1).await;
    let (mut offset, mut turns) = (0, 0);
    while offset < 401 {
        let message = client.next().await;
        if message["type"] == "subscribed" {
            assert_eq!((&message["recovered"], &message["offset"]), (&json!(true), &json!(offset)));
            assert_eq!(message["epoch"], top.epoch.to_string());
            turns += 1;
        } else {
            offset += 1;
            assert_eq!(message["offset"], offset);
        }
    }
    assert_eq!(turns, 1);
    client.expect_nothing().await;
}

#[tokio::test]
async fn replay_overtaken_by_two_epoch_changes_ends() {
    let scene = Scene::new().await;
    let mut client = scene.replaying().await;
    scene.engine.turn("x", Turning::Lost(0));
    scene.publish(1, 1).await;
    let top = scene.engine.turn("x", Turning::Lost(0));
    scene.engine.announce("x", Turning::Lost(0));
    let subscribed = client.wait_for("subscribed").await;
    assert_eq!((&subscribed["epoch"], &subscribed["offset"]), (&json!(top.epoch.to_string()), &json!(0)));
    client.expect_nothing().await;
    let histories = scene.engine.histories();
    client.expect_nothing().await;
    assert_eq!(scene.engine.histories(), histories, "the client never reaches the end");
    scene.publish(1, 1).await;
    assert_eq!(client.expect_message("x").await["offset"], 1);
}

#[tokio::test]
async fn no_epoch_change_is_sent_after_the_end_of_a_subscription() {
    let scene = Scene::new().await;
    let mut client = scene.replaying().await;
    scene.engine.turn("x", Turning::Lost(0));
    scene.publish(1, 1).await;
    let connection = scene.hub.connections().all().remove(0);
    client.send(json!({ "type": "unsubscribe_channel", "id": "end", "channel": "x" })).await;
    while scene.hub.channel("x").is_subscribed(&connection) {
        client.next().await;
    }
    while client.next().await["id"] != "end" {}
    client.expect_nothing().await;
}
