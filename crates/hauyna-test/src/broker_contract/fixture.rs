//! A broker under test: collects what the broker relays, and offers one call each to publish and to read
//! back. The functions of the contract use it.

use hauyna::broker::{Broker, HistoryPage, Publish, Published, Relay, Retention};
use hauyna::channel::{Draft, Publication};
use hauyna::{ChannelName, HistoryRange, Position, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// A broker and the publications that it relays.
#[derive(Debug)]
pub struct BrokerFixture<B> {
    pub(super) broker: Arc<B>,
    relayed: mpsc::Receiver<Arc<Publication>>,
}

/// Last position of each stream, as its subscribers know it.
#[derive(Debug, Default)]
struct LastSubscription(Mutex<HashMap<ChannelName, Position>>);

impl LastSubscription {
    fn set(&self, channel: &ChannelName, to: Position) {
        self.0.lock().expect("no check has failed").insert(channel.clone(), to);
    }

    /// Checks that a publication follows the last relayed one, follows a reported turn, or restarts the
    /// stream.
    fn check(&self, publication: &Publication) {
        let Some(position) = publication.position() else { return };
        let mut streams = self.0.lock().expect("no check has failed");
        if let Some(last) = streams.insert(publication.channel().clone(), position) {
            let is_restart = position.offset == 1 && position.epoch != last.epoch;
            let follows = position.offset == last.offset + 1;
            assert!(follows || is_restart, "{position:?} was relayed after {last:?} without a reported turn");
        }
    }
}

impl<B: Broker> BrokerFixture<B> {
    /// Creates a fixture and starts the broker.
    pub fn new(broker: B) -> Self {
        let (sender, relayed) = mpsc::channel(QUEUE);
        let last = Arc::new(LastSubscription::default());
        let turn_target = last.clone();
        let relay = Relay::to(move |publication| {
            last.check(publication);
            assert!(
                sender.try_send(publication.clone()).is_ok(),
                "more was relayed than can have been published"
            );
        });
        broker.start(relay.on_turn(move |channel, to, _| turn_target.set(channel, to)));
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
        publish(&*self.broker, channel, number, retention, None).await
    }

    pub(super) async fn keyed(
        &self,
        channel: &ChannelName,
        number: u32,
        retention: Option<Retention>,
        key: &str,
    ) -> Published {
        publish(&*self.broker, channel, number, retention, Some(key)).await
    }

    pub(super) async fn history(&self, channel: &ChannelName, range: HistoryRange) -> HistoryPage {
        self.broker.history(channel, range).await.expect("a history")
    }

    pub(super) async fn next(&mut self) -> Arc<Publication> {
        let next = tokio::time::timeout(TIMEOUT, self.relayed.recv()).await;
        next.expect("a publication is relayed in time").expect("the broker keeps its relay")
    }

    /// Publishes a last message and returns everything that was relayed before it.
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
    retention: Option<Retention>,
    key: Option<&str>,
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

/// Maximum time for a relay or an expiry.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Capacity for relayed publications: more than any test relays.
const QUEUE: usize = 16 * 1024;
const LAST: u32 = u32::MAX;
