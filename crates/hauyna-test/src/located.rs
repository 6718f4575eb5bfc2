//! Failures that point to the test. A panic inside of an `async fn` shows a line of this crate; the futures
//! of this module check first and panic at the `.await` in the test. All helpers that wait return one.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a helper has got, or why the test fails.
pub(crate) type Checked<T> = Result<T, String>;

/// The future of a helper, which panics where it is awaited.
pub(crate) struct Located<F> {
    checked: Pin<Box<F>>,
    /// The line that called the helper, for futures that something else awaits, such as a timeout.
    called: &'static Location<'static>,
}

impl<T, F: Future<Output = Checked<T>>> Located<F> {
    #[track_caller]
    pub(crate) fn new(checked: F) -> Self {
        Self { checked: Box::pin(checked), called: Location::caller() }
    }
}

impl<T, F: Future<Output = Checked<T>>> Future for Located<F> {
    type Output = T;

    // `.await` calls it in the code of the test, so that is where the panic comes from.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let failure = match self.checked.as_mut().poll(cx) {
            Poll::Ready(Ok(value)) => return Poll::Ready(value),
            Poll::Ready(Err(failure)) => failure,
            Poll::Pending => return Poll::Pending,
        };
        if Location::caller().file() == self.called.file() {
            panic!("{failure}");
        }
        panic!("{failure}, in the call at {}", self.called);
    }
}

impl<F> fmt::Debug for Located<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Located").field("called", &self.called).finish_non_exhaustive()
    }
}
