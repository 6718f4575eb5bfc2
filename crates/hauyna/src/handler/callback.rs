//! Turns functions of the application into boxed callbacks: futures on the heap, typed input decoded before
//! the call, results converted to the data of an `ack`. The builder calls this.

use super::Context;
use super::input::decode_input;
use crate::error::Error;
use crate::validate::Validate;
use hauyna_broker::BoxFuture;
use hauyna_protocol::{ErrorType, Fault, Raw};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// A callback with an argument.
pub(super) type Task<A, T> = Box<dyn Fn(Context, A) -> BoxFuture<T> + Send + Sync>;

/// Makes a callback of a function. It is called inside the future: a panic is caught, and what it sends is
/// noted, where those of later polls are.
pub(super) fn call_in_future<A, T, F, Fut>(f: F) -> Task<A, T>
where
    A: Send + 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let f = Arc::new(f);
    Box::new(move |cx, argument| {
        let f = f.clone();
        Box::pin(async move { f(cx, argument).await })
    })
}

/// The handler of one event. If decoding fails, the function is not called.
pub(super) type EventTask = Box<dyn Fn(Context, Raw<'_>) -> Result<EventFuture, Fault> + Send + Sync>;

pub(super) type EventFuture = BoxFuture<Result<EventAnswer, Error>>;

/// The value that a handler returned, as the `data` of the `ack`; `None` for `()`.
pub(crate) type EventAnswer = Option<Value>;

/// The types of one event, by name: its data and its reply.
pub(crate) struct Signature {
    pub(crate) data: &'static str,
    pub(crate) reply: &'static str,
}

impl Signature {
    pub(super) fn of<T, R>() -> Self {
        Self { data: type_name::<T>(), reply: type_name::<R>() }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.data, self.reply)
    }
}

pub(super) fn decode_event<T, F, Fut, R>(f: F) -> EventTask
where
    T: DeserializeOwned + Send + 'static,
    F: Fn(Context, T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: Serialize,
{
    start_callback(f, |_| Ok(()))
}

/// Makes a handler like [`decode_event`], for input that also validates itself.
pub(super) fn decode_valid<T, F, Fut, R>(f: F) -> EventTask
where
    T: Validate + DeserializeOwned + Send + 'static,
    F: Fn(Context, T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: Serialize,
{
    start_callback(f, |input: &T| Ok(input.validate()?))
}

fn start_callback<T, F, Fut, R>(f: F, check: fn(&T) -> Result<(), Fault>) -> EventTask
where
    T: DeserializeOwned + Send + 'static,
    F: Fn(Context, T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: Serialize,
{
    let f = Arc::new(f);
    Box::new(move |cx, body| {
        let (f, input) = (f.clone(), decode_input(body)?);
        check(&input)?;
        // Called inside the future, as `call_in_future` does.
        Ok(Box::pin(async move {
            let value = serde_json::to_value(f(cx, input).await?)?;
            Ok((!value.is_null()).then_some(value))
        }))
    })
}

/// Makes a handler that triggers the application's event with a client's message.
pub(super) fn trigger_event(event: &str) -> EventTask {
    let event: Arc<str> = event.into();
    Box::new(move |cx, body| {
        let (event, message) = (event.clone(), body.as_json().into_owned());
        Ok(Box::pin(async move {
            let outcome = cx.hub().events().trigger_by(&event, &cx.connection(), &message).await;
            match outcome.failures.into_iter().next() {
                Some(failure) => Err(failure.error),
                None if outcome.ran == 0 => {
                    Err(Error::protocol(ErrorType::UnknownEvent, "no listener is registered for this event"))
                }
                None => Ok(None),
            }
        }))
    })
}
