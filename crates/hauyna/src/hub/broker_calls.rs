//! The calls from the hub to its broker. Whatever the broker does with a call – panic, hang, answer too late
//! – there is a result within [`HubBuilder::broker_timeout`](super::HubBuilder::broker_timeout). Channels,
//! presence and publishing call this.

use super::HubCore;
use crate::broker::Broker;
use crate::channel::ChannelCore;
use crate::cluster::Cluster;
use crate::contain::{self, Contained, Panicked};
use hauyna_broker::{Answer, BrokerError, Directory};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

impl HubCore {
    /// Asks the broker. A panic of the broker counts as a failure, as if it could not be reached: the caller
    /// is often in the middle of removing a connection from its channels, and has to go on.
    pub(crate) fn with_broker<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.ask(|| ask(&*self.broker), BrokerError::new)
    }

    /// Asks the broker like [`HubCore::with_broker`], for calls that may have had an effect although there is
    /// no answer.
    pub(crate) fn with_broker_uncertain<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.ask(|| ask(&*self.broker), BrokerError::unknown)
    }

    /// Asks the directory of the cluster like [`HubCore::with_broker_uncertain`].
    pub(crate) fn with_directory<T: Send + 'static>(
        &self,
        cluster: &Cluster,
        ask: impl FnOnce(&dyn Directory) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.ask(|| ask(cluster.directory()), BrokerError::unknown)
    }

    fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> Answer<Result<T, BrokerError>>,
        failed: fn(&'static str) -> BrokerError,
    ) -> Answer<Result<T, BrokerError>> {
        let later = match contain::call(&self.metrics.panics, ask) {
            Ok(Answer::Pending(later)) => later,
            Ok(ready) => return ready,
            Err(Panicked) => return Answer::Ready(Err(failed(PANIC_TEXT))),
        };
        let (timeout, later) = (self.config.broker_timeout, Contained::new(&self.metrics.panics, later));
        Answer::later(async move {
            match with_timeout(timeout, later).await {
                Some(Ok(answer)) => answer,
                Some(Err(Panicked)) => Err(failed(PANIC_TEXT)),
                None => Err(failed(TIMEOUT_TEXT)),
            }
        })
    }

    /// Waits until the broker relays a channel. The first waiting caller asks the broker; if that call fails
    /// or is dropped, the next caller asks. No caller waits longer than one call may take.
    ///
    /// # Errors
    ///
    /// The error of the broker, or a timeout.
    ///
    /// # Cancel safety
    ///
    /// If every waiting future is dropped, the channel is not relayed.
    pub(crate) async fn broker_subscribe(&self, channel: &ChannelCore) -> Result<(), BrokerError> {
        let relayed = channel.broker_subscription.get_or_try_init(|| {
            let _order = self.channels.broker_order(&channel.name);
            self.with_broker(|broker| broker.subscribe(&channel.name)).into_future()
        });
        self.within_broker_timeout(relayed).await.copied()
    }

    /// Waits for a result, at most as long as one call may take.
    ///
    /// # Errors
    ///
    /// The error of the result, or a timeout.
    pub(crate) async fn within_broker_timeout<T>(
        &self,
        result: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let result = with_timeout(self.config.broker_timeout, result).await;
        result.unwrap_or_else(|| Err(BrokerError::new(TIMEOUT_TEXT)))
    }

    /// Removes a channel without subscribers from the map and unsubscribes from it at the broker.
    pub(crate) fn remove_channel(&self, channel: &Arc<ChannelCore>) {
        let _order = self.channels.broker_order(&channel.name);
        // Without a cluster, groups are relayed without a subscription.
        let is_subscribed = self.cluster.is_some() || !channel.name.is_of_group();
        if self.channels.remove_unused(channel, self.clock.millis()) && is_subscribed {
            drop(self.with_broker(|broker| {
                broker.unsubscribe(&channel.name);
                Answer::now(Ok(()))
            }));
        }
    }
}

/// Returns the output of the future if it completes within `timeout`. Outside of a tokio runtime there is no
/// clock, so only the future itself ends the wait.
async fn with_timeout<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    if Handle::try_current().is_err() {
        return Some(future.await);
    }
    crate::clock::timeout(timeout, future).await.ok()
}

const PANIC_TEXT: &str = "the broker panicked";
const TIMEOUT_TEXT: &str = "the broker did not answer in time";
