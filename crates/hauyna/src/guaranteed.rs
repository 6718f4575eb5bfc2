//! A future that has to run: callbacks at the end of a connection. If its runtime ends before it has started,
//! the hub's background runs it.

use crate::contain::{Contained, Panicked};
use crate::hub::HubCore;
use hauyna_broker::BoxFuture;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A [`Contained`] future that has to run: if its runtime ends before it has started, it runs on another one.
pub(crate) struct Guaranteed {
    future: Contained<()>,
    hub: Arc<HubCore>,
    is_begun: bool,
}

impl Guaranteed {
    pub(crate) fn new(hub: &Arc<HubCore>, future: BoxFuture<()>) -> Self {
        Self { future: Contained::new(&hub.metrics.panics, future), hub: hub.clone(), is_begun: false }
    }
}

impl Future for Guaranteed {
    type Output = Result<(), Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.is_begun = true;
        Pin::new(&mut self.future).poll(cx)
    }
}

impl Drop for Guaranteed {
    fn drop(&mut self) {
        if let Some(future) = (!self.is_begun).then(|| self.future.take()).flatten() {
            self.hub.background.keep(future);
        }
    }
}

impl fmt::Debug for Guaranteed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guaranteed").field("is_begun", &self.is_begun).finish_non_exhaustive()
    }
}
