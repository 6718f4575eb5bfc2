//! The local broker against the contract of brokers.

use hauyna::LocalBroker;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_broker_keeps_the_contract() {
    hauyna_test::broker_contract::run(async || LocalBroker::default()).await;
}
