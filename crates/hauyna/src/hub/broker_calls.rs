//! The hub's questions to its broker. Whatever the broker does with one – panic, hang, answer too late – there is an
//! answer within [`HubBuilder::broker_timeout`](super::HubBuilder::broker_timeout), and nothing gathers until then.

use super::HubCore;
use crate::broker::{Answer, Broker};
use crate::channel::ChannelCore;
use crate::contain::{self, Contained, Panicked};
use crate::error::BrokerError;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

impl HubCore {
    /// Asks the broker. Where it panics it has failed, as if it could not be reached: whoever asks is often in the
    /// middle of taking a connection out of its channels, and goes on.
    pub(crate) fn with_broker<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.with_broker_or(ask, BrokerError::new)
    }

    /// As [`HubCore::with_broker`], for what may have been done though there is no answer.
    pub(crate) fn with_broker_uncertain<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.with_broker_or(ask, BrokerError::unknown)
    }

    fn with_broker_or<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
        failed: fn(&'static str) -> BrokerError,
    ) -> Answer<Result<T, BrokerError>> {
        let answer = contain::call(&self.metrics.panics, || ask(&*self.broker));
        let Ok(answer) = answer.map(Answer::into_now) else {
            return Answer::now(Err(failed(PANIC_TEXT)));
        };
        let later = match answer {
            Ok(now) => return Answer::now(now),
            Err(later) => later,
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

    /// Waits until the broker relays a channel. The first who waits asks; where that fails or goes, the next one
    /// does. Nobody waits for longer than one question may take.
    ///
    /// # Errors
    ///
    /// As the broker says, or that it did not answer in time.
    ///
    /// # Cancel safety
    ///
    /// The channel is not relayed where nobody waited to the end.
    pub(crate) async fn broker_subscribe(&self, channel: &ChannelCore) -> Result<(), BrokerError> {
        let relayed = channel.broker_subscription.get_or_try_init(|| {
            let _order = self.channels.broker_order(&channel.name);
            self.with_broker(|broker| broker.subscribe(&channel.name))
        });
        match with_timeout(self.config.broker_timeout, relayed).await {
            Some(relayed) => relayed.copied(),
            None => Err(BrokerError::new(TIMEOUT_TEXT)),
        }
    }

    /// Takes a channel without subscribers out of the map.
    pub(crate) fn remove_channel(&self, channel: &Arc<ChannelCore>) {
        let _order = self.channels.broker_order(&channel.name);
        if self.channels.remove_unused(channel, self.clock.millis()) && !channel.name.is_of_group() {
            drop(self.with_broker(|broker| {
                broker.unsubscribe(&channel.name);
                Answer::now(Ok(()))
            }));
        }
    }
}

/// What comes within this time. Outside of a tokio runtime there is no clock; nothing but the broker ends the wait.
async fn with_timeout<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    if Handle::try_current().is_err() {
        return Some(future.await);
    }
    crate::clock::timeout(timeout, future).await.ok()
}

const PANIC_TEXT: &str = "the broker panicked";
const TIMEOUT_TEXT: &str = "the broker did not answer in time";
