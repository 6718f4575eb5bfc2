//! The requests that send to users: `private` to one user, `group` to the members of a group, `broadcast` to
//! all connections. `dispatch` calls it.

use super::authority::{self, RequestStart, Verdict};
use super::{ClientPublication, Core, Next, Reply, permission_denied, publish};
use crate::channel::PublishOptions;
use crate::cluster;
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
        if is_known_here(core, &publication.channel) {
            return publish(core, id, start, publication);
        }
        if core.hub().cluster.is_none() {
            return Next::Now(Reply::refused(id, unknown_user()));
        }
        let (core, start) = (core.clone(), start.unwrap_or_else(|| RequestStart::now(core)));
        Next::Later(Box::pin(async move {
            if let Err(error) = check_known_elsewhere(&core, &publication.channel).await {
                return Reply::refused(id, error);
            }
            match publish(&core, id, Some(start), publication) {
                Next::Now(reply) => reply,
                Next::Later(reply) => reply.await,
            }
        }))
    })
}

/// Whether the receiver is connected to this node, or the hub does not reveal that, or it is no user.
fn is_known_here(core: &Core, channel: &ChannelName) -> bool {
    let hub = core.hub();
    match channel.target() {
        Target::User(user) if hub.config.unknown_users != UnknownUsers::Hidden => {
            hub.registry.connection_count(user) > 0
        }
        _ => true,
    }
}

/// Checks that the receiver is connected to another node.
///
/// # Errors
///
/// `unknown_user`; `unavailable`, where the broker cannot be asked.
async fn check_known_elsewhere(core: &Core, channel: &ChannelName) -> Result<(), Error> {
    let Target::User(user) = channel.target() else { return Ok(()) };
    match cluster::is_connected_elsewhere(core.hub(), user).await? {
        true => Ok(()),
        false => Err(unknown_user()),
    }
}

fn unknown_user() -> Error {
    Error::protocol(ErrorType::UnknownUser, "this user has no connection")
}
