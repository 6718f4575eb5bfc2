//! The local broker against the contract of brokers, and the hub with a broker that relays late.

use crate::support::{open_hub, serve};
use hauyna::broker::{LocalBroker, Relay};
use hauyna::channel::Publication;
use hauyna_test::WrappedBroker;
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn local_broker_fulfils_the_contract() {
    hauyna_test::broker_contract::run(async || LocalBroker::default()).await;
}

/// Publications that the test relays later, as a remote broker may do.
#[derive(Debug, Default, Clone)]
struct LateRelays(Arc<Mutex<Waiting>>);

type Waiting = Vec<(Relay, Arc<Publication>)>;

impl LateRelays {
    fn broker(&self) -> WrappedBroker {
        let late = self.clone();
        WrappedBroker::default().on_relay(move |relay, publication| {
            late.0.lock().unwrap().push((relay.clone(), publication.clone()));
        })
    }

    fn relay(&self) {
        for (relay, publication) in self.0.lock().unwrap().drain(..) {
            relay.relay(&publication);
        }
    }
}

#[tokio::test]
async fn publication_read_from_history_is_not_delivered_again_when_relayed() {
    let late = LateRelays::default();
    let hub = open_hub().broker(late.broker()).build();
    let server = serve(&hub);
    let (mut first, mut second, mut third) =
        (server.connect("/").await, server.connect("/").await, server.connect("/").await);
    let start = first.subscribe("x").await;
    for number in 1..=3 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    assert_eq!(second.subscribe("x").await["offset"], 3);
    assert_eq!(third.recover("x", &start).await["recovered"], true);
    hub.channel("x").broadcast(4).await.unwrap();
    late.relay();
    for (client, from) in [(&mut first, 1), (&mut second, 4), (&mut third, 1)] {
        for number in from..=4 {
            assert_eq!(client.expect("message").await["offset"], number);
        }
        client.expect_nothing().await;
    }
}
