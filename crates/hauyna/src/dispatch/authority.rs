//! May this client do that in this channel? The handler is asked, else the channel's pattern, else it is as the
//! pattern is open or private. Called for every request about a channel, before anything is done.

use super::{Core, denied};
use crate::broker::BoxFuture;
use crate::channel::{Access, ChannelName, ChannelRequest, Publishers, Rule, Subscription};
use crate::error::{Error, Reject};
use crate::handler::{Context, Verb};
use std::sync::Arc;

/// An answer, or who has it.
pub(super) enum Verdict {
    Allowed,
    Refused(Error),
    Asked(BoxFuture<Result<(), Reject>>),
}

pub(super) fn subscribe(
    core: &Core,
    name: &ChannelName,
    (token, metadata): (Option<Box<str>>, Option<Arc<str>>),
) -> Verdict {
    if let Some(asked) = handler(core, Verb::Subscribe, name) {
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
        return Verdict::Refused(denied("this channel is not open to you"));
    }
    match &options.rules.subscribe {
        None => Verdict::Allowed,
        Some(rule) => {
            Verdict::Asked(rule(cx, ChannelRequest::new(name.clone(), &params).with(token, metadata)))
        }
    }
}

pub(super) fn publish(core: &Core, own: &Subscription) -> Verdict {
    let options = &own.channel.options;
    match asked(core, Verb::Publish, (own, options.rules.publish.as_ref())) {
        Verdict::Allowed if options.publishers != Publishers::Subscribers => {
            Verdict::Refused(denied("clients do not publish in this channel"))
        }
        verdict => verdict,
    }
}

pub(super) fn history(core: &Core, own: &Subscription) -> Verdict {
    asked(core, Verb::History, (own, own.channel.options.rules.history.as_ref()))
}

pub(super) fn presence(core: &Core, own: &Subscription) -> Verdict {
    asked(core, Verb::Presence, (own, own.channel.options.rules.presence.as_ref()))
}

fn asked(core: &Core, verb: Verb, (own, rule): (&Subscription, Option<&Rule>)) -> Verdict {
    let name = &own.channel.name;
    if let Some(asked) = handler(core, verb, name) {
        return asked;
    }
    let Some(rule) = rule else { return Verdict::Allowed };
    let (_, params) = core.hub().declarations.resolve(name.as_str());
    Verdict::Asked(rule(Context::new(core.clone()), ChannelRequest::new(name.clone(), &params)))
}

fn handler(core: &Core, verb: Verb, name: &ChannelName) -> Option<Verdict> {
    let authorizer = core.endpoint().authorizer(verb)?;
    Some(Verdict::Asked(authorizer(Context::new(core.clone()), name.as_str().to_owned())))
}
