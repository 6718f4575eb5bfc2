//! The local broker against the contract of brokers, and the hub with a broker that relays late.

use crate::support::{open_hub, recover, serve, subscribe};
use hauyna::broker::{Answer, Broker, BrokerError, HistoryPage, LocalBroker, Publish, Published, Relay};
use hauyna::channel::Publication;
use hauyna::{ChannelName, HistoryRange};
use std::sync::{Arc, Mutex, OnceLock};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_broker_keeps_the_contract() {
    hauyna_test::broker_contract::run(async || LocalBroker::default()).await;
}

/// A broker as one somewhere else may be: in the history first, relayed when it is told to.
#[derive(Debug, Default, Clone)]
struct Late(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    local: LocalBroker,
    relay: OnceLock<Relay>,
    waiting: Arc<Mutex<Vec<Arc<Publication>>>>,
}

impl Late {
    fn relay(&self) {
        for publication in self.0.waiting.lock().unwrap().drain(..) {
            self.0.relay.get().unwrap().relay(&publication);
        }
    }
}

impl Broker for Late {
    fn start(&self, relay: Relay) {
        let waiting = self.0.waiting.clone();
        self.0.relay.set(relay).unwrap();
        self.0.local.start(Relay::to(move |publication| waiting.lock().unwrap().push(publication.clone())));
    }

    fn publish(&self, publish: Publish) -> Answer<hauyna::Result<Published, BrokerError>> {
        self.0.local.publish(publish)
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<hauyna::Result<(), BrokerError>> {
        self.0.local.subscribe(channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.0.local.unsubscribe(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<hauyna::Result<HistoryPage, BrokerError>> {
        self.0.local.history(channel, range)
    }
}

#[tokio::test]
async fn what_a_subscriber_has_from_the_history_is_not_given_again_when_it_is_relayed() {
    let broker = Late::default();
    let hub = open_hub().broker(broker.clone()).build();
    let server = serve(&hub);
    let (mut first, mut second, mut third) =
        (server.connect("/").await, server.connect("/").await, server.connect("/").await);
    let start = subscribe(&mut first, "x").await;
    for number in 1..=3 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    assert_eq!(subscribe(&mut second, "x").await["offset"], 3);
    assert_eq!(recover(&mut third, "x", &start).await["recovered"], true);
    hub.channel("x").broadcast(4).await.unwrap();
    broker.relay();
    for (client, from) in [(&mut first, 1), (&mut second, 4), (&mut third, 1)] {
        for number in from..=4 {
            assert_eq!(client.expect("message").await["offset"], number);
        }
        client.expect_nothing().await;
    }
}
