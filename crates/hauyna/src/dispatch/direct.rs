//! The requests that send to users: `private` to one user, `group` to the members of a group, `broadcast` to
//! all connections. `dispatch` calls it.

use super::authority::{self, Verdict};
use super::{ClientPublication, Core, Next, Reply, permission_denied, publish};
use crate::channel::PublishOptions;
use crate::error::Error;
use crate::handler::Action;
use crate::limits::UnknownUsers;
use hauyna_broker::{ChannelName, Content, PublicationKind, Target};
use hauyna_protocol::{ErrorType, Raw, RequestId};
use std::borrow::Cow;

pub(super) fn private(
    core: &Core,
    id: Option<RequestId>,
    to: &str,
    raw: Raw<'_>,
    key: Option<Cow<'_, str>>,
) -> Next {
    let publication = publication(core, ChannelName::of_user(to), PublicationKind::Private, raw, key);
    let verdict = authority::send(core, Action::Private, &publication).unwrap_or(Verdict::Allowed);
    publish_if(verdict, core, id, publication)
}

pub(super) fn group(
    core: &Core,
    id: Option<RequestId>,
    room: &str,
    raw: Raw<'_>,
    key: Option<Cow<'_, str>>,
) -> Next {
    let publication = publication(core, ChannelName::of_group(room), PublicationKind::Group, raw, key);
    let verdict = authority::send(core, Action::Group, &publication).unwrap_or_else(|| {
        match authority::check_role(core, room) {
            Ok(()) => Verdict::Allowed,
            Err(error) => Verdict::Refused(error),
        }
    });
    publish_if(verdict, core, id, publication)
}

pub(super) fn broadcast(core: &Core, id: Option<RequestId>, raw: Raw<'_>, key: Option<Cow<'_, str>>) -> Next {
    let refused = || permission_denied("clients may not broadcast");
    if core.endpoint().authorizer(Action::Broadcast).is_none() {
        return Next::Now(Reply::refused(id, refused()));
    }
    let publication = publication(core, ChannelName::everybody(), PublicationKind::Broadcast, raw, key);
    let verdict = authority::send(core, Action::Broadcast, &publication);
    publish_if(verdict.unwrap_or_else(|| Verdict::Refused(refused())), core, id, publication)
}

fn publication(
    core: &Core,
    channel: ChannelName,
    kind: PublicationKind,
    raw: Raw<'_>,
    key: Option<Cow<'_, str>>,
) -> ClientPublication {
    let options = PublishOptions {
        user: Some(core.user().clone()),
        key: key.map(Into::into),
        ..PublishOptions::default()
    };
    let groups = &core.hub().groups;
    let is_of_member =
        matches!(channel.target(), Target::Group(group) if groups.is_member(core.user(), group));
    ClientPublication {
        channel,
        kind,
        content: Content::copy(raw),
        options,
        subscription: None,
        is_of_member,
    }
}

fn publish_if(verdict: Verdict, core: &Core, id: Option<RequestId>, publication: ClientPublication) -> Next {
    verdict.then(core, id, move |core, id, start| {
        // Not before the decision: a client that may not send to a user does not learn whether they are
        // there.
        match check_user_known(core, &publication.channel) {
            Ok(()) => publish(core, id, start, publication),
            Err(error) => Next::Now(Reply::refused(id, error)),
        }
    })
}

/// Checks that the receiver is connected, if the hub reveals that. Other targets pass.
///
/// # Errors
///
/// `unknown_user`.
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
