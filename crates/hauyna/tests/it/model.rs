//! Random operations by several clients, against a minimal hub. A failing sequence prints its seed; running
//! only that seed repeats it.

use crate::support::{Random, open_hub, serve, wait_until_empty};
use hauyna::json;
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SEQUENCES: u64 = 100;
const STEPS: u64 = 60;
const CLIENTS: u64 = 4;
const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// The minimal hub: what every client must receive.
#[derive(Default)]
struct Model {
    streams: BTreeMap<&'static str, Vec<u64>>,
    subscribed: BTreeMap<u64, BTreeSet<&'static str>>,
    expected: BTreeMap<u64, VecDeque<(&'static str, u64, u64)>>,
}

impl Model {
    fn top(&self, channel: &str) -> u64 {
        self.streams.get(channel).map_or(0, |stream| stream.len() as u64)
    }

    fn subscribe(&mut self, client: u64, channel: &'static str, since: u64) -> bool {
        if !self.subscribed.entry(client).or_default().insert(channel) {
            return false;
        }
        let missed = self.streams.entry(channel).or_default().iter().enumerate().skip(since as usize);
        let missed = missed.map(|(index, number)| (channel, index as u64 + 1, *number));
        self.expected.entry(client).or_default().extend(missed);
        true
    }

    fn publish(&mut self, channel: &'static str, number: u64) {
        self.streams.entry(channel).or_default().push(number);
        let offset = self.top(channel);
        for (client, _) in self.subscribed.iter().filter(|(_, channels)| channels.contains(channel)) {
            self.expected.entry(*client).or_default().push_back((channel, offset, number));
        }
    }

    fn leave(&mut self, client: u64) {
        self.subscribed.remove(&client);
        self.expected.remove(&client);
    }
}

/// The clients of one sequence and their state.
struct Run<'a> {
    server: &'a TestServer,
    model: Model,
    clients: BTreeMap<u64, Client>,
    epochs: BTreeMap<&'static str, Value>,
    random: Random,
}

