//! Rows 35 and 57 to 59 of `SECURITY.md`: concurrent steps in random order, on one thread with a test clock.
//! `HAUYNA_SEED` (a number) selects the schedules; `HAUYNA_SCHEDULES` multiplies their number.

use crate::support::{Random, open_hub, registered, user_handler, wait_until_empty};
use crate::unreliable_broker::{Network, UnreliableBroker, turns};
use hauyna::auth::Revocation;
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::handler::SharedHandler;
use hauyna::{ChannelOptions, CloseCode, Hub, Presence, Reject, json};
use hauyna_test::Client;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn seed() -> u64 {
    let seed = std::env::var("HAUYNA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("HAUYNA_SEED={seed}");
    seed
}

fn schedules(count: u64) -> u64 {
    let times = std::env::var("HAUYNA_SCHEDULES").ok().and_then(|times| times.parse().ok());
    count * times.unwrap_or(1)
}

/// Advances the test clock.
async fn advance_clock(ms: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(ms), std::future::pending::<()>()).await;
}

/// The state of subscriptions according to listeners.
#[derive(Debug, Default)]
struct Balance {
    live: HashSet<(String, String)>,
    closed: HashSet<String>,
    faults: Vec<String>,
}

impl Balance {
    fn of(hub: &Hub) -> Arc<Mutex<Self>> {
        let balance = Arc::new(Mutex::new(Self::default()));
        let own = balance.clone();
        let kinds = [SystemKind::Subscribed, SystemKind::Unsubscribed, SystemKind::Closed];
        hub.events().on_system(kinds, move |_, event| {
            own.lock().unwrap().note(&event);
            std::future::ready(Ok(()))
        });
        balance
    }

