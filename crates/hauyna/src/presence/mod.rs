//! Who is present, in each channel and over the hub. `Presence` is the public handle with the verbs, `query` its
//! questions; `people` and `members` are the rosters, pure data; `flow` changes them under the guards of `change`,
//! `telling` says it to whom, in the words of `message`; `agenda` is what is done later; `options` and `entry` are what
//! applications say and see.

mod change;
mod changes;
mod entry;
mod lost_members;
mod members;
mod message;
mod notify;
mod options;
mod people;
mod query;
mod timers;

pub use entry::{PresenceEntry, PresentConnection, Status};
pub use options::PresenceOptions;
pub use query::{Criteria, PresenceStats};

pub(crate) use changes::{
    ChannelPresence, DepartureKind, connection_gone, expire, join, leave, take_over, watch_user,
};
pub(crate) use lost_members::{evict_oldest_lost_channel, leave_lost, weight, weight_of_lost_channel};
pub(crate) use people::People;
pub(crate) use timers::{has_tasks, run_due};

use crate::channel::{ChannelCore, Subscription, UserId};
use crate::connection::{CloseReason, ConnectionCore, ConnectionId};
use crate::error::Error;
use crate::hub::{Hub, HubCore};
use hauyna_protocol::close::{Reconnect, should_reconnect};
use hauyna_protocol::{ErrorType, PresencePage};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Presence as one connection sees it ([`Context::presence`](crate::Context::presence)), as one user does
/// ([`Presence::of`]), or as the hub does ([`Hub::presence`]). A cheap handle.
///
/// A user is present while one of their connections is subscribed to a channel with
/// [presence](crate::ChannelOptions::presence), or was [tracked](Presence::track). A connection that is lost stays for the
/// [grace time](crate::HubBuilder::presence_grace): whoever comes back within it was never gone. The metadata is
/// the user's and the same for all of their connections; each connection can have some of its own beside it.
///
/// # Examples
///
/// ```
/// use hauyna::{Context, Handler, json};
/// use hauyna::presence::{Criteria, Status};
///
/// async fn opened(cx: Context) -> hauyna::Result {
///     let presence = cx.presence();
///     presence.track(json!({ "role": "admin" })).await?;
///     presence.set_status(Status::Away).await?;
///     let admins = presence.list_by(&Criteria::new().status(Status::Away).with("role", "admin"));
///     assert_eq!(admins[0].user, *cx.user());
///     Ok(())
/// }
/// # let _ = Handler::new().on_open(opened);
/// ```
#[derive(Debug, Clone)]
pub struct Presence {
    hub: Hub,
    owner: Owner,
}

#[derive(Debug, Clone)]
enum Owner {
    Nobody,
    User(Box<str>),
    Connection(Arc<ConnectionCore>),
}

/// What is tracked: one connection, or all that a user has.
enum Subject<'a> {
    Connection(&'a ConnectionCore),
    User(UserId),
}

impl Subject<'_> {
    fn user(&self) -> &UserId {
        match self {
            Self::Connection(core) => core.user(),
            Self::User(user) => user,
        }
    }

    fn is_about(&self, connection: ConnectionId) -> bool {
        match self {
            Self::Connection(core) => core.id() == connection,
            Self::User(_) => true,
        }
    }

    /// The error where there is nothing to track.
    fn absent(&self) -> Error {
        match self {
            Self::Connection(_) => Error::closed(),
            Self::User(_) => Error::protocol(ErrorType::NotSubscribed, "the user has no connection"),
        }
    }
}

/// Where a connection says something about itself.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Hub,
    Channel(&'a Subscription),
}

impl Presence {
    pub(crate) fn of_hub(hub: Hub) -> Self {
        Self { hub, owner: Owner::Nobody }
    }

    pub(crate) fn of_connection(hub: Hub, core: Arc<ConnectionCore>) -> Self {
        Self { hub, owner: Owner::Connection(core) }
    }

    fn core(&self) -> &HubCore {
        &self.hub.0
    }

    /// The presence of one user, to track and update it from anywhere.
    #[must_use]
    pub fn of(&self, user: impl AsRef<str>) -> Self {
        Self { hub: self.hub.clone(), owner: Owner::User(user.as_ref().into()) }
    }

    fn connection(&self) -> Result<&Arc<ConnectionCore>, Error> {
        match &self.owner {
            Owner::Connection(core) => Ok(core),
            Owner::Nobody | Owner::User(_) => Err(Error::application("this presence has no connection")),
        }
    }

