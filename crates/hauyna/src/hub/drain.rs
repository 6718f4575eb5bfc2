//! The gentle end of a hub: it tells all clients to reconnect elsewhere, then closes the connections one by
//! one, evenly over a window, each when its requests are answered. One task with one timer does it, whatever
//! the number of connections and runtimes; the connections themselves are closed by their own tasks.

use super::shutdown::Stage;
use super::{Hub, HubCore};
use crate::background::{Due, Job};
use crate::close::CloseReason;
use crate::error::Error;
use crate::outbox::Backlog;
use crate::random::SplitMix64;
use crate::shard::yield_to_thread;
use hauyna_protocol::Message;
use hauyna_protocol::close::CloseCode;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Options of [`Hub::drain`].
///
/// # Examples
///
/// ```
/// use hauyna::{Drain, Hub};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let hub = Hub::new();
/// hub.drain(Drain::over(Duration::from_secs(10)).reason("deploy")).await.unwrap();
/// assert!(hub.is_stopping());
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Drain {
    window: Duration,
    reason: Cow<'static, str>,
    notice: Notice,
}

/// The plan of the first call, which every later call uses.
#[derive(Debug)]
pub(super) struct DrainPlan {
    until: Instant,
    pub(super) reason: Cow<'static, str>,
    notice: Notice,
}

/// Whether clients are notified of a drain before they are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    Reconnect,
    Silent,
}

impl Drain {
    /// Returns options that spread the closes over `window`, at most 24 hours. `Drain::default()` has 30 s.
    pub fn over(window: Duration) -> Self {
        Self { window: window.min(MAX_WINDOW), reason: Cow::Borrowed("drain"), notice: Notice::Reconnect }
    }

    /// Sets the reason sent to clients, in the `reconnect` message and in the close frame, there cut to 123
    /// bytes. The default is `drain`.
    pub fn reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Sends no `reconnect` before the closes: clients reconnect by their retry policy alone.
    pub fn silent(mut self) -> Self {
        self.notice = Notice::Silent;
        self
    }
}

impl Default for Drain {
    /// Returns a drain over 30 s.
    fn default() -> Self {
        Self::over(Duration::from_secs(30))
    }
}

impl Hub {
    /// Ends the hub gently. At once upgrades are refused with 503 and `Retry-After`, [`Hub::readiness`]
    /// reports the drain, and every client of the protocol gets `reconnect` with the window. Then the
    /// connections are closed with 3001 (come back), in a random order, evenly over the window, so that
    /// clients do not return as a herd. A close comes behind the queued messages and behind the answers to
    /// all requests that the server has read; a running callback has the rest of the window to finish.
    /// Publishing and ordinary HTTP go on until the end.
    ///
    /// Returns when the last connection is gone and the listeners of system events have run: at most 5 s
    /// after the window, because connections that are still open are ended then.
    /// [`Server`](crate::server::Server)s stop listening at that moment. A second call waits for the end of
    /// the first one, whatever its options; [`Hub::shutdown`] cuts a drain short. Nothing happens before it
    /// is awaited.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime) outside of a Tokio runtime; then the
    /// drain has not begun.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the drain goes on; if its runtime ends, it goes on in another one that has
    /// connections.
    pub async fn drain(&self, drain: Drain) -> Result<(), Error> {
        crate::clock::runtime()?;
        self.0.begin(drain);
        self.0.until_drained().await;
        Ok(())
    }
}

impl HubCore {
    fn begin(&self, drain: Drain) {
        let Drain { window, reason, notice } = drain;
        self.lifecycle.plan.get_or_init(|| DrainPlan { until: crate::clock::after(window), reason, notice });
        if self.lifecycle.advance(Stage::Draining) {
            let (connections, window_ms) = (self.registry.count(), millis(window));
            tracing::info!(target: "hauyna::server", connections, window_ms, "draining");
        }
        self.background.ensure_running(Job::Drain);
    }

    /// Runs the drain to its end, from its start or from where a task stopped whose runtime ended.
    pub(crate) async fn run_drain(self: &Arc<Self>) -> Due {
        if let (Stage::Draining, Some(plan)) = (self.lifecycle.stage(), self.lifecycle.plan.get()) {
            tokio::select! {
                () = self.lifecycle.until_stopped() => {}
                () = self.until_empty() => {}
                () = self.close_over_window(plan) => {}
            }
        }
        // Without timers there is nothing left to wait for.
        let late = self.wait_until_empty(CLOSE_GRACE, CloseReason::Drain).await.unwrap_or_default();
        if late > 0 {
            // Their tasks have yet to notice that they are ended.
            let _ = tokio::time::timeout(FINAL_GRACE, self.until_empty()).await;
        }
        if self.lifecycle.advance(Stage::Stopped) {
            tracing::info!(target: "hauyna::server", late, "drained");
        }
        self.lifecycle.end_drain();
        Due::Never
    }

    /// Notifies all connections, closes them one after the other, and closes the rest at the end of the
    /// window.
    async fn close_over_window(&self, plan: &DrainPlan) {
        let start = Instant::now();
        let window = plan.until.saturating_duration_since(start);
        let mut leaving = Vec::new();
        for (index, connection) in self.registry.all().into_iter().enumerate() {
            if plan.notice == Notice::Reconnect {
                // A connection that is closed already needs no notice.
                let _ = connection.sender().send_message(&Message::Reconnect {
                    min: 0,
                    max: millis(window),
                    reason: &plan.reason,
                });
            }
            leaving.push(connection.id());
            if index % MAX_NOTIFIED_PER_TURN == MAX_NOTIFIED_PER_TURN - 1 {
                yield_to_thread().await;
            }
        }
        let mut dice = SplitMix64::new();
        dice.shuffle(&mut leaving);
        let slot = window.div_f64(leaving.len().max(1) as f64);
        for (index, id) in leaving.iter().enumerate() {
            let due = start + slot.mul_f64(index as f64 + dice.next_f64());
            tokio::time::sleep_until(due.min(plan.until)).await;
            if let Some(connection) = self.registry.by_id(*id) {
                connection.close_when_answered();
            }
        }
        tokio::time::sleep_until(plan.until).await;
        for connection in self.registry.all() {
            connection.close(CloseCode::DRAIN, &plan.reason, CloseReason::Drain, Backlog::Write);
        }
    }
}

/// Returns milliseconds, rounded up, so that clients get the window that was asked for and not a moment less.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// Together with [`FINAL_GRACE`] the 5 s after the window.
const CLOSE_GRACE: Duration = Duration::from_millis(4500);
const FINAL_GRACE: Duration = Duration::from_millis(400);
/// Connections notified before other tasks get their turn.
const MAX_NOTIFIED_PER_TURN: usize = 128;
