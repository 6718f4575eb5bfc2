//! May this client do that in this channel? The handler is asked, else the channel's pattern, else it is as the
//! pattern is open or private. Called for every request about a channel, before anything is done.

use super::{Core, permission_denied};
use crate::broker::BoxFuture;
use crate::channel::{Access, ChannelName, ChannelRequest, Publishers, Rule, Subscription};
use crate::connection::CloseReason;
use crate::error::{Error, Reject};
use crate::handler::{Action, Context};
use hauyna_protocol::close::{Reconnect, should_reconnect};
use std::sync::Arc;

/// An answer, or who has it.
pub(super) enum Verdict {
    Allowed,
    Refused(Error),
    Pending(BoxFuture<Result<(), Reject>>),
}

pub(super) fn subscribe(
    core: &Core,
    name: &ChannelName,
    (token, metadata): (Option<Box<str>>, Option<Arc<str>>),
) -> Verdict {
    if let Some(asked) = handler(core, Action::Subscribe, name) {
        return asked;
    }
    let (options, params) = core.hub().declarations.resolve(name.as_str());
    let cx = Context::new(core.clone());
    let is_refused = match (&options.authorize, options.access) {
        (_, Access::Undeclared) => true,
        (None, access) => access == Access::Private && options.rules.subscribe.is_none(),
        (Some(authorize), _) => !authorize(&cx, &params),
    };
    if is_refused {
        return Verdict::Refused(permission_denied("this channel is not open to you"));
    }
    match &options.rules.subscribe {
        None => Verdict::Allowed,
        Some(rule) => {
            Verdict::Pending(rule(cx, ChannelRequest::new(name.clone(), &params).with(token, metadata)))
        }
    }
}

pub(super) fn publish(core: &Core, own: &Subscription) -> Verdict {
    let options = &own.channel.options;
    match pending_verdict(core, Action::Publish, (own, options.rules.publish.as_ref())) {
        Verdict::Allowed if options.publishers != Publishers::Subscribers => {
            Verdict::Refused(permission_denied("clients do not publish in this channel"))
        }
        verdict => verdict,
    }
}

pub(super) fn history(core: &Core, own: &Subscription) -> Verdict {
    pending_verdict(core, Action::History, (own, own.channel.options.rules.history.as_ref()))
}

pub(super) fn presence(core: &Core, own: &Subscription) -> Verdict {
    pending_verdict(core, Action::Presence, (own, own.channel.options.rules.presence.as_ref()))
}

/// What a subscriber says about itself is decided about by whoever has seen it when it subscribed.
pub(super) fn update_presence(core: &Core, own: &Subscription, metadata: &Arc<str>) -> Verdict {
    let Some(rule) = &own.channel.options.rules.subscribe else { return Verdict::Allowed };
    if core.endpoint().authorizer(Action::Subscribe).is_some() {
        return Verdict::Allowed; // a handler's sees no metadata
    }
    let name = &own.channel.name;
    let (_, params) = core.hub().declarations.resolve(name.as_str());
    let request = ChannelRequest::new(name.clone(), &params).update(metadata.clone());
    Verdict::Pending(rule(Context::new(core.clone()), request))
}

/// When a request began to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestStart {
    /// How many revocations there had been.
    revocations: u64,
}

impl RequestStart {
    pub(super) fn now(core: &Core) -> Self {
        Self { revocations: core.hub().revocations.made() }
    }

    /// Looks again whether the client may do anything: rights go with a revocation, whatever became of the connection, with
    /// the end of the credentials, and where the application sends the client away for good. One that was merely lost
    /// had them.
    ///
    /// # Errors
    ///
    /// `unauthorized`.
    pub(super) fn check_rights(self, core: &Core) -> Result<(), Error> {
        core.check_revoked_since(self.revocations)?;
        let are_gone = match core.reason() {
            Some(CloseReason::Expired) => true,
            Some(CloseReason::Application(code)) => should_reconnect(code) == Reconnect::StayAway,
            _ => false,
        };
        if are_gone { Err(Reject::unauthorized("this connection was sent away").into()) } else { Ok(()) }
    }
}

fn pending_verdict(core: &Core, verb: Action, (own, rule): (&Subscription, Option<&Rule>)) -> Verdict {
    let name = &own.channel.name;
    if let Some(asked) = handler(core, verb, name) {
        return asked;
    }
    let Some(rule) = rule else { return Verdict::Allowed };
    let (_, params) = core.hub().declarations.resolve(name.as_str());
    Verdict::Pending(rule(Context::new(core.clone()), ChannelRequest::new(name.clone(), &params)))
}

fn handler(core: &Core, verb: Action, name: &ChannelName) -> Option<Verdict> {
    let authorizer = core.endpoint().authorizer(verb)?;
    Some(Verdict::Pending(authorizer(Context::new(core.clone()), name.as_str().to_owned())))
}
