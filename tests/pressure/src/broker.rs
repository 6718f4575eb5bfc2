//! A broker that is slow by the name of a channel: the history of `slow:…` takes three seconds, and a
//! subscription to `hang:…` never completes. The local broker does everything else. `server` uses it.

use hauyna::broker::{
    Answer, Broker, BrokerError, HistoryPage, LocalBroker, LocalBrokerOptions, Publish, Published, Relay,
};
use hauyna::{ChannelName, HistoryRange};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct SlowBroker(Arc<LocalBroker>);

impl SlowBroker {
    pub(crate) fn new() -> Self {
        let options = LocalBrokerOptions::new().max_history_bytes(HISTORIES);
        Self(Arc::new(LocalBroker::new(options)))
    }
}

impl Broker for SlowBroker {
    fn start(&self, relay: Relay) {
        self.0.start(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        self.0.publish(publish)
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        if channel.as_str().starts_with("hang:") {
            return Answer::later(std::future::pending());
        }
        self.0.subscribe(channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.0.unsubscribe(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        if !channel.as_str().starts_with("slow:") {
            return self.0.history(channel, range);
        }
        let (broker, channel) = (self.0.clone(), channel.clone());
        Answer::later(async move {
            tokio::time::sleep(LATENCY).await;
            broker.history(&channel, range).await
        })
    }

    fn sweep(&self) {
        self.0.sweep();
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// Time that a history takes.
pub(crate) const LATENCY: Duration = Duration::from_secs(3);
/// Maximum bytes of all histories together: more than any scenario publishes at once.
pub(crate) const HISTORIES: usize = 2 << 30;
