//! Decides whether a client may do what it requests: by the handler's callback, else by the rule of the
//! channel's pattern, else by whether the pattern is open or private. `channels` and `direct` call it before
//! anything is done.

use super::{Core, Next, Reply, permission_denied};
use crate::answer::BoxFuture;
use crate::channel::{Access, ChannelRequest, Publishers, Rule, Subscription};
use crate::close::CloseReason;
use crate::error::{Error, Reject};
use crate::handler::{Action, Context};
use crate::name::ChannelName;
use hauyna_protocol::RequestId;
use hauyna_protocol::close::{Reconnect, should_reconnect};
use std::sync::Arc;

/// Whether a client may do something, or the future that decides it.
pub(super) enum Verdict {
    Allowed,
    Refused(Error),
    Pending(BoxFuture<Result<(), Reject>>),
}

impl Verdict {
    /// Runs `action` at once if it is allowed, and inside one future if a callback has to decide first. Then
    /// the action gets the moment at which the request began to wait, and has to check again what may have
    /// changed.
    pub(super) fn then<F>(self, core: &Core, id: Option<RequestId>, action: F) -> Next
    where
        F: FnOnce(&Core, Option<RequestId>, Option<RequestStart>) -> Next + Send + 'static,
    {
        match self {
            Self::Refused(error) => Next::Now(Reply::refused(id, error)),
            Self::Allowed => action(core, id, None),
            Self::Pending(allowed) => {
                let (core, start) = (core.clone(), RequestStart::now(core));
                Next::Later(Box::pin(async move {
                    if let Err(reject) = allowed.await {
                        return Reply::refused(id, reject.into());
                    }
                    match action(&core, id, Some(start)) {
                        Next::Now(reply) => reply,
                        Next::Later(reply) => reply.await,
                    }
                }))
            }
        }
    }
}

pub(super) fn subscribe(
    core: &Core,
    name: &ChannelName,
    token: Option<Box<str>>,
    metadata: Option<Arc<str>>,
) -> Verdict {
    if let Some(verdict) = handler_verdict(core, Action::Subscribe, name.as_str()) {
        return verdict;
    }
    let (options, params) = core.hub().declarations.resolve(name.as_str());
    let cx = Context::new(core.clone());
    let is_refused = match (&options.authorize, options.access) {
        (_, Access::Undeclared) => true,
        (None, access) => access == Access::Private && options.rules.subscribe.is_none(),
        (Some(authorize), _) => !authorize(&cx, &params),
    };
    if is_refused {
        return Verdict::Refused(permission_denied("you may not subscribe to this channel"));
    }
    match &options.rules.subscribe {
        None => Verdict::Allowed,
        Some(rule) => {
            Verdict::Pending(rule(cx, ChannelRequest::new(name.clone(), &params).with(token, metadata)))
        }
    }
}

pub(super) fn publish(core: &Core, subscription: &Subscription) -> Verdict {
    let options = &subscription.channel.options;
    match channel_verdict(core, Action::Publish, subscription, options.rules.publish.as_ref()) {
        Verdict::Allowed if options.publishers != Publishers::Subscribers => {
            Verdict::Refused(permission_denied("clients may not publish in this channel"))
        }
        verdict => verdict,
    }
}

pub(super) fn history(core: &Core, subscription: &Subscription) -> Verdict {
    let rule = subscription.channel.options.rules.history.as_ref();
    channel_verdict(core, Action::History, subscription, rule)
}

pub(super) fn presence(core: &Core, subscription: &Subscription) -> Verdict {
    let rule = subscription.channel.options.rules.presence.as_ref();
    channel_verdict(core, Action::Presence, subscription, rule)
}

/// Decides about new metadata of a subscriber, by the rule that saw it when the client subscribed.
pub(super) fn update_presence(core: &Core, subscription: &Subscription, metadata: &Arc<str>) -> Verdict {
    let Some(rule) = &subscription.channel.options.rules.subscribe else { return Verdict::Allowed };
    if core.endpoint().authorizer(Action::Subscribe).is_some() {
        return Verdict::Allowed; // the handler's callback sees no metadata
    }
    let name = &subscription.channel.name;
    let (_, params) = core.hub().declarations.resolve(name.as_str());
    let request = ChannelRequest::new(name.clone(), &params).update(metadata.clone());
    Verdict::Pending(rule(Context::new(core.clone()), request))
}

/// The moment at which a request began to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestStart {
    /// Number of revocations that there had been.
    revocations: u64,
}

impl RequestStart {
    pub(super) fn now(core: &Core) -> Self {
        Self { revocations: core.hub().revocations.made() }
    }

    /// Checks again whether the client may do anything. It may not after a revocation, whatever became of the
    /// connection, after its credentials have expired, or after the application has closed the connection for
    /// good. A connection that was merely lost had its rights.
    ///
    /// # Errors
    ///
    /// `unauthorized`.
    pub(super) fn check_rights(self, core: &Core) -> Result<(), Error> {
        core.check_revoked_since(self.revocations)?;
        let has_lost_rights = match core.reason() {
            Some(CloseReason::Expired) => true,
            Some(CloseReason::Application(code)) => should_reconnect(code) == Reconnect::StayAway,
            _ => false,
        };
        if has_lost_rights {
            Err(Reject::unauthorized("the application has closed this connection").into())
        } else {
            Ok(())
        }
    }
}

fn channel_verdict(core: &Core, action: Action, subscription: &Subscription, rule: Option<&Rule>) -> Verdict {
    let name = &subscription.channel.name;
    if let Some(verdict) = handler_verdict(core, action, name.as_str()) {
        return verdict;
    }
    let Some(rule) = rule else { return Verdict::Allowed };
    let (_, params) = core.hub().declarations.resolve(name.as_str());
    Verdict::Pending(rule(Context::new(core.clone()), ChannelRequest::new(name.clone(), &params)))
}

/// Returns the decision of the handler's callback, if it has one for this action. `name` is what the action
/// is about.
pub(super) fn handler_verdict(core: &Core, action: Action, name: &str) -> Option<Verdict> {
    let authorizer = core.endpoint().authorizer(action)?;
    Some(Verdict::Pending(authorizer(Context::new(core.clone()), name.to_owned())))
}
