//! The authorisers of a channel pattern: who may subscribe, publish, read the history and query
//! presence. Called by `dispatch`, unless the handler has an authoriser of its own.

use super::{AccessRequest, ChannelOptions};
use crate::contain::Foreign;
use crate::error::Reject;
use crate::handler::{Context, IntoDecision};
use crate::once::call_once;
use hauyna_broker::Answer;
use std::sync::Arc;

/// An authoriser of a pattern or of a handler.
pub(crate) type Rule = Arc<dyn Fn(Context, AccessRequest) -> Answer<Result<(), Reject>> + Send + Sync>;

/// The authorisers of a pattern. Without one, the other options of the pattern decide.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    pub(crate) subscribe: Option<Rule>,
    pub(crate) publish: Option<Rule>,
    pub(crate) history: Option<Rule>,
    pub(crate) presence: Option<Rule>,
}

impl ChannelOptions {
    /// Sets a function that decides who may subscribe: `|cx, request| cx.user() == request["user"]`. It
    /// returns `bool` or `Result<(), Reject>`, or a future of one of them: it can be a closure or an
    /// `async fn`. It is called again when a subscriber replaces its metadata with `update_presence`: then
    /// [`AccessRequest::is_update`] is true, and there is no token.
    ///
    /// As all functions `authorize_…`, it is called on the task that reads from the connection, on a thread
    /// that serves many others: it must return at once and must not block. What has to wait, such as a query,
    /// goes into the future.
    ///
    /// | who may… | by a handler | by a channel pattern | where neither is set |
    /// |---|---|---|---|
    /// | subscribe | `authorize_subscribe` | `authorize_subscribe` | all; none where `private` |
    /// | publish | `authorize_publish` | `authorize_publish` | as `publishers` says |
    /// | read the history | `authorize_history` | `authorize_history` | every subscriber |
    /// | request who is present | `authorize_presence` | `authorize_presence` | every subscriber |
    ///
    /// All but the first are for subscribers only.
    ///
    /// An authoriser of the handler replaces that of the pattern. Nothing of this applies to the application
    /// itself. In a channel that matches no pattern, clients may do nothing unless the handler permits it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{ChannelOptions, Context, Hub, Reject};
    /// use hauyna::channel::AccessRequest;
    ///
    /// async fn with_ticket(cx: Context, request: AccessRequest) -> Result<(), Reject> {
    ///     let game = request.param("id").unwrap_or_default();
    ///     match request.token() {
    ///         Some(ticket) if ticket == format!("{game}:{}", cx.user()) => Ok(()),
    ///         _ => Err(Reject::denied("a ticket for this game is needed")),
    ///     }
    /// }
    ///
    /// let options = ChannelOptions::new().authorize_subscribe(with_ticket);
    /// let hub = Hub::builder().channels("game:{id}", options).build();
    /// # drop(hub);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn authorize_subscribe<F, D, M>(mut self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        call_once(&mut self.rules.subscribe, rule(f), "authorize_subscribe");
        self
    }

    /// Sets a function that decides which subscribers may publish, instead of [`ChannelOptions::publishers`].
    /// It must not block, see [`ChannelOptions::authorize_subscribe`].
    #[must_use]
    #[track_caller]
    pub fn authorize_publish<F, D, M>(mut self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        call_once(&mut self.rules.publish, rule(f), "authorize_publish");
        self
    }

    /// Sets a function that decides which subscribers may request the history. It does not apply to recovery,
    /// which is part of the subscription: a client that may subscribe can recover from any position that the
    /// channel keeps.
    /// It must not block, see [`ChannelOptions::authorize_subscribe`].
    #[must_use]
    #[track_caller]
    pub fn authorize_history<F, D, M>(mut self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        call_once(&mut self.rules.history, rule(f), "authorize_history");
        self
    }

    /// Sets a function that decides which subscribers may request who is present. It does not apply to the
    /// presence messages that every subscriber gets, which are part of the subscription.
    /// It must not block, see [`ChannelOptions::authorize_subscribe`].
    #[must_use]
    #[track_caller]
    pub fn authorize_presence<F, D, M>(mut self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        call_once(&mut self.rules.presence, rule(f), "authorize_presence");
        self
    }
}

/// Makes a rule of a function; the decision of one that is not asynchronous is ready at once.
pub(crate) fn rule<F, D, M>(f: F) -> Rule
where
    F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
    D: IntoDecision<M>,
{
    let f = Foreign::new(f);
    Arc::new(move |cx, request| f(cx, request).into_decision())
}
