//! Runtimes that live and are driven by nobody, as between two calls of `block_on`, and runtimes without timers: what the
//! hub does beside its connections goes on in another runtime that connections came with.

use crate::support::{eventually, named, open_hub, subscriber};
use hauyna::{
    Answer, Broker, BrokerError, ChannelName, Channels, HistoryPage, HistoryRange, Hub, LocalBroker,
    Presence, Publish, Published, Relay, SessionOptions, SystemKind, json,
};
use hauyna_test::TestServer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::{Builder, Runtime};

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The local broker, which counts its sweeps.
#[derive(Debug, Default)]
struct Swept {
    local: LocalBroker,
    sweeps: Arc<AtomicU64>,
}

impl Broker for Swept {
    fn start(&self, relay: Relay) {
        self.local.start(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        self.local.publish(publish)
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        self.local.subscribe(channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.local.unsubscribe(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        self.local.history(channel, range)
    }

    fn sweep(&self) {
        self.sweeps.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_broker_is_swept_whichever_shard_is_driven() {
    let broker = Swept::default();
    let sweeps = broker.sweeps.clone();
    let hub = open_hub().shards(2).broker(broker).build();
    let idle = single();
    // A connection in each shard, on a runtime that nobody drives any more.
    let _kept = idle.block_on(async {
        let server = TestServer::start(hub.clone(), named());
        let clients = [subscriber(&server, "a", "x").await, subscriber(&server, "b", "x").await];
        (server, clients)
    });
    // Then one in one of them, and one in the other.
    for user in ["c", "d"] {
        single().block_on(async {
            let server = TestServer::start(hub.clone(), named());
            let _client = subscriber(&server, user, "x").await;
            let before = sweeps.load(Ordering::Relaxed);
            eventually("the broker is swept", || sweeps.load(Ordering::Relaxed) > before + 1).await;
        });
    }
}
