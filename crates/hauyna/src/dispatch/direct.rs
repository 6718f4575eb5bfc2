//! The requests that write to users: `private` to one, `group` to the members of a group, `broadcast` to
//! everybody.

use super::authority::Since;
use super::{Core, Next, Reply, denied, publish, publish_late};
use crate::UnknownUsers;
use crate::broker::BoxFuture;
use crate::channel::{ChannelName, Content, Extras, Kind, Target};
use crate::error::{Error, Reject};
use crate::group;
use crate::handler::{Context, Verb};
use hauyna_protocol::{ErrorType, Raw, RequestId};
use std::borrow::Cow;

pub(super) fn private(
    core: &Core,
    id: Option<RequestId>,
    (to, raw): (&str, Raw<'_>),
    key: Option<Cow<'_, str>>,
) -> Next {
    let (channel, message) = (ChannelName::of_user(to), (Kind::Private, Content::copy(raw)));
    let extras = Extras { user: Some(core.user().clone()), key: key.map(Into::into), ..Extras::default() };
    match core.endpoint().authorizer(Verb::Private) {
        None => match check_known(core, &channel) {
            Ok(()) => publish(core, id, (channel, message, extras)),
            Err(error) => Next::Now(Reply::refused(id, error)),
        },
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), to.to_owned());
            publish_if(core, id, allowed, (channel, message, extras))
        }
    }
}

/// # Errors
///
/// `unknown_user`, where the hub tells who is not connected.
fn check_known(core: &Core, channel: &ChannelName) -> Result<(), Error> {
    let hub = core.hub();
    if hub.config.unknown_users == UnknownUsers::Hidden {
        return Ok(());
    }
    match channel.target() {
        Target::User(user) if hub.registry.devices(user) == 0 => {
            Err(Error::protocol(ErrorType::UnknownUser, "this user has no connection"))
        }
        _ => Ok(()),
    }
}

pub(super) fn group(
    core: &Core,
    id: Option<RequestId>,
    (room, raw): (&str, Raw<'_>),
    key: Option<Cow<'_, str>>,
) -> Next {
    let (channel, message) = (ChannelName::of_group(room), (Kind::Group, Content::copy(raw)));
    let extras = Extras { user: Some(core.user().clone()), key: key.map(Into::into), ..Extras::default() };
    match core.endpoint().authorizer(Verb::Group) {
        None if core.hub().groups.can(core.user(), room, group::SEND) => {
            publish(core, id, (channel, message, extras))
        }
        // The same for groups that do not exist, so that names cannot be probed.
        None => Next::Now(Reply::refused(id, denied("you may not send to this group"))),
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), room.to_owned());
            publish_if(core, id, allowed, (channel, message, extras))
        }
    }
}

pub(super) fn broadcast(core: &Core, id: Option<RequestId>, raw: Raw<'_>, key: Option<Cow<'_, str>>) -> Next {
    let Some(allowed) = core.endpoint().authorizer(Verb::Broadcast) else {
        return Next::Now(Reply::refused(id, denied("clients may not broadcast")));
    };
    let allowed = allowed(Context::new(core.clone()), String::new());
    let extras = Extras { user: Some(core.user().clone()), key: key.map(Into::into), ..Extras::default() };
    let message = (Kind::Broadcast, Content::copy(raw));
    publish_if(core, id, allowed, (ChannelName::everybody(), message, extras))
}

fn publish_if(
    core: &Core,
    id: Option<RequestId>,
    allowed: BoxFuture<Result<(), Reject>>,
    (channel, message, extras): (ChannelName, (Kind, Content), Extras),
) -> Next {
    let (core, since) = (core.clone(), Since::now(core));
    Next::Later(Box::pin(async move {
        if let Err(reject) = allowed.await {
            return Reply::refused(id, reject.into());
        }
        // Not before: whoever may not write to a user is not told whether they are there.
        if let Err(error) = check_known(&core, &channel) {
            return Reply::refused(id, error);
        }
        publish_late((&core, since), id, (channel, message, extras)).await
    }))
}
