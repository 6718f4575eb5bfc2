//! Rows 49 and 50 of `SECURITY.md`: wrong, slow or panicking code of the application affects only the
//! connection for which it was called.

use crate::support::{
    Random, hide_expected_panics, subscriber, user_handler, wait_for_connections, wait_until_empty,
};
use hauyna::broker::Answer;
use hauyna::channel::AccessRequest;
use hauyna::events::SystemKind;
use hauyna::validate::Invalid;
use hauyna::{ChannelOptions, Context, Handler, Hub, Presence, Reject, json};
use hauyna_test::{Client, TestServer, WrappedBroker};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A gate at which the callbacks of users whose names start with `slow` wait.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    async fn pass(&self, user: &str) {
        if user.starts_with("slow") {
            drop(self.0.acquire().await);
        }
    }
}

fn gated(gate: &Gate) -> Handler {
    let (message, subscribing, publishing, refreshing) =
        (gate.clone(), gate.clone(), gate.clone(), gate.clone());
    user_handler()
        .on("work", move |cx: Context, _: Value| {
            let gate = message.clone();
            async move {
                gate.pass(cx.user()).await;
                Ok(())
            }
        })
        .authorize_subscribe(move |cx, _| {
            let gate = subscribing.clone();
            async move {
                gate.pass(cx.user()).await;
                Ok(())
            }
        })
        .authorize_publish(move |cx, _| {
            let gate = publishing.clone();
            async move {
                gate.pass(cx.user()).await;
                Ok(())
            }
        })
        .on_refresh(move |cx: Context, _: String| {
            let gate = refreshing.clone();
            async move {
                gate.pass(cx.user()).await;
                Ok::<_, Reject>(hauyna::Identity::anonymous())
            }
        })
}

/// Returns the 99th percentile of the round trips.
async fn p99(client: &mut Client) -> Duration {
    let mut all = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        assert!(client.request(json!({ "type": "work" })).await.is_ok());
        all.push(began.elapsed());
    }
    all.sort();
    all[all.len() * 99 / 100]
}

#[tokio::test]
async fn row_49_waiting_callbacks_delay_only_their_connection_and_answers_keep_order() {
    let gate = Gate(Arc::new(Semaphore::new(0)));
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).shards(1).build();
    let server = TestServer::start(hub.clone(), gated(&gate));
    let mut swift = subscriber(&server, "swift", "x").await;
    let before = p99(&mut swift).await;
    let kinds = [
        json!({ "type": "work" }),
        json!({ "type": "subscribe_channel", "channel": "x" }),
        json!({ "type": "channel_message", "channel": "y", "content": 1 }),
        json!({ "type": "refresh", "token": "t" }),
    ];
    let mut stuck = Vec::new();
    for (number, kind) in (0..40).zip(kinds.iter().cycle()) {
        let mut client = server.connect(&format!("/?user=slow{number}")).await;
        let later = [json!({ "type": "ping" }), kind.clone(), json!({ "type": "presence", "channel": "x" })];
        for (id, request) in [kind.clone()].into_iter().chain(later).enumerate() {
            let mut request = request;
            request["id"] = json!(id);
            client.send(request).await;
        }
        stuck.push(client);
    }
    let during = p99(&mut swift).await;
    assert!(
        during < 10 * before + Duration::from_millis(50),
        "{during:?} with waiting callbacks, {before:?} before"
    );
    hub.channel("x").broadcast("now").await.unwrap();
    assert_eq!(swift.expect("message").await["content"], "now");
    gate.0.add_permits(1000);
    for client in &mut stuck {
        for id in 0..4 {
            let answer = loop {
                let message = client.next().await;
                if message.get("id").is_some() {
                    break message;
                }
            };
            assert_eq!(answer["id"], id, "{answer}");
        }
    }
    drop((stuck, swift));
    wait_until_empty(&hub).await;
}

/// A type whose decoding panics.
struct Bad;

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("in decode")
    }
}

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in encode")
    }
}

