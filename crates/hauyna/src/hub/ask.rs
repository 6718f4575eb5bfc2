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
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.ask_or(ask, BrokerError::new)
    }

    /// As [`HubCore::ask`], for what may have been done though there is no answer.
    pub(crate) fn ask_to_do<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
    ) -> Answer<Result<T, BrokerError>> {
        self.ask_or(ask, BrokerError::unknown)
    }

    fn ask_or<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Broker) -> Answer<Result<T, BrokerError>>,
        failed: fn(&'static str) -> BrokerError,
    ) -> Answer<Result<T, BrokerError>> {
        let answer = contain::call(&self.metrics.panics, || ask(&*self.broker));
        let Ok(answer) = answer.map(Answer::into_now) else {
            return Answer::now(Err(failed(PANICKED)));
        };
        let later = match answer {
            Ok(now) => return Answer::now(now),
            Err(later) => later,
        };
        let (timeout, later) = (self.config.broker_timeout, Contained::new(&self.metrics.panics, later));
        Answer::later(async move {
            match within(timeout, later).await {
                Some(Ok(answer)) => answer,
                Some(Err(Panicked)) => Err(failed(PANICKED)),
                None => Err(failed(LATE)),
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
    pub(crate) async fn join(&self, channel: &ChannelCore) -> Result<(), BrokerError> {
        let relayed = channel.relayed.get_or_try_init(|| {
            let _order = self.channels.order(&channel.name);
            self.ask(|broker| broker.subscribe(&channel.name))
        });
        match within(self.config.broker_timeout, relayed).await {
            Some(relayed) => relayed.copied(),
            None => Err(BrokerError::new(LATE)),
        }
    }

    /// Takes a channel without subscribers out of the map.
    pub(crate) fn retire(&self, channel: &Arc<ChannelCore>) {
        let _order = self.channels.order(&channel.name);
        if self.channels.remove_unused(channel, self.clock.millis()) && !channel.name.is_of_group() {
            drop(self.ask(|broker| {
                broker.unsubscribe(&channel.name);
                Answer::now(Ok(()))
            }));
        }
    }
}

/// What comes within this time. Outside of a tokio runtime there is no clock; nothing but the broker ends the wait.
async fn within<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    if Handle::try_current().is_err() {
        return Some(future.await);
    }
    crate::clock::timeout(timeout, future).await.ok()
}

const PANICKED: &str = "the broker panicked";
const LATE: &str = "the broker did not answer in time";
