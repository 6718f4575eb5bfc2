//! A value that is ready now or later: what a broker answers with, and what callers match to stay in line.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A value that is ready now, or later: the local broker answers in line, without a task switch. Await it to
/// get the value in either case.
///
/// Exhaustive: a value is ready or it is not, and those who await answers in line match both.
pub enum Answer<T> {
    /// The value.
    Ready(T),
    /// The future that gives the value.
    Pending(BoxFuture<T>),
}

/// A boxed future that any thread may run.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Answer<T> {
    /// Creates an answer that is ready.
    pub fn now(value: T) -> Self {
        Self::Ready(value)
    }

    /// Creates an answer that a future will give.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Pending(Box::pin(future))
    }
}

impl<T> IntoFuture for Answer<T> {
    type Output = T;
    type IntoFuture = AnswerFuture<T>;

    fn into_future(self) -> AnswerFuture<T> {
        AnswerFuture(match self {
            Self::Ready(value) => State::Ready(Some(value)),
            Self::Pending(future) => State::Pending(future),
        })
    }
}

/// The future of an [`Answer`].
pub struct AnswerFuture<T>(State<T>);

enum State<T> {
    Ready(Option<T>),
    Pending(BoxFuture<T>),
}

// The value is only ever moved out, never pinned.
impl<T> Unpin for AnswerFuture<T> {}

impl<T> Future for AnswerFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Ready(value) => {
                Poll::Ready(value.take().expect("invariant: not polled again after completion"))
            }
            State::Pending(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Answer::Ready",
            Self::Pending(_) => "Answer::Pending",
        })
    }
}

impl<T> fmt::Debug for AnswerFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerFuture").finish_non_exhaustive()
    }
}
