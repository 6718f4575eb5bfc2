//! Random sequences in which runtimes begin and end under one hub: the remaining clients receive everything,
//! in order, and nothing of channels to which they are not subscribed. `HAUYNA_SEED` repeats one sequence.

use crate::hostile_runtimes::Beside;
use crate::support::{Random, session_client, user_handler};
use hauyna::{ChannelOptions, Hub, SessionOptions, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEQUENCES: u64 = 100;
const STEPS: u64 = 40;
const RUNTIMES: usize = 3;
const CHANNELS: [&str; 3] = ["public", "secret", "other"];

struct Reader {
    client: Client,
    subscribed: BTreeSet<&'static str>,
    expected: VecDeque<(&'static str, u64)>,
    /// The last message before the client connected.
    since: u64,
}

/// One runtime with its server and its clients.
struct Place {
    runtime: Beside,
    server: Arc<TestServer>,
    readers: Vec<Reader>,
}

struct Run {
    hub: Hub,
    places: Vec<Place>,
    number: u64,
    random: Random,
    steps: Vec<String>,
    seed: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HAUYNA_SEED={} went wrong after:\n{}", self.seed, self.steps.join("\n"));
        }
    }
}

impl Reader {
    /// Checks that every expected message arrived, and nothing else.
    async fn check(&mut self) {
        self.client.send(json!({ "type": "ping", "id": "check" })).await;
        let mut has_ponged = false;
        while !has_ponged || !self.expected.is_empty() {
            let message = self.client.next().await;
            match message["type"].as_str().unwrap() {
                "pong" => has_ponged = true,
                // The shard had not yet looked for receivers when this client connected.
                "broadcast" if message["message"].as_u64().unwrap() <= self.since => {}
                _ => self.accept(&message),
            }
        }
    }

    fn accept(&mut self, message: &Value) {
        let (channel, number) = self.expected.pop_front().unwrap_or_else(|| panic!("unexpected: {message}"));
        let (kind, content) = match channel {
            EVERYBODY => ("broadcast", &message["message"]),
            _ => ("message", &message["content"]),
        };
        assert_eq!((&message["type"], content), (&json!(kind), &json!(number)), "{message}");
        assert!(channel == EVERYBODY || message["channel"] == channel, "{message}");
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let hub = Hub::builder()
            .sessions(SessionOptions::none())
            .channels("{*any}", ChannelOptions::new())
            .shards(1 << (seed % 2))
            .outbox(8 << 20, 1 << 16)
            .build();
        Self { hub, places: Vec::new(), number: 0, random: Random(seed), steps: Vec::new(), seed }
    }

    fn place(&mut self) -> Option<usize> {
        let count = self.places.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn channel(&mut self) -> &'static str {
        CHANNELS[self.random.below(CHANNELS.len() as u64) as usize]
    }

    fn step(&mut self) {
        let Some(place) = self.place() else { return self.begin() };
        match self.random.below(12) {
            0 if self.places.len() < RUNTIMES => self.begin(),
            0..=1 => self.end(place),
            2 => self.end_while_it_publishes(place),
            3..=5 => self.connect(place),
            6..=7 => self.toggle(place),
            8..=10 => self.publish(place),
            _ => self.check(place),
        }
        let readers: usize = self.places.iter().map(|place| place.readers.len()).sum();
        assert_eq!(self.hub.stats().connections, readers, "connections end with their runtimes");
        let subscribed = |place: &Place| place.readers.iter().map(|one| one.subscribed.len()).sum::<usize>();
        let subscriptions: usize = self.places.iter().map(subscribed).sum();
        assert_eq!(self.hub.stats().subscriptions, subscriptions as u64);
    }

    fn begin(&mut self) {
        self.steps.push("a runtime begins".to_owned());
        let runtime = Beside::new();
        let hub = self.hub.clone();
        let server = runtime.run(async move { Arc::new(TestServer::start(hub, user_handler())) });
        self.places.push(Place { runtime, server, readers: Vec::new() });
    }

    /// Ends a runtime together with the unread messages of its clients.
    fn end(&mut self, place: usize) {
        self.steps.push(format!("runtime {place} ends"));
        let mut place = self.places.remove(place);
        place.runtime.end();
        // Dropping a test server would also close the connections of the other ones.
        std::mem::forget((place.server, place.readers));
    }

