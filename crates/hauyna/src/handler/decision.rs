//! What an authoriser returns: a decision, or a future of one. The authorisers of a handler and of a channel
//! pattern share it; `channel::rules` calls it.

use crate::auth::{IsFuture, IsValue};
use crate::error::Reject;
use hauyna_broker::Answer;
use std::future::Future;

/// A value with which a function decides about a client's request: `true` or `Ok(())` permits it, `false` or
/// a [`Reject`] refuses it. A future of such a value decides later. The parameter only distinguishes the two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not decide whether a request is permitted",
    label = "expected `bool`, `Result<(), Reject>` or a `Send` future of one of them",
    note = "return `true`, `false`, `Ok(())` or `Err(Reject::denied(..))`; a future must be `Send + 'static`: \
            clone what it needs before `async move`"
)]
pub trait IntoDecision<M>: Send {
    /// Converts the value into the decision, which is ready at once where it is no future.
    fn into_decision(self) -> Answer<Result<(), Reject>>;
}

impl IntoDecision<IsValue> for bool {
    fn into_decision(self) -> Answer<Result<(), Reject>> {
        Answer::now(if self { Ok(()) } else { Err(Reject::denied("you may not do this")) })
    }
}

impl IntoDecision<IsValue> for Result<(), Reject> {
    fn into_decision(self) -> Answer<Result<(), Reject>> {
        Answer::now(self)
    }
}

impl<Fut, D> IntoDecision<IsFuture> for Fut
where
    Fut: Future<Output = D> + Send + 'static,
    D: IntoDecision<IsValue>,
{
    fn into_decision(self) -> Answer<Result<(), Reject>> {
        Answer::later(async move { self.await.into_decision().await })
    }
}