impl Run<'_> {
    async fn step(&mut self, number: u64) {
        let client = self.random.below(CLIENTS);
        let channel = CHANNELS[self.random.below(3) as usize];
        if !self.clients.contains_key(&client) {
            return self.connect(client).await;
        }
        match self.random.below(12) {
            0 => self.disconnect(client).await,
            1..=2 => self.subscribe(client, channel, None).await,
            3..=4 => {
                let since = self.random.below(self.model.top(channel) + 1);
                self.subscribe(client, channel, Some(since)).await;
            }
            5 => self.unsubscribe(client, channel).await,
            6 => self.history(client, channel).await,
            7..=8 => {
                self.server
                    .hub()
                    .channel(channel)
                    .broadcast(json!({ "type": "message", "content": number }))
                    .await
                    .unwrap();
                self.model.publish(channel, number);
            }
            _ => self.publish(client, channel, number).await,
        }
        if self.random.below(3) == 0 && self.clients.contains_key(&client) {
            self.check(client).await;
        }
    }

    async fn connect(&mut self, client: u64) {
        let encoding = Encoding::ALL[self.random.below(2) as usize];
        let mut connection =
            self.server.client(&format!("/?user={client}")).encoding(encoding).connect().await;
        connection.expect("session").await;
        self.clients.insert(client, connection);
    }

    async fn disconnect(&mut self, client: u64) {
        self.check(client).await;
        let connection = self.clients.remove(&client).unwrap();
        match self.random.below(2) {
            0 => connection.close(1000, "").await,
            _ => connection.vanish(),
        }
        self.model.leave(client);
    }

    async fn subscribe(&mut self, client: u64, channel: &'static str, since: Option<u64>) {
        let mut request = json!({ "type": "subscribe_channel", "channel": channel });
        let epoch = self.epochs.get(channel).cloned();
        if let (Some(since), Some(epoch)) = (since, &epoch) {
            request["recover"] = json!({ "epoch": epoch, "offset": since });
        }
        let is_recovery = request.get("recover").is_some();
        let top = self.model.top(channel);
        let is_new = self.model.subscribe(client, channel, since.filter(|_| is_recovery).unwrap_or(top));
        let answer = self.clients.get_mut(&client).unwrap().request(request).await;
        let Ok(answer) = answer else {
            assert!(!is_new, "{answer:?}");
            assert_eq!(answer.unwrap_err()["error_type"], "already_subscribed");
            return;
        };
        assert!(is_new);
        assert_eq!(answer["offset"], top);
        assert_eq!(answer.get("recovered"), is_recovery.then_some(&json!(true)));
        let epoch = self.epochs.entry(channel).or_insert_with(|| answer["epoch"].clone());
        assert_eq!(*epoch, answer["epoch"]);
    }

    async fn unsubscribe(&mut self, client: u64, channel: &'static str) {
        self.check(client).await;
        let was_there = self.model.subscribed.entry(client).or_default().remove(channel);
        let request = json!({ "type": "unsubscribe_channel", "channel": channel });
        assert_eq!(self.clients.get_mut(&client).unwrap().request(request).await.is_ok(), was_there);
    }

    async fn publish(&mut self, client: u64, channel: &'static str, number: u64) {
        let may = self.model.subscribed.get(&client).is_some_and(|channels| channels.contains(channel));
        let request = json!({ "type": "channel_message", "channel": channel, "content": number });
        let answer = self.clients.get_mut(&client).unwrap().request(request).await;
        assert_eq!(answer.is_ok(), may, "{answer:?}");
        if may {
            self.model.publish(channel, number);
            assert_eq!(answer.unwrap()["offset"], self.model.top(channel));
        }
    }

    async fn history(&mut self, client: u64, channel: &'static str) {
        let may = self.model.subscribed.get(&client).is_some_and(|channels| channels.contains(channel));
        let limit = self.random.below(20);
        let request = json!({ "type": "history", "channel": channel, "limit": limit, "reverse": true });
        let answer = self.clients.get_mut(&client).unwrap().request(request).await;
        assert_eq!(answer.is_ok(), may);
        if let Ok(page) = answer {
            let numbers: Vec<u64> = page["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|message| message["content"].as_u64().unwrap())
                .collect();
            let stream = self.model.streams.get(channel).cloned().unwrap_or_default();
            assert!(numbers.iter().eq(stream.iter().rev().take(limit as usize)));
        }
    }

    /// Checks that the client got everything that the model expects, in order per channel, and nothing else.
    async fn check(&mut self, client: u64) {
        let mut expected = self.model.expected.remove(&client).unwrap_or_default();
        let connection = self.clients.get_mut(&client).unwrap();
        while !expected.is_empty() {
            let message = connection.expect("message").await;
            let index = expected.iter().position(|(channel, ..)| message["channel"] == **channel);
            let index = index.unwrap_or_else(|| panic!("unexpected message: {message}"));
            let (_, offset, number) = expected.remove(index).unwrap();
            assert_eq!((&message["offset"], &message["content"]), (&json!(offset), &json!(number)));
        }
        connection.expect_nothing().await;
    }
}

async fn sequence(seed: u64) {
    let hub = open_hub().shards(1 << (seed % 3)).build();
    let server = serve(&hub);
    let (model, random) = (Model::default(), Random(seed));
    let mut run = Run { server: &server, model, clients: BTreeMap::new(), epochs: BTreeMap::new(), random };
    for number in 0..STEPS {
        run.step(number).await;
    }
    for client in run.clients.keys().copied().collect::<Vec<_>>() {
        run.check(client).await;
    }
    let subscribed: usize = run.model.subscribed.values().map(BTreeSet::len).sum();
    crate::support::eventually("the subscriptions match the model", || {
        hub.stats().subscriptions == subscribed as u64
    })
    .await;
    drop(run.clients);
    wait_until_empty(&hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_operations_match_a_naive_hub() {
    for seed in 0..SEQUENCES {
        let run = tokio::spawn(sequence(seed)).await;
        assert!(run.is_ok(), "seed {seed}");
    }
}
