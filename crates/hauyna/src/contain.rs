//! Runs the application's code so that a panic ends only that call: closures, futures, and the destructors of
//! the application's values, which run wherever their last handle is dropped. Every module calls the
//! application through here, unless it is inside such a call already.

use crate::counters::Counter;
use hauyna_broker::BoxFuture;
use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Says that the application's code panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Calls the application's code, and counts a panic.
pub(crate) fn call<R>(panics: &Counter, f: impl FnOnce() -> R) -> Result<R, Panicked> {
    call_uncounted(f).inspect_err(|Panicked| panics.increment())
}

/// Drops values of the application, and counts panics of their destructors. Each value is dropped, even if
/// others panic.
pub(crate) fn discard<T>(panics: &Counter, values: impl IntoIterator<Item = T>) {
    for value in values {
        let _ = call(panics, || drop(value));
    }
}

/// Calls the application's code like [`call`], where there is no hub to count for.
pub(crate) fn call_uncounted<R>(f: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        drop_payload(payload);
        Panicked
    })
}

/// Drops the payload of a panic, which is the application's, too: its destructor may panic in turn.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// A value of the application that outlives the call in which it was given: a closure, a state. Its
/// destructor does not unwind into the code that drops it.
pub(crate) struct Foreign<T>(Option<T>);

impl<T> Foreign<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Foreign<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("invariant: it is taken out by `drop` alone")
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = call_uncounted(|| drop(value));
    }
}

/// A boxed future of the application. Neither its polls nor its destructor unwind; each panic is counted.
pub(crate) struct Contained<T: Send + 'static> {
    future: Option<BoxFuture<T>>,
    panics: Arc<Counter>,
}

impl<T: Send + 'static> Contained<T> {
    pub(crate) fn new(panics: &Arc<Counter>, future: BoxFuture<T>) -> Self {
        Self { future: Some(future), panics: panics.clone() }
    }

    /// Takes the future out; polls return an error from now on.
    pub(crate) fn take(&mut self) -> Option<BoxFuture<T>> {
        self.future.take()
    }

    fn discard(&mut self) {
        discard(&self.panics, self.future.take());
    }
}

impl<T: Send + 'static> Future for Contained<T> {
    type Output = Result<T, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else { return Poll::Ready(Err(Panicked)) };
        let polled = match call(&this.panics, || future.as_mut().poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        };
        if polled.is_ready() {
            this.discard();
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Contained<T> {
    fn drop(&mut self) {
        self.discard();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A value whose destructor counts the drop and panics.
    struct Bomb<'a>(&'a AtomicUsize);

    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("in drop");
        }
    }

    #[test]
    fn each_value_is_dropped_and_each_panic_counted_while_another_panic_unwinds_too() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Holder(Vec<Bomb<'static>>, Arc<Counter>);
        impl Drop for Holder {
            fn drop(&mut self) {
                discard(&self.1, self.0.drain(..));
            }
        }
        let panics = Arc::new(Counter::default());
        let holder = || Holder((0..3).map(|_| Bomb(&DROPPED)).collect(), panics.clone());
        drop(holder());
        assert_eq!((DROPPED.load(Ordering::Relaxed), panics.value()), (3, 3));
        let unwound = call_uncounted(|| {
            let _holder = holder();
            panic!("in a call");
        });
        assert_eq!(unwound, Err::<(), _>(Panicked));
        assert_eq!((DROPPED.load(Ordering::Relaxed), panics.value()), (6, 6));
    }

    #[test]
    fn what_a_panic_was_given_may_panic_too() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        let panics = Counter::default();
        let result = call(&panics, || std::panic::panic_any(Bomb(&DROPPED)));
        assert_eq!(result, Err::<(), _>(Panicked));
        assert_eq!((DROPPED.load(Ordering::Relaxed), panics.value()), (1, 1));
    }

    #[test]
    fn a_foreign_value_is_at_hand_and_its_destructor_is_contained() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        let foreign = Foreign::new(Bomb(&DROPPED));
        assert_eq!(foreign.0.as_ref().map(|bomb| bomb.0.load(Ordering::Relaxed)), Some(0));
        assert_eq!(foreign.deref().0.load(Ordering::Relaxed), 0);
        drop(foreign);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_future_that_panics_is_dropped_at_once_and_polled_no_more() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        let hub = crate::Hub::new().0;
        let bomb = Bomb(&DROPPED);
        let mut future = Contained::new(
            &hub.metrics.panics,
            Box::pin(async move {
                let _bomb = bomb;
                std::future::pending::<()>().await;
            }),
        );
        assert!(std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await.is_pending());
        drop(future);
        assert_eq!((DROPPED.load(Ordering::Relaxed), hub.metrics.panics.value()), (1, 1));
        let mut future = Contained::<u8>::new(&hub.metrics.panics, Box::pin(async { panic!("in a poll") }));
        assert_eq!((&mut future).await, Err(Panicked));
        assert_eq!(future.await, Err(Panicked));
        assert_eq!(hub.metrics.panics.value(), 2);
    }
}
