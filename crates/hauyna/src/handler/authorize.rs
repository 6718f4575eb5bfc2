//! The part of the builder that decides about permissions: one callback for each kind of request, instead of
//! the channel pattern's own rule. `dispatch::authority` calls them through the endpoint.

use super::{Action, Context, Handler, IntoDecision};
use crate::channel::{AccessRequest, rule};
use crate::once::call_once;

impl Handler {
    /// Decides about `subscribe_channel` and `update_presence`, instead of the channel pattern's own rules:
    /// also about private channels, and about channels that no pattern declares.
    ///
    /// As all functions `authorize_…`, `f` returns `bool` or `Result<(), Reject>`, or a future of one of
    /// them. It is called on the task that reads from the connection, on a thread that serves many others: it
    /// must return at once and must not block. What has to wait, such as a query, goes into the future.
    #[track_caller]
    pub fn authorize_subscribe<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::Subscribe, f)
    }

    /// Decides about `channel_message`, instead of the channel pattern's own rule. The client is subscribed.
    /// It must not block, see [`Handler::authorize_subscribe`].
    #[track_caller]
    pub fn authorize_publish<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::Publish, f)
    }

    /// Decides about `history`, instead of the channel pattern's own rule. The client is subscribed.
    /// It must not block, see [`Handler::authorize_subscribe`].
    #[track_caller]
    pub fn authorize_history<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::History, f)
    }

    /// Decides about `presence`, instead of the channel pattern's own rule. The client is subscribed.
    /// It must not block, see [`Handler::authorize_subscribe`].
    #[track_caller]
    pub fn authorize_presence<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::Presence, f)
    }

    /// Decides about `private`; the name of the request is the receiver's. Without it every client may send
    /// to every user.
    /// It must not block, see [`Handler::authorize_subscribe`].
    #[track_caller]
    pub fn authorize_private<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::Private, f)
    }

    /// Decides about `group`, instead of the sender's permission `send` in that group; the name of the
    /// request is the group's.
    /// It must not block, see [`Handler::authorize_subscribe`].
    #[track_caller]
    pub fn authorize_group<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::Group, f)
    }

    /// Decides about `broadcast`. Without it no client may broadcast.
    /// It must not block, see [`Handler::authorize_subscribe`].
    #[track_caller]
    pub fn authorize_broadcast<F, D, M>(self, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        self.authorize(Action::Broadcast, f)
    }

    #[track_caller]
    fn authorize<F, D, M>(mut self, action: Action, f: F) -> Self
    where
        F: Fn(Context, AccessRequest) -> D + Send + Sync + 'static,
        D: IntoDecision<M>,
    {
        let method = action.method();
        self.assert_handles_messages(method);
        call_once(&mut self.endpoint.authorize[action as usize], rule(f), method);
        self
    }
}