/// Returns a local broker that panics where the name of a channel says so, at once or later.
fn panicking_broker() -> WrappedBroker {
    fn panic_in<T: Send + 'static>(
        method: &str,
        channel: &str,
        ask: impl FnOnce() -> Answer<T>,
    ) -> Answer<T> {
        assert!(channel != format!("{method} now"), "in {method}, at once");
        let (is_later, answer) = (channel == format!("{method} later"), ask());
        if !is_later {
            return answer;
        }
        Answer::later(async move {
            tokio::task::yield_now().await;
            panic!("in the broker, later")
        })
    }
    WrappedBroker::default()
        .on_publish(|local, publish| {
            let channel = publish.draft.channel().clone();
            panic_in("publish", channel.as_str(), || local.publish(publish))
        })
        .on_subscribe(|local, channel| panic_in("subscribe", channel.as_str(), || local.subscribe(channel)))
        .on_unsubscribe(|local, channel| {
            local.unsubscribe(channel);
            assert!(channel.as_str() != "unsubscribe now", "in unsubscribe");
        })
        .on_history(|local, channel, range| {
            panic_in("history", channel.as_str(), || local.history(channel, range))
        })
        .on_relay(|relay, publication| {
            // A broker's receiving task may panic like this.
            relay.relay(publication);
            assert!(publication.channel().as_str() != "receive now", "in receive");
        })
}

fn panicking() -> Handler {
    user_handler()
        .on("decode", async |_: Context, _: Bad| Ok(()))
        .on("encode", async |_: Context, _: Value| Ok(Bad))
        .on("track", async |cx: Context, _: Value| cx.presence().track(Bad).await)
        .on("publish", async |cx: Context, _: Value| cx.channel("x").broadcast(Bad).await.map(|_| ()))
        .on("checked", async |_: Context, _: Value| Ok(()))
        .validate("checked", |_: &str, _: &Value| -> Result<(), Invalid> { panic!("in a validator") })
        .authorize_publish(async |_, request: AccessRequest| {
            assert!(request.name() != "forbidding", "in authorize_publish");
            Ok(())
        })
}

#[tokio::test]
async fn row_50_panics_in_callbacks_and_broker_affect_nobody_else() {
    hide_expected_panics();
    let options = ChannelOptions::new().history(100, Duration::from_secs(60)).presence(Presence::each());
    let hub = Hub::builder()
        .sessions(hauyna::SessionOptions::none())
        .broker(panicking_broker())
        .presence_grace(Duration::ZERO);
    let hub = hub
        .channels(
            "checked",
            options.clone().validate(|_: &str, _: &Value| -> Result<(), Invalid> { panic!("in a rule") }),
        )
        .channels("{*any}", options)
        .build();
    hub.events().on_system(SystemKind::all(), |_, _| -> std::future::Ready<hauyna::Result> {
        panic!("in a listener")
    });
    let server = TestServer::start(hub.clone(), panicking());
    let (mut ann, mut ben) = (subscriber(&server, "ann", "x").await, subscriber(&server, "ben", "x").await);
    let mut random = Random(50);
    let channels = [
        "publish now",
        "publish later",
        "subscribe now",
        "subscribe later",
        "unsubscribe now",
        "history now",
        "history later",
        "receive now",
        "checked",
        "forbidding",
    ];
    for round in 0..300_u64 {
        let mut client = server.connect(&format!("/?user=u{round}")).await;
        let channel = channels[random.below(channels.len() as u64) as usize];
        let kind = ["decode", "encode", "track", "publish", "checked"][random.below(5) as usize];
        let requests = [
            json!({ "type": "subscribe_channel", "id": 1, "channel": channel }),
            json!({ "type": "subscribe_channel", "id": 2, "channel": "x" }),
            json!({ "type": "channel_message", "id": 3, "channel": channel, "content": 1 }),
            json!({ "type": kind, "id": 4 }),
            json!({ "type": "unsubscribe_channel", "id": 5, "channel": channel }),
        ];
        for request in requests {
            client.send(request).await;
        }
        if random.below(2) == 0 {
            client.send_close(1000, "").await;
        }
        if round % 10 == 0 {
            ann.request(json!({ "type": "channel_message", "channel": "x", "content": round }))
                .await
                .unwrap();
            while ben.wait_for("message").await["content"] != round {}
        }
    }
    wait_for_connections(&hub, 2).await;
    assert!(hub.stats().panics > 300, "{}", hub.stats().panics);
    assert_eq!((hub.stats().channels, hub.stats().subscriptions), (1, 2));
    assert_eq!(hub.channel("x").presence().await.len(), 2);
    drop((ann, ben));
    wait_until_empty(&hub).await;
    let mut after = server.connect("/?user=after").await;
    for channel in ["x", "unsubscribe now", "receive now"] {
        after.subscribe(channel).await;
    }
}
