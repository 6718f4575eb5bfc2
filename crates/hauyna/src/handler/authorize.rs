//! The part of the builder that decides about permissions: one callback for each kind of request, instead of
//! the channel pattern's own rule. `dispatch::authority` calls them through the endpoint.

use super::callback::erase;
use super::{Action, Context, Handler};
use crate::error::Reject;
use crate::once::call_once;
use std::future::Future;

impl Handler {
    /// Decides about `subscribe_channel`, instead of the channel pattern's own rule.
    pub fn authorize_subscribe<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::Subscribe, f)
    }

    /// Decides about `channel_message`, instead of the channel pattern's own rule. The client is subscribed.
    pub fn authorize_publish<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::Publish, f)
    }

    /// Decides about `history`, instead of the channel pattern's own rule. The client is subscribed.
    pub fn authorize_history<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::History, f)
    }

    /// Decides about `presence`, instead of the channel pattern's own rule. The client is subscribed.
    pub fn authorize_presence<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::Presence, f)
    }

    /// Decides about `private`, by the receiver's name. Without it every client may send to every user.
    pub fn authorize_private<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::Private, f)
    }

    /// Decides about `group`, by the group's name, instead of the sender's permission `send` in that group.
    pub fn authorize_group<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::Group, f)
    }

    /// Decides about `broadcast`. Without it no client may broadcast.
    pub fn authorize_broadcast<F, Fut>(self, f: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        self.authorize(Action::Broadcast, move |cx, _| f(cx))
    }

    #[track_caller]
    fn authorize<F, Fut>(mut self, action: Action, f: F) -> Self
    where
        F: Fn(Context, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Reject>> + Send + 'static,
    {
        let method = action.method();
        self.assert_handles_messages(method);
        call_once(&mut self.endpoint.authorize[action as usize], erase(f), method);
        self
    }
}