    fn subject(&self) -> Result<Subject<'_>, Error> {
        match &self.owner {
            Owner::Connection(core) => Ok(Subject::Connection(core)),
            Owner::User(user) => Ok(Subject::User(UserId::new(user)?)),
            Owner::Nobody => Err(Error::application("this presence has no user: see `Presence::of`")),
        }
    }

    /// Makes the user present, with metadata such as `{"status": "online"}`, which is merged with what the user has told
    /// before. `()` for none. The presence of a connection tracks that one; the presence of a user
    /// ([`Presence::of`]) tracks all connections that the user has now, those included whose sessions are kept.
    ///
    /// # Errors
    ///
    /// `validation_error` where the metadata is no object, or its `status` no text; `limit_exceeded` where it comes to more than 4,096 bytes;
    /// `application_error` where this presence has no user; the connection is closed, or `not_subscribed` where the
    /// user has none.
    pub async fn track(&self, metadata: impl Serialize) -> Result<(), Error> {
        let fields = entry::object(metadata)?;
        self.core().wait_for_any_room().await;
        changes::track(self.core(), &self.subject()?, fields)
    }

    /// Ends what [`track`](Presence::track) began: for this connection, or for all of the user's. The user stays present
    /// while other connections of theirs are tracked, or any is in a channel with presence.
    pub fn untrack(&self) {
        if let Ok(subject) = self.subject() {
            changes::untrack(self.core(), &subject);
        }
    }

    /// Changes some fields of the user's metadata. Every channel with presence that the user is in is told.
    ///
    /// # Errors
    ///
    /// `not_subscribed` where the user is not present; `validation_error`, `limit_exceeded` as for
    /// [`track`](Presence::track); `application_error` where this presence has no user.
    pub async fn update(&self, metadata: impl Serialize) -> Result<(), Error> {
        let fields = entry::object(metadata)?;
        self.core().wait_for_any_room().await;
        changes::update(self.core(), self.subject()?.user(), fields)
    }

    /// Changes the user's status, which is the field `status` of their metadata.
    ///
    /// # Errors
    ///
    /// As [`update`](Presence::update).
    pub async fn set_status(&self, status: impl Into<Status>) -> Result<(), Error> {
        let status = status.into();
        let field = (String::from("status"), Value::from(status.as_str()));
        self.update(Map::from_iter([field])).await
    }

    /// Sets what this connection alone says about itself, such as its device. `()` for nothing. In a
    /// channel the subscription's metadata is that; see
    /// [`Channel::update_metadata`](crate::Channel::update_metadata).
    ///
    /// # Errors
    ///
    /// `not_subscribed` where the connection is not present; else as [`track`](Presence::track).
    pub async fn update_connection(&self, metadata: impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(&entry::object(metadata)?)?;
        entry::check_length(&text)?;
        self.core().wait_for_any_room().await;
        changes::set_connection_metadata(self.core(), self.connection()?, Scope::Hub, Some(text.into()))
    }
}

/// The `update_status` of a client: its fields, without those of the protocol, become the user's.
///
/// # Errors
///
/// As [`Presence::update`].
pub(crate) fn update_status(hub: &HubCore, core: &ConnectionCore, body: &Value) -> Result<(), Error> {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    fields.retain(|name, _| !matches!(name.as_str(), "type" | "id"));
    changes::update(hub, core.user(), fields)
}

/// Replaces the metadata of a subscription, which is what the connection says about itself in the channel.
pub(crate) fn set_subscription_metadata(hub: &HubCore, subscription: &Subscription, text: Option<Arc<str>>) {
    if subscription.channel.presence.is_none() {
        *subscription.metadata.lock() = text;
        return;
    }
    // One that is leaving has nothing to say any more.
    let _ =
        changes::set_connection_metadata(hub, &subscription.connection, Scope::Channel(subscription), text);
}

/// Replaces what a connection says about itself in a channel that shows presence, at its client's request.
///
/// # Errors
///
/// `limit_exceeded` where it is too long as JSON; `not_subscribed` where the connection is not present there any more.
pub(crate) fn describe(hub: &HubCore, subscription: &Subscription, text: Arc<str>) -> Result<(), Error> {
    entry::check_length(&text)?;
    changes::set_connection_metadata(hub, &subscription.connection, Scope::Channel(subscription), Some(text))
}

/// Lends a page of those who are present in a channel.
pub(crate) fn with_page<R>(
    (channel, presence): (&ChannelCore, &ChannelPresence),
    range: (Option<&str>, Option<u32>),
    f: impl FnOnce(PresencePage<'_>) -> R,
) -> R {
    let limit = range.1.map_or(MAX_RESULTS, |limit| MAX_RESULTS.min(limit as usize));
    message::with_page(&mut presence.members(), channel.name.as_str(), (range.0, limit), f)
}

fn not_present() -> Error {
    Error::protocol(ErrorType::NotSubscribed, "not present anywhere")
}

/// Whether a connection that ended may come back.
pub(crate) fn departure(reason: CloseReason) -> DepartureKind {
    match reason {
        // `close()` without a code, which a page does on purpose.
        CloseReason::Client(1005) => DepartureKind::Gone,
        CloseReason::Client(code) | CloseReason::Application(code) => match should_reconnect(code) {
            Reconnect::ComeBack => DepartureKind::Lost,
            Reconnect::StayAway => DepartureKind::Gone,
        },
        CloseReason::Protocol | CloseReason::Replaced | CloseReason::Failed => DepartureKind::Gone,
        _ => DepartureKind::Lost,
    }
}

/// Users of one page, at most.
const MAX_RESULTS: usize = 1000;
