//! The part of a pattern's options that says who may do what, by functions that may wait. Asked by `dispatch`,
//! unless the handler has an authoriser of its own.

use super::{ChannelOptions, ChannelRequest};
use crate::broker::BoxFuture;
use crate::contain::Foreign;
use crate::error::Reject;
use crate::handler::Context;
use crate::once::call_once;
use std::future::Future;
use std::sync::Arc;

pub(crate) type Rule = Arc<dyn Fn(Context, ChannelRequest) -> BoxFuture<Result<(), Reject>> + Send + Sync>;

/// What was said for a pattern; none decides as the pattern is open or private.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    pub(crate) subscribe: Option<Rule>,
    pub(crate) publish: Option<Rule>,
    pub(crate) history: Option<Rule>,
    pub(crate) presence: Option<Rule>,
}

impl ChannelOptions {
    /// Decides who may subscribe, as [`ChannelOptions::authorize`] does, by a function that may wait and that sees the
    /// token and the metadata of the request. Where both are set, both must allow it. It is asked again where a subscriber
    /// replaces its metadata with `update_presence`: [`ChannelRequest::is_update`] tells it, and there is no token then.
    ///
    /// | who may… | by a handler | by a channel pattern | where neither says |
    /// |---|---|---|---|
    /// | subscribe | `authorize_subscribe` | `authorize` and `authorize_subscribe` | everybody; nobody where `private` |
    /// | publish (subscribers alone) | `authorize_publish` | `authorize_publish` | as `publishers` says |
    /// | read the history (subscribers alone) | `authorize_history` | `authorize_history` | every subscriber |
    /// | ask who is present (subscribers alone) | `authorize_presence` | `authorize_presence` | every subscriber |
    ///
    /// What a handler says stands instead of what the pattern says. The application itself is never asked. In a
    /// channel that matches no pattern clients may do nothing, unless the handler allows it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{ChannelOptions, Context, Hub, Reject};
    /// use hauyna::channel::ChannelRequest;
    ///
    /// async fn with_ticket(cx: Context, request: ChannelRequest) -> Result<(), Reject> {
    ///     let game = request.param("id").unwrap_or_default();
    ///     match request.token() {
    ///         Some(ticket) if ticket == format!("{game}:{}", cx.user()) => Ok(()),
    ///         _ => Err(Reject::denied("a ticket for this game is needed")),
    ///     }
    /// }
    ///
    /// let hub = Hub::builder().channels("game:{id}", ChannelOptions::new().authorize_subscribe(with_ticket)).build();
    /// # drop(hub);
    /// ```
    #[must_use]
    pub fn authorize_subscribe<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, ChannelRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        call_once(&mut self.rules.subscribe, rule(f), "authorize_subscribe");
        self
    }

    /// Decides which subscribers may publish, instead of [`ChannelOptions::publishers`].
    #[must_use]
    pub fn authorize_publish<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, ChannelRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        call_once(&mut self.rules.publish, rule(f), "authorize_publish");
        self
    }

    /// Decides which subscribers may ask for the history. What a recovery replays is part of the subscription: whoever may
    /// subscribe can read, from a position of its own choice, what the channel keeps.
    #[must_use]
    pub fn authorize_history<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, ChannelRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        call_once(&mut self.rules.history, rule(f), "authorize_history");
        self
    }

    /// Decides which subscribers may ask who is present. What a subscriber is told unasked is part of the subscription.
    #[must_use]
    pub fn authorize_presence<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Context, ChannelRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        call_once(&mut self.rules.presence, rule(f), "authorize_presence");
        self
    }
}

fn rule<F, Fut>(f: F) -> Rule
where
    F: Fn(Context, ChannelRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Reject>> + Send + 'static,
{
    let f = Arc::new(Foreign::new(f));
    Arc::new(move |cx, request| {
        let f = f.clone();
        Box::pin(async move { f(cx, request).await })
    })
}
