//! Streams whose epoch changes under live subscribers: each subscriber learns, in the order of the channel's
//! messages, whether something is missing.

use crate::support::{eventually, open_hub, user_handler};
use hauyna::broker::{
    Answer, Broker, BrokerError, Continuity, Epoch, HistoryPage, LocalBroker, Publish, Published, Relay,
    Repeat,
};
use hauyna::channel::Publication;
use hauyna::{ChannelName, ChannelOptions, HistoryRange, Hub, Position, SlowConsumer, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// A broker that may lose its memory. It keeps the position of one stream and no history.
#[derive(Debug, Clone)]
struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: LocalBroker,
    relay: OnceLock<Relay>,
    top: Mutex<Position>,
    /// Histories are read at once, and answered when the gate opens.
    gate: watch::Sender<Gate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Shut,
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number)
}

fn at(number: u64, offset: u64) -> Position {
    Position { epoch: epoch(number), offset }
}

impl Engine {
    fn new() -> Self {
        let (local, gate) = (LocalBroker::default(), watch::Sender::new(Gate::Open));
        Self(Arc::new(Inner { local, relay: OnceLock::new(), top: at(1, 0).into(), gate }))
    }

    /// Sets the position before the next publication, without reporting it.
    fn go_to(&self, position: Position) {
        *self.0.top.lock().unwrap() = position;
    }

    /// Sets the position as [`Engine::go_to`] does, and reports it.
    fn turn(&self, position: Position, continuity: Continuity) {
        let mut top = self.0.top.lock().unwrap();
        *top = position;
        self.0.relay.get().unwrap().turned(&name("x"), position, continuity);
    }
}

