//! Control messages: what every node has to do, as publications of the kind `Control` in `@user:NAME` or
//! `@all`. They stand in one order with the messages of those channels, and are carried out where they are
//! relayed. The node that publishes one has done its own part before.

use crate::auth::{Revocation, Whose};
use crate::channel::{PublishOptions, publish};
use crate::close::sendable;
use crate::connection::ConnectionCore;
use crate::hub::{Hub, HubCore};
use crate::session;
use crate::user::User;
use hauyna_broker::{ChannelName, Content, Publication, PublicationKind, Target};
use hauyna_protocol::Encoding;
use hauyna_protocol::close::{CloseCode, Reconnect, should_reconnect};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A control message with the node that publishes it.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    from: u32,
    control: Control,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Control {
    /// In `@user:NAME`: closes the connections of the user.
    Disconnect { code: u16, reason: Box<str> },
    /// In `@all`: ends the sessions of the user that wait for their client.
    EndSessions { user: Box<str> },
    /// In `@all`: revokes credentials.
    Revoke { whose: RevokedSubject, lasting_ms: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RevokedSubject {
    User(Box<str>),
    Token(Box<str>),
}

/// Why a control message is not carried out.
struct BadControl;

/// Tells the other nodes to disconnect a user.
pub(crate) async fn announce_disconnect(hub: &HubCore, user: &str, code: CloseCode, reason: &str) {
    if hub.cluster.is_none() || hauyna_broker::UserId::new(user).is_err() {
        return;
    }
    let disconnect = Control::Disconnect { code: code.0, reason: reason.into() };
    announce(hub, ChannelName::of_user(user), disconnect).await;
    if should_reconnect(code.0) != Reconnect::ComeBack {
        announce(hub, ChannelName::everybody(), Control::EndSessions { user: user.into() }).await;
    }
}

/// Tells the other nodes about a revocation.
pub(crate) async fn announce_revocation(hub: &HubCore, revocation: &Revocation) {
    if hub.cluster.is_none() {
        return;
    }
    let whose = match &revocation.whose {
        Whose::User(user) => RevokedSubject::User(user.clone()),
        Whose::Token(id) => RevokedSubject::Token(id.clone()),
    };
    let lasting_ms = u64::try_from(revocation.lasting_for().as_millis()).unwrap_or(u64::MAX);
    announce(hub, ChannelName::everybody(), Control::Revoke { whose, lasting_ms }).await;
}

async fn announce(hub: &HubCore, channel: ChannelName, control: Control) {
    let envelope = Envelope { from: hub.node().number(), control };
    let Ok(content) = Content::inner(&envelope) else { return };
    let published = publish(hub, channel, PublicationKind::Control, content, PublishOptions::default()).await;
    if let Err(error) = published {
        crate::log::limited("control", || {
            let error = crate::log::error_text(&error);
            tracing::warn!(target: "hauyna::cluster", %error, "other nodes may not have been told");
        });
    }
}

/// Carries out a control message of another node. One that cannot be read is counted and ignored: it may come
/// from a later version.
pub(crate) fn carry_out(hub: &Arc<HubCore>, publication: &Publication) {
    if read_and_carry_out(hub, publication).is_err() {
        hub.metrics.control_errors.increment();
        crate::log::limited("bad control", || {
            tracing::warn!(target: "hauyna::cluster", "a control message of another node is ignored");
        });
    }
}

fn read_and_carry_out(hub: &Arc<HubCore>, publication: &Publication) -> Result<(), BadControl> {
    let content = publication.content();
    if content.encoding() != Encoding::Json {
        return Err(BadControl);
    }
    let envelope: Envelope = serde_json::from_slice(content.bytes()).map_err(|_| BadControl)?;
    if envelope.from == hub.node().number() {
        return Ok(()); // this node has done its part
    }
    match (envelope.control, publication.channel().target()) {
        (Control::Disconnect { code, reason }, Target::User(user)) => {
            User::new(Hub(hub.clone()), user).close_open(sendable(CloseCode(code)), &reason);
        }
        (Control::EndSessions { user }, Target::Everybody) => {
            end_sessions(hub, move |core| core.user().as_str() == &*user);
        }
        (Control::Revoke { whose, lasting_ms }, Target::Everybody) => {
            let revocation = match whose {
                RevokedSubject::User(user) => Revocation::user(user),
                RevokedSubject::Token(id) => Revocation::token(id),
            };
            let revocation = revocation.lasting(Duration::from_millis(lasting_ms));
            Hub(hub.clone()).revoke_open(&revocation);
            end_sessions(hub, move |core| revocation.whose.is_of(core));
        }
        _ => return Err(BadControl),
    }
    Ok(())
}

/// Ends sessions in a task of its own: that calls the broker, which is relaying at this moment.
fn end_sessions(hub: &Arc<HubCore>, is_meant: impl Fn(&Arc<ConnectionCore>) -> bool + Send + 'static) {
    let ending = hub.clone();
    hub.background.finish_detached(Box::pin(async move {
        session::end_matching(&ending, is_meant, || ());
    }));
}
