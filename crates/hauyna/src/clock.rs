//! The one clock: wall time for people, monotonic time (which tests can pause) for deadlines. Every duration
//! that an application sets becomes an instant here, so that none can overflow; the timers are here, too, and
//! fail with an error if there is no runtime.

pub(crate) use hauyna_broker::unix_ms;

use crate::contain;
use crate::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The longest duration that is used: thirty years. Every instant of a running process plus this duration can
/// be represented on every platform, and twice or four times this duration still fits into a `Duration`.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the instant that is `time` from now, at most [`MAX_TIME`] ahead.
pub(crate) fn after(time: Duration) -> Instant {
    later(Instant::now(), time)
}

/// Returns the instant that is `time` after another one, at most [`MAX_TIME`] after it.
pub(crate) fn later(from: Instant, time: Duration) -> Instant {
    from.checked_add(time.min(MAX_TIME)).unwrap_or(from)
}

/// Why a future did not finish in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeoutError {
    /// The time is over.
    Elapsed,
    /// There is no runtime here, or it has no timers, or it has shut down.
    NoTimers,
}

impl TimeoutError {
    /// Returns the error for the caller of a public method; `elapsed` makes it if there was a timer.
    pub(crate) fn error(self, elapsed: impl FnOnce() -> Error) -> Error {
        match self {
            Self::Elapsed => elapsed(),
            Self::NoTimers => Error::no_runtime(),
        }
    }
}

/// Returns the current runtime.
///
/// # Errors
///
/// [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime).
pub(crate) fn runtime() -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| Error::no_runtime())
}

/// Checks that the current runtime has timers.
///
/// # Errors
///
/// `NoRuntime`: there is no runtime, or it has no timers.
pub(crate) fn timers() -> Result<(), Error> {
    contain::call_uncounted(|| drop(tokio::time::sleep(Duration::ZERO))).map_err(|_| Error::no_runtime())
}

/// Waits for a future, at most for this time.
///
/// # Errors
///
/// The time is over; or there are no timers here, where tokio's own would panic.
pub(crate) async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Result<T, TimeoutError> {
    if Handle::try_current().is_err() {
        return Err(TimeoutError::NoTimers);
    }
    let Ok(sleep) = contain::call_uncounted(|| tokio::time::sleep_until(after(time))) else {
        return Err(TimeoutError::NoTimers);
    };
    let mut future = pin!(future);
    // Outside of tokio's budget: a future that always uses it up must not keep its own deadline from being
    // checked.
    let mut sleep = pin!(tokio::task::unconstrained(sleep));
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        let slept = contain::call_uncounted(|| sleep.as_mut().poll(cx));
        slept.map_or(Poll::Ready(Err(TimeoutError::NoTimers)), |slept| {
            slept.map(|()| Err(TimeoutError::Elapsed))
        })
    })
    .await
}