impl Broker for Engine {
    fn start(&self, relay: Relay) {
        self.0.relay.set(relay.clone()).unwrap();
        self.0.local.start(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<hauyna::Result<Published, BrokerError>> {
        if publish.retention.is_none() {
            return self.0.local.publish(publish);
        }
        let mut top = self.0.top.lock().unwrap();
        top.offset += 1;
        self.0.relay.get().unwrap().relay(&Arc::new(publish.draft.publication(Some(*top))));
        Answer::now(Ok(Published { position: Some(*top), repeat: Repeat::No }))
    }

    fn subscribe(&self, _: &ChannelName) -> Answer<hauyna::Result<(), BrokerError>> {
        Answer::now(Ok(()))
    }

    fn unsubscribe(&self, _: &ChannelName) {}

    fn history(
        &self,
        _: &ChannelName,
        range: HistoryRange,
    ) -> Answer<hauyna::Result<HistoryPage, BrokerError>> {
        let top = *self.0.top.lock().unwrap();
        let continuity = match range.since {
            Some(since) if since != top => Continuity::EpochChanged,
            _ => Continuity::Whole,
        };
        let page =
            HistoryPage { top, oldest: top.offset.saturating_add(1), publications: Vec::new(), continuity };
        let mut gate = self.0.gate.subscribe();
        Answer::later(async move {
            gate.wait_for(|gate| *gate == Gate::Open).await.unwrap();
            Ok(page)
        })
    }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

/// A hub with an [`Engine`], and one client of each encoding that is subscribed to `x`.
struct Scene {
    engine: Engine,
    hub: Hub,
    server: TestServer,
    clients: Vec<Client>,
}

impl Scene {
    async fn new() -> Self {
        let engine = Engine::new();
        let hub = open_hub().broker(engine.clone()).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let mut clients = vec![server.json("/").await, server.message_pack("/").await];
        for client in &mut clients {
            client.expect("session").await;
            client.subscribe("x").await;
        }
        Self { engine, hub, server, clients }
    }

    async fn publish(&self, content: u32) {
        self.hub.channel("x").broadcast(content).await.unwrap();
    }

    /// Checks that every client gets this content next, at this offset.
    async fn expect(&mut self, content: u32, offset: u64) {
        for client in &mut self.clients {
            let message = client.expect("message").await;
            assert_eq!((&message["content"], &message["offset"]), (&json!(content), &json!(offset)));
        }
    }

    /// Checks that every client learns next that the stream continues after this position.
    async fn expect_turn(&mut self, to: Position, reason: Option<&str>) {
        for client in &mut self.clients {
            assert_eq!(client.expect("subscribed").await, turn_message(to, reason));
        }
    }
}

fn turn_message(to: Position, reason: Option<&str>) -> Value {
    let mut turn_message = json!({
        "type": "subscribed", "channel": "x", "recoverable": true, "recovered": reason.is_none(),
        "epoch": to.epoch.to_string(), "offset": to.offset,
    });
    if let Some(reason) = reason {
        turn_message["reason"] = json!(reason);
    }
    turn_message
}

#[tokio::test]
async fn restarted_stream_is_reported_as_lost_before_its_first_message() {
    let mut scene = Scene::new().await;
    let mut plain = scene.server.connect("/").await;
    plain.subscribe("x").await;
    for content in 1..=3 {
        scene.publish(content).await;
    }
    scene.engine.go_to(at(2, 0));
    scene.publish(4).await;
    scene.publish(5).await;
    for content in 1..=3 {
        scene.expect(content, content.into()).await;
    }
    scene.expect_turn(at(2, 0), Some("epoch_changed")).await;
    scene.expect(4, 1).await;
    scene.expect(5, 2).await;
    for offset in [1, 2, 3, 1, 2] {
        assert_eq!(plain.expect("message").await["offset"], offset, "a plain client gets nothing else");
    }
}

#[tokio::test]
async fn numbering_continued_under_another_epoch_is_reported_as_whole() {
    let mut scene = Scene::new().await;
    scene.publish(1).await;
    scene.engine.go_to(at(2, 1));
    scene.publish(2).await;
    scene.expect(1, 1).await;
    scene.expect_turn(at(2, 1), None).await;
    scene.expect(2, 2).await;
}

#[tokio::test]
async fn epoch_change_before_the_first_publication_is_not_whole() {
    let mut scene = Scene::new().await;
    scene.engine.go_to(at(2, 0));
    scene.publish(1).await;
    scene.expect_turn(at(2, 0), Some("epoch_changed")).await;
    scene.expect(1, 1).await;
}

#[tokio::test]
async fn gap_in_the_numbering_is_reported() {
    let mut scene = Scene::new().await;
    scene.publish(1).await;
    scene.engine.go_to(at(1, 7));
    scene.publish(2).await;
    scene.expect(1, 1).await;
    scene.expect_turn(at(1, 7), Some("too_old")).await;
    scene.expect(2, 8).await;
}

#[tokio::test]
async fn subscribers_learn_what_the_broker_reports_about_a_turn() {
    let mut scene = Scene::new().await;
    scene.publish(1).await;
    scene.expect(1, 1).await;
    scene.engine.turn(at(2, 1), Continuity::Whole);
    scene.expect_turn(at(2, 1), None).await;
    scene.engine.turn(at(2, 1), Continuity::Whole);
    scene.publish(2).await;
    scene.expect(2, 2).await;
    scene.engine.turn(at(2, 9), Continuity::TooOld);
    scene.expect_turn(at(2, 9), Some("too_old")).await;
    scene.publish(3).await;
    scene.expect(3, 10).await;
    // A broker cannot have relayed everything up to an offset that it has not relayed.
    scene.engine.turn(at(3, 0), Continuity::Whole);
    scene.expect_turn(at(3, 0), Some("epoch_changed")).await;
    scene.publish(4).await;
    scene.expect(4, 1).await;
    scene.engine.turn(at(4, u64::MAX), Continuity::EpochChanged);
    scene.expect_turn(at(4, u64::MAX), Some("epoch_changed")).await;
}

#[tokio::test]
async fn subscriber_under_a_new_epoch_learns_it_once_with_the_others() {
    let mut scene = Scene::new().await;
    scene.publish(1).await;
    scene.expect(1, 1).await;
    scene.engine.go_to(at(2, 0));
    let mut late = scene.server.json("/").await;
    late.expect("session").await;
    assert_eq!(late.subscribe("x").await["epoch"], epoch(2).to_string());
    scene.expect_turn(at(2, 0), Some("epoch_changed")).await;
    scene.publish(2).await;
    scene.expect(2, 1).await;
    assert_eq!(late.expect("message").await["offset"], 1);
}

#[tokio::test]
async fn subscriber_waiting_for_history_misses_no_epoch_change() {
    let mut scene = Scene::new().await;
    scene.publish(1).await;
    scene.expect(1, 1).await;
    let (mut back, mut fresh) = (scene.server.json("/").await, scene.server.json("/").await);
    for client in [&mut back, &mut fresh] {
        client.expect("session").await;
    }
    scene.engine.0.gate.send_replace(Gate::Shut);
    let position = json!({ "epoch": epoch(1).to_string(), "offset": 1 });
    let request = |id: u32, recover: Option<&Value>| json!({ "type": "subscribe_channel", "id": id, "channel": "x", "recover": recover });
    back.send(request(1, Some(&position))).await;
    fresh.send(request(1, None)).await;
    eventually("both subscriptions wait", || scene.engine.0.gate.receiver_count() == 2).await;
    scene.publish(2).await;
    scene.engine.go_to(at(2, 0));
    scene.publish(3).await;
    scene.engine.0.gate.send_replace(Gate::Open);
    for (client, reason) in [(&mut back, json!("epoch_changed")), (&mut fresh, Value::Null)] {
        let answer = client.expect("ack").await["data"].clone();
        assert_eq!(answer["epoch"], epoch(2).to_string(), "{answer}");
        assert_eq!((&answer["offset"], &answer["reason"]), (&json!(1), &reason));
    }
    scene.publish(4).await;
    for client in [&mut back, &mut fresh] {
        let message = client.expect("message").await;
        assert_eq!((&message["content"], &message["offset"]), (&json!(4), &json!(2)));
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn ended_subscription_gets_no_epoch_change() {
    let mut scene = Scene::new().await;
    scene.publish(1).await;
    scene.expect(1, 1).await;
    for client in &mut scene.clients {
        client.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
    }
    scene.engine.turn(at(2, 0), Continuity::EpochChanged);
    for client in &mut scene.clients {
        client.expect_nothing().await;
        assert_eq!(client.subscribe("x").await["epoch"], epoch(2).to_string());
        client.expect_nothing().await;
    }
}

/// Publishes under two epochs to a client that does not read, then lets it read. Returns all its messages.
async fn read_late(policy: SlowConsumer) -> Vec<Value> {
    let engine = Engine::new();
    let channels = ChannelOptions::new().slow_consumer(policy);
    let hub =
        Hub::builder().channels("{*any}", channels).outbox(64 * 1024, 64).broker(engine.clone()).build();
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(600)));
    let mut slow = server.client("/").json().receive_buffer(4096).connect().await;
    slow.expect("session").await;
    slow.subscribe("x").await;
    let padding = "x".repeat(16 * 1024);
    for turn in 1..=3 {
        engine.go_to(at(turn, 0));
        let before = hub.stats().dropped;
        let mut published = 0;
        while published < 100 || hub.stats().dropped < before + 50 {
            hub.channel("x").broadcast(&padding).await.unwrap();
            tokio::task::yield_now().await;
            published += 1;
            assert!(published < 10_000, "nothing was dropped");
        }
    }
    // Silence for this long means the end: the next publication would arrive at once.
    let mut seen = Vec::new();
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(2), slow.next()).await {
        seen.push(message);
    }
    assert_eq!(hub.stats().slow_consumers, 0);
    seen
}

/// Processes the messages as a client does: every missing publication must be reported.
fn follow(seen: &[Value]) {
    let (mut epochs, mut last) = (vec![epoch(1).to_string()], 0);
    for message in seen {
        let offset = message["offset"].as_u64().unwrap();
        match message["type"].as_str().unwrap() {
            "subscribed" => {
                assert_eq!((&message["recovered"], offset), (&json!(false), 0));
                epochs.push(message["epoch"].as_str().unwrap().to_owned());
                last = 0;
            }
            "gap" => {
                assert_eq!(
                    message["epoch"],
                    *epochs.last().unwrap(),
                    "a gap has the epoch that was reported last"
                );
                assert!(offset >= last, "{offset} after {last}");
                last = offset + message["missed"].as_u64().unwrap();
            }
            "message" => {
                assert_eq!(offset, last + 1, "every missing publication is reported");
                last = offset;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(epochs, [1, 2, 3].map(|number| epoch(number).to_string()));
}

#[tokio::test]
async fn slow_consumer_misses_no_epoch_change() {
    for policy in [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Conflate] {
        follow(&read_late(policy).await);
    }
}

/// A broker that keeps its history, and continues under another epoch if the test sets one.
#[derive(Debug, Clone)]
struct Durable(Arc<Mutex<Position>>, Arc<Mutex<Vec<Arc<Publication>>>>, Arc<OnceLock<Relay>>);

impl Durable {
    fn new() -> Self {
        Self(Arc::new(at(1, 0).into()), Arc::default(), Arc::default())
    }

    fn set_epoch(&self, number: u64) {
        self.0.lock().unwrap().epoch = epoch(number);
    }
}

impl Broker for Durable {
    fn start(&self, relay: Relay) {
        self.2.set(relay).unwrap();
    }

    fn publish(&self, publish: Publish) -> Answer<hauyna::Result<Published, BrokerError>> {
        let mut top = self.0.lock().unwrap();
        top.offset += 1;
        let publication = Arc::new(publish.draft.publication(Some(*top)));
        self.1.lock().unwrap().push(publication.clone());
        self.2.get().unwrap().relay(&publication);
        Answer::now(Ok(Published { position: Some(*top), repeat: Repeat::No }))
    }

    fn subscribe(&self, _: &ChannelName) -> Answer<hauyna::Result<(), BrokerError>> {
        Answer::now(Ok(()))
    }

    fn unsubscribe(&self, _: &ChannelName) {}

    fn history(
        &self,
        _: &ChannelName,
        range: HistoryRange,
    ) -> Answer<hauyna::Result<HistoryPage, BrokerError>> {
        let top = *self.0.lock().unwrap();
        let after = range.since.map_or(0, |since| usize::try_from(since.offset).unwrap());
        let kept = self.1.lock().unwrap();
        let publications = kept.iter().skip(after).take(range.limit as usize).cloned().collect();
        Answer::now(Ok(HistoryPage { top, oldest: 1, publications, continuity: Continuity::Whole }))
    }
}

#[tokio::test]
async fn recovery_across_epochs_with_continued_numbering_misses_nothing() {
    let engine = Durable::new();
    let hub = open_hub().broker(engine.clone()).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let publish = async |numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            hub.channel("x").broadcast(json!({ "n": number, "padding": "x".repeat(6000) })).await.unwrap();
        }
    };
    let position = json!({ "epoch": epoch(1).to_string(), "offset": 0 });
    publish(1..=600).await;
    engine.set_epoch(2);
    publish(601..=1000).await;
    let mut client = server.client("/?user=late").receive_buffer(4096).json().connect().await;
    client.expect("session").await;
    let answer = client.recover("x", &position).await;
    assert_eq!((&answer["recovered"], &answer["epoch"]), (&json!(true), &json!(epoch(2).to_string())));
    // The epoch changes again while the first pages are sent.
    engine.set_epoch(3);
    publish(1001..=1010).await;
    let (mut last, mut turns) = (0, Vec::new());
    while last < 1010 {
        let message = client.next().await;
        if message["type"] == "subscribed" {
            assert_eq!(
                (&message["recovered"], &message["offset"]),
                (&json!(true), &json!(last)),
                "{message}"
            );
            turns.push(message["epoch"].clone());
            continue;
        }
        assert_eq!(message["offset"], last + 1);
        last += 1;
    }
    assert_eq!(turns, [json!(epoch(3).to_string())]);
    assert_eq!(server.json("/?user=new").await.recover("x", &answer).await["recovered"], true);
}