    /// Ends a runtime while one of its tasks publishes.
    fn end_while_it_publishes(&mut self, place: usize) {
        let channel = self.channel();
        let (hub, done) = (self.hub.clone(), Arc::new(AtomicU64::new(0)));
        let (own, first) = (done.clone(), self.number + 1);
        self.places[place].runtime.spawn(async move {
            for number in first..first + BURST {
                hub.channel(channel).broadcast(number).await.unwrap();
                own.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        while done.load(Ordering::SeqCst) < 10 {
            std::thread::yield_now();
        }
        self.end(place);
        let published = done.load(Ordering::SeqCst);
        self.steps.push(format!("it has published {published} in {channel}"));
        // The runtime ends where the task waits; its publications were counted.
        for number in first..first + published {
            self.number = number;
            self.expect(channel, number);
        }
    }

    fn connect(&mut self, place: usize) {
        self.steps.push(format!("a client connects in runtime {place}"));
        let place = &mut self.places[place];
        let (server, user) = (place.server.clone(), self.random.below(5));
        let client =
            place.runtime.run(async move { session_client(&server, &format!("/?user={user}")).await });
        let (subscribed, expected) = (BTreeSet::new(), VecDeque::new());
        place.readers.push(Reader { client, subscribed, expected, since: self.number });
    }

    /// Subscribes a client, or ends its subscription.
    fn toggle(&mut self, place: usize) {
        let channel = self.channel();
        self.steps.push(format!("one in runtime {place} begins or ends {channel}"));
        let place = &mut self.places[place];
        let Some(mut reader) = place.readers.pop() else { return };
        reader = place.runtime.run(async move {
            reader.check().await;
            if reader.subscribed.remove(channel) {
                reader.client.unsubscribe(channel).await;
            } else {
                reader.client.subscribe(channel).await;
                reader.subscribed.insert(channel);
            }
            reader
        });
        place.readers.insert(0, reader);
    }

    /// Publishes from a task of one runtime, for the clients of all.
    fn publish(&mut self, place: usize) {
        let channels: Vec<_> =
            (0..20).map(|_| if self.random.below(8) == 0 { EVERYBODY } else { self.channel() }).collect();
        self.steps.push(format!("runtime {place} publishes"));
        let (hub, first, all) = (self.hub.clone(), self.number + 1, channels.clone());
        self.places[place].runtime.run(async move {
            for (number, channel) in (first..).zip(all) {
                match channel {
                    EVERYBODY => drop(hub.connections().broadcast(number).await.unwrap()),
                    _ => drop(hub.channel(channel).broadcast(number).await.unwrap()),
                }
            }
        });
        for channel in channels {
            self.number += 1;
            self.expect(channel, self.number);
        }
    }

    fn expect(&mut self, channel: &'static str, number: u64) {
        for reader in self.places.iter_mut().flat_map(|place| &mut place.readers) {
            if channel == EVERYBODY || reader.subscribed.contains(channel) {
                reader.expected.push_back((channel, number));
            }
        }
    }

    fn check(&mut self, place: usize) {
        self.steps.push(format!("runtime {place} is checked"));
        let place = &mut self.places[place];
        let mut readers = std::mem::take(&mut place.readers);
        place.readers = place.runtime.run(async move {
            for reader in &mut readers {
                reader.check().await;
            }
            readers
        });
    }
}

fn sequence(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.step();
    }
    for place in 0..run.places.len() {
        run.check(place);
    }
    while !run.places.is_empty() {
        run.end(0);
    }
    let stats = run.hub.stats();
    assert_eq!((stats.connections, stats.subscriptions, stats.panics, stats.slow_consumers), (0, 0, 0, 0));
}

#[test]
fn clients_of_remaining_runtimes_get_everything_of_their_channels() {
    let only = std::env::var("HAUYNA_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in (0..SEQUENCES).filter(|_| only.is_none()).chain(only) {
        sequence(seed);
    }
}

/// The name that stands for messages to all clients.
const EVERYBODY: &str = "";
/// Number of publications of a task whose runtime ends.
const BURST: u64 = 300;
