//! A node under test: its broker with its directory, and the changes of maps that it is told of.

use hauyna::ChannelName;
use hauyna::broker::{
    Beat, Broker, Change, Directory, Field, MapChange, MapName, MapPage, MapRange, Nodes, Put, Relay, Swept,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A node, its directory, and the changes that are relayed to it.
#[derive(Debug)]
pub struct DirectoryFixture<B> {
    broker: B,
    pub(super) directory: Arc<dyn Directory>,
    relayed: mpsc::Receiver<(MapName, MapChange)>,
}

impl<B: Broker> DirectoryFixture<B> {
    /// Creates a fixture and starts the broker.
    ///
    /// # Panics
    ///
    /// Panics if the broker has no directory.
    pub fn new(broker: B) -> Self {
        let (sender, relayed) = mpsc::channel(QUEUE);
        broker.start(Relay::to(|_| {}).on_map_change(move |map, change| {
            let sent = sender.try_send((map.clone(), change.clone()));
            assert!(sent.is_ok(), "more was relayed than can have been changed");
        }));
        let directory = broker.directory().expect("a broker with a directory");
        Self { broker, directory, relayed }
    }

    pub(super) async fn put(&self, put: Put) -> Change {
        self.directory.put(put).await.expect("an answer")
    }

    pub(super) async fn remove(&self, name: &str, class: &str) -> Change {
        self.remove_field(name, &field(class, "")).await
    }

    pub(super) async fn remove_field(&self, name: &str, field: &Field) -> Change {
        self.directory.remove(&map(name), field).await.expect("an answer")
    }

    pub(super) async fn read(&self, name: &str, range: MapRange) -> MapPage {
        self.directory.read(&map(name), range).await.expect("an answer")
    }

    pub(super) async fn maps(&self, after: Option<&MapName>, limit: u32) -> Vec<MapName> {
        self.directory.maps(KIND, after, limit).await.expect("an answer")
    }

    pub(super) async fn beat(&self) -> Nodes {
        let info = self.directory.node().to_string();
        self.directory.beat(Beat::new(info)).await.expect("an answer")
    }

    pub(super) async fn sweep(&self, of: &Self, limit: u32) -> Swept {
        self.directory.sweep(of.directory.node(), limit).await.expect("an answer")
    }

    pub(super) async fn follow(&self, name: &str) {
        self.broker.subscribe(&ChannelName::of_map(&map(name))).await.expect("a subscription");
    }

    pub(super) async fn next(&mut self) -> (MapName, MapChange) {
        let next = tokio::time::timeout(TIMEOUT, self.relayed.recv()).await;
        next.expect("a change is relayed in time").expect("the broker keeps its relay")
    }
}

pub(super) fn map(name: &str) -> MapName {
    MapName::new(KIND, name)
}

pub(super) fn field(class: &str, id: &str) -> Field {
    Field::new(class, id)
}

/// Returns a put without a condition; the field has no identifier within its class.
pub(super) fn put(name: &str, class: &str, value: &str) -> Put {
    Put::new(map(name), field(class, ""), value.to_owned())
}

/// Returns the fields of a page as `class=value`.
pub(super) fn values(page: &MapPage) -> Vec<String> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    page.fields.iter().map(|(field, value)| format!("{}={}", field.class, text(value))).collect()
}

const KIND: &str = "test";
/// Maximum time for a relay.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Capacity for relayed changes: more than any test relays.
const QUEUE: usize = 4096;
