//! The requests that write to users: `private` to one, `group` to the members of a group, `broadcast` to
//! everybody.

use super::authority::RequestStart;
use super::{Core, Next, Reply, permission_denied, publish, publish_late};
use crate::broker::BoxFuture;
use crate::channel::{ChannelName, Content, PublicationKind, PublishOptions, Target};
use crate::error::{Error, Reject};
use crate::group;
use crate::handler::{Action, Context};
use crate::limits::UnknownUsers;
use hauyna_protocol::{ErrorType, Raw, RequestId};
use std::borrow::Cow;

pub(super) fn private(
    core: &Core,
    id: Option<RequestId>,
    (to, raw): (&str, Raw<'_>),
    key: Option<Cow<'_, str>>,
) -> Next {
    let (channel, message) = (ChannelName::of_user(to), (PublicationKind::Private, Content::copy(raw)));
    let extras = PublishOptions {
        user: Some(core.user().clone()),
        key: key.map(Into::into),
        ..PublishOptions::default()
    };
    match core.endpoint().authorizer(Action::Private) {
        None => match check_user_known(core, &channel) {
            Ok(()) => publish(core, id, (channel, message, extras)),
            Err(error) => Next::Now(Reply::refused(id, error)),
        },
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), to.to_owned());
            publish_with_permission(core, id, allowed, (channel, message, extras))
        }
    }
}

/// # Errors
///
/// `unknown_user`, where the hub tells who is not connected.
fn check_user_known(core: &Core, channel: &ChannelName) -> Result<(), Error> {
    let hub = core.hub();
    if hub.config.unknown_users == UnknownUsers::Hidden {
        return Ok(());
    }
    match channel.target() {
        Target::User(user) if hub.registry.connection_count(user) == 0 => {
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
    let (channel, message) = (ChannelName::of_group(room), (PublicationKind::Group, Content::copy(raw)));
    let extras = PublishOptions {
        user: Some(core.user().clone()),
        key: key.map(Into::into),
        ..PublishOptions::default()
    };
    match core.endpoint().authorizer(Action::Group) {
        None if core.hub().groups.can(core.user(), room, group::SEND) => {
            publish(core, id, (channel, message, extras))
        }
        // The same for groups that do not exist, so that names cannot be probed.
        None => Next::Now(Reply::refused(id, permission_denied("you may not send to this group"))),
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), room.to_owned());
            publish_with_permission(core, id, allowed, (channel, message, extras))
        }
    }
}

pub(super) fn broadcast(core: &Core, id: Option<RequestId>, raw: Raw<'_>, key: Option<Cow<'_, str>>) -> Next {
    let Some(allowed) = core.endpoint().authorizer(Action::Broadcast) else {
        return Next::Now(Reply::refused(id, permission_denied("clients may not broadcast")));
    };
    let allowed = allowed(Context::new(core.clone()), String::new());
    let extras = PublishOptions {
        user: Some(core.user().clone()),
        key: key.map(Into::into),
        ..PublishOptions::default()
    };
    let message = (PublicationKind::Broadcast, Content::copy(raw));
    publish_with_permission(core, id, allowed, (ChannelName::everybody(), message, extras))
}

fn publish_with_permission(
    core: &Core,
    id: Option<RequestId>,
    allowed: BoxFuture<Result<(), Reject>>,
    (channel, message, extras): (ChannelName, (PublicationKind, Content), PublishOptions),
) -> Next {
    let (core, since) = (core.clone(), RequestStart::now(core));
    Next::Later(Box::pin(async move {
        if let Err(reject) = allowed.await {
            return Reply::refused(id, reject.into());
        }
        // Not before: whoever may not write to a user is not told whether they are there.
        if let Err(error) = check_user_known(&core, &channel) {
            return Reply::refused(id, error);
        }
        publish_late((&core, since), id, (channel, message, extras)).await
    }))
}
