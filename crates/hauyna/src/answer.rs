//! A value that is ready now or later: what a broker answers with, and what callers match to stay in line.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A value that is ready now, or later: the local broker answers in line, without a task switch.
pub struct Answer<T>(State<T>);

enum State<T> {
    Now(Option<T>),
    Later(BoxFuture<T>),
}

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Answer<T> {
    /// Creates an answer that is ready.
    pub fn now(value: T) -> Self {
        Self(State::Now(Some(value)))
    }

    /// Creates an answer that a future will give.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(State::Later(Box::pin(future)))
    }
}

// The value is only ever moved out, never pinned.
impl<T> Unpin for Answer<T> {}

impl<T> Future for Answer<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Now(value) => Poll::Ready(value.take().expect("invariant: polled once after completion")),
            State::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Now(_) => "Answer::now",
            State::Later(_) => "Answer::later",
        })
    }
}

impl<T> Answer<T> {
    /// Returns the value, or the future that will give it.
    pub(crate) fn into_now(self) -> Result<T, BoxFuture<T>> {
        match self.0 {
            State::Now(value) => Ok(value.expect("invariant: not polled before")),
            State::Later(future) => Err(future),
        }
    }
}
