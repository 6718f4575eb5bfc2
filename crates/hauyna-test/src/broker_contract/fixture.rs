//! A broker on the bench: what it relays is collected, and publishing and reading it back take one call each.

use hauyna::broker::{Broker, HistoryPage, Publish, Published, Relay, Retention};
use hauyna::channel::{Draft, Publication};
use hauyna::{ChannelName, HistoryRange, Position, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// A broker and what it relays.
#[derive(Debug)]
pub struct BrokerFixture<B> {
    pub(super) broker: Arc<B>,
    relayed: mpsc::Receiver<Arc<Publication>>,
}

/// Where each stream is, as its subscribers know.
#[derive(Debug, Default)]
struct LastSubscription(Mutex<HashMap<ChannelName, Position>>);

impl LastSubscription {
    fn set(&self, channel: &ChannelName, to: Position) {
        self.0.lock().expect("no check has failed").insert(channel.clone(), to);
    }

    /// What is relayed follows what was relayed before, or the turn that was told, or starts again.
    fn check(&self, publication: &Publication) {
        let Some(position) = publication.position() else { return };
        let mut streams = self.0.lock().expect("no check has failed");
        if let Some(last) = streams.insert(publication.channel().clone(), position) {
            let starts_again = position.offset == 1 && position.epoch != last.epoch;
            let follows = position.offset == last.offset + 1;
            assert!(follows || starts_again, "{position:?} was relayed after {last:?}, and no turn was told");
        }
    }
}

impl<B: Broker> BrokerFixture<B> {
    /// Starts the broker.
    pub fn new(broker: B) -> Self {
        let (sender, relayed) = mpsc::channel(QUEUE);
        let told = Arc::new(LastSubscription::default());
        let turns = told.clone();
        let relay = Relay::to(move |publication| {
            told.check(publication);
            assert!(
                sender.try_send(publication.clone()).is_ok(),
                "more was relayed than can have been published"
            );
        });
        broker.start(relay.on_turn(move |channel, to, _| turns.set(channel, to)));
        Self { broker: Arc::new(broker), relayed }
    }

    pub(super) async fn subscribe(&self, channel: &ChannelName) {
        self.broker.subscribe(channel).await.expect("a subscription");
    }

    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        number: u32,
        retention: Option<Retention>,
    ) -> Published {
        publish(&*self.broker, channel, number, (retention, None)).await
    }

    pub(super) async fn keyed(
        &self,
        channel: &ChannelName,
        number: u32,
        (retention, key): (Option<Retention>, &str),
    ) -> Published {
        publish(&*self.broker, channel, number, (retention, Some(key))).await
    }

    pub(super) async fn history(&self, channel: &ChannelName, range: HistoryRange) -> HistoryPage {
        self.broker.history(channel, range).await.expect("a history")
    }

    pub(super) async fn next(&mut self) -> Arc<Publication> {
        let next = tokio::time::timeout(TIMEOUT, self.relayed.recv()).await;
        next.expect("a publication is relayed in time").expect("the broker keeps its relay")
    }

    /// Publishes and waits for the relay of a last message: whatever was relayed before is here.
    pub(super) async fn drain(&mut self, channel: &ChannelName) -> Vec<Arc<Publication>> {
        self.publish(channel, LAST, None).await;
        let mut drained = Vec::new();
        loop {
            let next = self.next().await;
            if number(&next) == LAST {
                return drained;
            }
            drained.push(next);
        }
    }
}

pub(super) async fn publish<B: Broker>(
    broker: &B,
    channel: &ChannelName,
    number: u32,
    (retention, key): (Option<Retention>, Option<&str>),
) -> Published {
    let draft = Draft::new(channel.clone(), &json!({ "type": "test", "number": number })).expect("a draft");
    broker.publish(Publish { draft, retention, key: key.map(Into::into) }).await.expect("a publication")
}

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a good name")
}

pub(super) fn position(published: Published) -> Position {
    published.position.expect("a channel with history numbers its publications")
}

pub(super) fn offset(published: Published) -> u64 {
    position(published).offset
}

pub(super) fn number(publication: &Publication) -> u32 {
    let raw =
        hauyna_protocol::Raw::assume_valid(publication.content().encoding(), publication.content().bytes());
    let value: serde_json::Value = raw.decode().expect("the content as it was published");
    value["number"]
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .expect("the number as it was published")
}

pub(super) fn numbers(page: &HistoryPage) -> Vec<u32> {
    page.publications.iter().map(|publication| number(publication)).collect()
}

/// How long a relay or an expiry may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any test relays.
const QUEUE: usize = 16 * 1024;
const LAST: u32 = u32::MAX;