pub(crate) fn to_unix_ms(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the milliseconds from now to a moment; 0 if it is past.
pub(crate) fn ms_until(moment: SystemTime) -> u64 {
    let remaining = moment.duration_since(SystemTime::now()).unwrap_or_default();
    u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since a hub was built, never 0; four bytes, as each connection keeps several. 1 is
/// [`Tick::RECENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    /// A moment since the last sweep. The start of a deadline is noted as this, which costs no reading of the
    /// clock; the next sweep [assigns](Tick::assign_time) its own time. So no deadline is ever early, and
    /// each is late by at most two sweeps: the one that assigns its start, and the one that finds it over.
    pub(crate) const RECENT: Self = Self(1);

    /// Gives a recent moment the time of the sweep that finds it, rounded up.
    pub(crate) fn assign_time(self, now: impl FnOnce() -> Self) -> Self {
        if self == Self::RECENT { now().after(Duration::from_millis(1)) } else { self }
    }

    /// Like [`assign_time`](Tick::assign_time), for a moment that other threads may set meanwhile. 0 means
    /// none.
    pub(crate) fn assign_time_in(moment: &AtomicU32, now: impl FnOnce() -> Self) {
        if moment.load(Ordering::Relaxed) == Self::RECENT.0 {
            let dated = Self::RECENT.assign_time(now).0;
            let _ = moment.compare_exchange(Self::RECENT.0, dated, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Returns the tick `time` later, at most 24 days: ticks further away cannot be told from the past.
    pub(crate) fn after(self, time: Duration) -> Self {
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).min(MAX_TICK);
        Self(self.0.wrapping_add(millis).max(2))
    }

    /// Moves a moment that is more than 24 days ago to 24 days ago: beyond, ticks cannot tell it from a later
    /// one. Called about once a second for each moment that is kept that long.
    pub(crate) fn keep_past(self, moment: &AtomicU32) {
        let then = moment.load(Ordering::Relaxed);
        if then == Self::RECENT.0 {
            return;
        }
        if self.0.wrapping_sub(then) > MAX_TICK && self.since(Self(then)) > Duration::ZERO {
            let _ = moment.compare_exchange(
                then,
                self.0.wrapping_sub(MAX_TICK).max(2),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// Returns the time between two ticks; zero if `earlier` is later. Correct across the wrap after 49 days.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let passed = self.0.wrapping_sub(earlier.0);
        if passed > u32::MAX / 2 { Duration::ZERO } else { Duration::from_millis(passed.into()) }
    }
}

/// 24 days, in milliseconds.
const MAX_TICK: u32 = 24 * 24 * 60 * 60 * 1000;

/// Counts ticks from its creation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the milliseconds since its creation; does not wrap.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn tick(&self) -> Tick {
        self.at(Instant::now())
    }

    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap by design")]
    pub(crate) fn at(&self, now: Instant) -> Tick {
        Tick((now.duration_since(self.0).as_millis() as u32).max(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_without_end_become_instants_in_the_far_future() {
        let now = Instant::now();
        for time in
            [MAX_TIME, Duration::from_secs(i64::MAX as u64), Duration::from_secs(u64::MAX), Duration::MAX]
        {
            assert_eq!(later(now, time), now + MAX_TIME);
        }
        assert_eq!(later(now, Duration::ZERO), now);
        assert_eq!(Tick(7).after(Duration::MAX), Tick(7).after(Duration::from_secs(24 * 24 * 60 * 60)));
        assert_eq!(Tick(7).after(Duration::from_millis(1 << 32)).since(Tick(7)).as_secs(), 24 * 24 * 60 * 60);
    }

    #[test]
    fn a_timeout_without_timers_is_an_error_and_no_panic() {
        fn poll<T>(future: impl Future<Output = T>) -> T {
            let mut future = pin!(future);
            match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(value) => value,
                Poll::Pending => panic!("it waits"),
            }
        }
        let never = || timeout(Duration::MAX, std::future::pending::<()>());
        assert_eq!(poll(never()), Err(TimeoutError::NoTimers));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(never()), Err(TimeoutError::NoTimers), "it has no timers");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        assert_eq!(poll(never()), Err(TimeoutError::NoTimers), "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_kept_by_a_future_that_is_always_ready_to_go_on() {
        let busy = async {
            loop {
                tokio::task::consume_budget().await;
            }
        };
        let began = std::time::Instant::now();
        let real = tokio::spawn(async move { timeout(Duration::ZERO, busy).await });
        assert_eq!(real.await.unwrap(), Err::<(), _>(TimeoutError::Elapsed));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn ticks_are_compared_across_their_wrap() {
        assert_eq!(Tick(5).since(Tick(u32::MAX - 4)), Duration::from_millis(10));
        assert_eq!(Tick(5).since(Tick(9)), Duration::ZERO);
    }

    #[test]
    fn a_recent_moment_is_dated_once_and_never_before_it_was() {
        assert_eq!(Tick::RECENT.assign_time(|| Tick(500)), Tick(501));
        assert_eq!(Tick(7).assign_time(|| unreachable!("it has its date")), Tick(7));
        let moment = AtomicU32::new(Tick::RECENT.0);
        Tick(900_000).keep_past(&moment);
        Tick::assign_time_in(&moment, || Tick(20));
        Tick::assign_time_in(&moment, || unreachable!("it has its date"));
        assert_eq!(moment.load(Ordering::Relaxed), 21);
        let none = AtomicU32::new(0);
        Tick::assign_time_in(&none, || unreachable!("there is none"));
        assert_eq!(none.load(Ordering::Relaxed), 0);
        assert!(Clock::start().tick() > Tick::RECENT && Tick(0).after(Duration::ZERO) > Tick::RECENT);
    }

    #[test]
    fn a_moment_of_long_ago_stays_in_the_past() {
        let moment = AtomicU32::new(7);
        let mut now = Tick(7);
        for _ in 0..200 {
            now = Tick(now.0.wrapping_add(12 * 60 * 60 * 1000));
            now.keep_past(&moment);
            assert!(now.since(Tick(moment.load(Ordering::Relaxed))) >= Duration::from_secs(12 * 60 * 60));
        }
        assert_eq!(now.since(Tick(moment.load(Ordering::Relaxed))), Duration::from_secs(24 * 24 * 60 * 60));
        let ahead = AtomicU32::new(now.0.wrapping_add(5));
        now.keep_past(&ahead);
        assert_eq!(ahead.load(Ordering::Relaxed), now.0.wrapping_add(5));
    }
}