    fn note(&mut self, event: &SystemEvent) {
        let id = event.connection().map(|connection| connection.id().to_string()).unwrap_or_default();
        let is_right = match event {
            SystemEvent::Subscribed { channel, .. } => {
                !self.closed.contains(&id) && self.live.insert((id, channel.to_string()))
            }
            SystemEvent::Unsubscribed { channel, .. } => self.live.remove(&(id, channel.to_string())),
            _ => !self.live.iter().any(|(live, _)| *live == id) && self.closed.insert(id),
        };
        if !is_right {
            self.faults.push(format!("{event:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_35_waiting_joins_that_race_with_leaves_and_disconnects_leave_nothing() {
    const AT_ONCE: u64 = 200;
    let (seed, rounds) = (seed(), schedules(20_000));
    let delays = Arc::new(Mutex::new(Random(seed)));
    let handler = user_handler().authorize_subscribe(move |_, request| {
        let delay = delays.lock().unwrap().below(51);
        async move {
            advance_clock(delay).await;
            if request.name().starts_with('d') { Err(Reject::denied("no")) } else { Ok(()) }
        }
    });
    let handler = handler.share();
    let options = ChannelOptions::new().announce_subscribers().presence(Presence::each());
    let hub = Hub::builder()
        .channels("{*any}", options)
        .broker(UnreliableBroker::new(seed, Network::Slow).broker())
        .build();
    let balance = Balance::of(&hub);
    for batch in 0..rounds / AT_ONCE {
        let racing = (0..AT_ONCE).map(|number| {
            let (hub, handler) = (hub.clone(), handler.clone());
            tokio::spawn(race(hub, handler, Random(seed ^ (batch * AT_ONCE + number) << 8)))
        });
        for one in racing.collect::<Vec<_>>() {
            one.await.unwrap();
        }
    }
    wait_until_empty(&hub).await;
    hub.shutdown(Duration::from_secs(60)).await.unwrap(); // waits for all listeners
    assert_eq!(hub.presence().stats().await.users, 0);
    let balance = balance.lock().unwrap();
    assert!(balance.faults.is_empty(), "{:?}", balance.faults.first());
    assert!(balance.live.is_empty() && balance.closed.len() as u64 == rounds);
    let stats = hub.stats();
    assert_eq!((stats.opened, stats.panics, stats.events_dropped), (rounds, 0, 0));
}

/// Subscribes, unsubscribes and disconnects one connection, each at a random time.
async fn race(hub: Hub, handler: SharedHandler, mut random: Random) {
    let user = format!("u{}", random.below(1000));
    let (mut client, connection) = registered(&hub, &user, &handler).await;
    for _ in 0..random.below(5) {
        let name = format!("{}{}", ["a", "b", "d"][random.below(3) as usize], random.below(3));
        let kind =
            ["subscribe_channel", "subscribe_channel", "unsubscribe_channel"][random.below(3) as usize];
        client.send(json!({ "type": kind, "channel": name })).await;
        if random.below(3) == 0 {
            advance_clock(random.below(60)).await;
        }
    }
    let (channel, own, delay) = (hub.channel("a0"), connection.clone(), random.below(60));
    let joining = tokio::spawn(async move {
        advance_clock(delay).await;
        drop(channel.subscribe(&own, ()).await); // by the application, which does not know that the client disconnects
    });
    advance_clock(random.below(60)).await;
    match random.below(5) {
        0 => client.vanish(),
        1 => client.send_close(1000, "").await,
        2 => connection.close(CloseCode(4000), ""),
        3 => {
            connection.channels().iter().for_each(|name| drop(hub.channel(name).unsubscribe(&connection)));
        }
        _ => drop(hub.revoke(Revocation::user(user)).await),
    }
    joining.await.unwrap();
}

/// A client that repeatedly subscribes to one channel, and its received messages.
struct Follower {
    client: Client,
    /// The position of the last message.
    position: Option<Value>,
}

impl Follower {
    /// Sends a request and reads up to its answer; messages before it must continue the channel.
    async fn ask(&mut self, request: Value) -> Value {
        self.client.send(request.clone()).await;
        loop {
            let message = self.client.next().await;
            if message["type"] != "message" {
                assert_eq!((&message["type"], &message["id"]), (&json!("ack"), &request["id"]), "{message}");
                return message["data"].clone();
            }
            self.take(&message);
        }
    }

    fn take(&mut self, message: &Value) {
        let position =
            self.position.as_mut().unwrap_or_else(|| panic!("message without subscription: {message}"));
        let next = position["offset"].as_u64().unwrap() + 1;
        assert_eq!(message["offset"], next, "missing, repeated or out of order before {message}");
        assert_eq!(message["content"], next, "offsets follow the order of publishing");
        position["offset"] = json!(next);
    }

    /// Subscribes, reads some messages and unsubscribes.
    async fn subscribe_for_a_while(&mut self, random: &mut Random, recovers: bool) {
        let recover = self.position.take().filter(|_| recovers);
        let mut request = json!({ "type": "subscribe_channel", "id": 1, "channel": "x" });
        if let Some(position) = &recover {
            request["recover"] = json!({ "epoch": position["epoch"], "offset": position["offset"] });
        }
        let answer = self.ask(request).await; // without a position, a message before the answer is a fault
        self.position = Some(match recover {
            Some(position) => {
                assert_eq!(answer["recovered"], true, "{answer}");
                position
            }
            None => answer,
        });
        for _ in 0..random.below(4) {
            let message = self.client.next().await;
            self.take(&message);
        }
        self.ask(json!({ "type": "unsubscribe_channel", "id": 2, "channel": "x" })).await;
        turns(random.below(16)).await;
    }
}

/// Runs four clients that subscribe and unsubscribe, `stays` times in total, under continuous publishing.
async fn run_followers(subscriptions: u64, recovers: impl Fn(&mut Random) -> bool + Copy + Send + 'static) {
    const FOLLOWERS: u64 = 4;
    let seed = seed();
    let hub = open_hub().broker(UnreliableBroker::new(seed, Network::Slow).broker()).shards(2).build();
    let handler = user_handler().share();
    let publishing = hub.clone();
    let publisher = tokio::spawn(async move {
        let mut random = Random(!seed);
        for number in 1_u64.. {
            publishing.channel("x").broadcast(number).await.unwrap();
            turns(random.below(24)).await;
        }
    });
    let followers = (0..FOLLOWERS).map(|number| {
        let (hub, handler) = (hub.clone(), handler.clone());
        tokio::spawn(async move {
            let (client, _) = registered(&hub, &format!("u{number}"), &handler).await;
            let (mut follower, mut random) =
                (Follower { client, position: None }, Random(seed ^ number << 32));
            for _ in 0..subscriptions / FOLLOWERS {
                let recovers = recovers(&mut random);
                follower.subscribe_for_a_while(&mut random, recovers).await;
            }
        })
    });
    for follower in followers.collect::<Vec<_>>() {
        follower.await.unwrap();
    }
    publisher.abort();
    wait_until_empty(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn row_58_publications_during_ten_thousand_recoveries_arrive_once_in_order() {
    run_followers(schedules(10_000), |_| true).await;
}

#[tokio::test(start_paused = true)]
async fn row_59_subscriber_gets_everything_after_its_position() {
    run_followers(schedules(10_000), |random| random.below(4) == 0).await;
}

/// Publishes under a key until it is acknowledged. Returns the offset.
async fn publish_until_acknowledged(client: &mut Client, number: u64, unknown: &mut u64) -> u64 {
    let request =
        json!({ "type": "channel_message", "channel": "x", "content": number, "key": format!("k{number}") });
    loop {
        match client.request(request.clone()).await {
            Ok(ack) => return ack["offset"].as_u64().unwrap(),
            Err(error) => {
                let kind = error["error_type"].as_str().unwrap();
                assert!(["unavailable", "timeout"].contains(&kind), "{error}");
                assert_eq!(error["temporary"], true, "it may have been published: retry");
                *unknown += u64::from(kind == "timeout");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_57_acknowledged_publications_are_in_the_history_despite_losses() {
    const PUBLISHERS: u64 = 4;
    let (seed, each) = (seed(), schedules(250));
    let broker = UnreliableBroker::new(seed, Network::Lossy);
    let hub = open_hub().recovery_limit(1_000_000).broker(broker.broker()).build();
    let handler = user_handler().callback_timeout(Duration::from_secs(1)).share();
    let publishers = (0..PUBLISHERS).map(|own| {
        let (hub, handler) = (hub.clone(), handler.clone());
        tokio::spawn(async move {
            let (mut client, _) = registered(&hub, &format!("u{own}"), &handler).await;
            let subscribed = json!({ "type": "subscribe_channel", "channel": "x" });
            client.request(subscribed).await.unwrap();
            let (mut acknowledged, mut unknown) = (HashMap::new(), 0);
            for number in 0..each {
                let content = own * each + number;
                acknowledged
                    .insert(publish_until_acknowledged(&mut client, content, &mut unknown).await, content);
            }
            (acknowledged, unknown)
        })
    });
    let (mut acknowledged, mut unknown) = (HashMap::new(), 0);
    for publisher in publishers.collect::<Vec<_>>() {
        let (own, timeouts) = publisher.await.unwrap();
        acknowledged.extend(own);
        unknown += timeouts;
    }
    assert_eq!(acknowledged.len() as u64, PUBLISHERS * each, "each has its own offset");
    assert!(unknown > 0, "at least one answer was lost");
    broker.calm();
    let history = hub.channel("x").history(hauyna::HistoryRange::all()).await.unwrap();
    let kept: HashMap<u64, u64> = history
        .publications
        .iter()
        .map(|one| (one.position().unwrap().offset, serde_json::from_slice(one.content().bytes()).unwrap()))
        .collect();
    assert_eq!(kept, acknowledged, "exactly the acknowledged publications, each once");
}
