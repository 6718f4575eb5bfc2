//! The public handle on presence, `Presence`, with its changes; `query` has its queries.

use super::{ChannelPresence, Status, changes, entry, message};
use crate::channel::{ChannelCore, Subscription};
use crate::connection::ConnectionCore;
use crate::error::Error;
use crate::hub::{Hub, HubCore};
use hauyna_broker::{BoxFuture, ConnectionId, UserId};
use hauyna_protocol::{ErrorType, PresencePage};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A handle to presence: of one connection ([`Context::presence`](crate::Context::presence)), of one user
/// ([`Presence::of`]), or of the hub ([`Hub::presence`]). It is cheap to clone.
///
/// The changes (`track`, `update`, …) are about the user or the connection of the handle. The queries
/// (`count`, `list`, `get`, …) are about all users of the hub, or about the channel, group or user that they
/// name, whatever handle they are called on. A future does nothing before it is awaited.
///
/// A user is present while one of their connections is subscribed to a channel with
/// [presence](crate::ChannelOptions::presence), or is [tracked](Presence::track). A lost connection stays
/// present for the [grace time](crate::HubBuilder::presence_grace): others do not notice a client that comes
/// back within it. The metadata belongs to the user and is the same for all of their connections; each
/// connection can have metadata of its own besides.
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
///     let admins = presence.list_by(&Criteria::new().status(Status::Away).with("role", "admin")).await;
///     assert_eq!(admins[0].user, *cx.user());
///     Ok(())
/// }
/// # let _ = Handler::new().on_open(opened);
/// ```
#[derive(Debug, Clone)]
pub struct Presence {
    pub(super) hub: Hub,
    owner: Owner,
}

#[derive(Debug, Clone)]
enum Owner {
    Nobody,
    User(Box<str>),
    Connection(Arc<ConnectionCore>),
}

/// What `track` and `untrack` apply to: one connection, or all connections of a user.
pub(super) enum Subject<'a> {
    Connection(&'a Arc<ConnectionCore>),
    User(UserId),
}

impl Subject<'_> {
    pub(super) fn user(&self) -> &UserId {
        match self {
            Self::Connection(core) => core.user(),
            Self::User(user) => user,
        }
    }

    /// Whether the subject includes this connection of the user.
    pub(super) fn is_about(&self, connection: ConnectionId) -> bool {
        match self {
            Self::Connection(core) => core.id() == connection,
            Self::User(_) => true,
        }
    }

    /// Returns the error for a subject without a connection to track.
    pub(super) fn absent(&self) -> Error {
        match self {
            Self::Connection(_) => Error::closed(),
            Self::User(_) => Error::protocol(ErrorType::NotSubscribed, "the user has no connection"),
        }
    }
}

/// Where the metadata of a connection is set.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
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

    pub(super) fn core(&self) -> &HubCore {
        &self.hub.0
    }

    /// Returns the presence of one user, to track and update it from anywhere. Its queries are about all
    /// users, as those of every handle.
    #[must_use]
    pub fn of(&self, user: impl AsRef<str>) -> Self {
        Self { hub: self.hub.clone(), owner: Owner::User(user.as_ref().into()) }
    }

    fn connection(&self) -> Result<&Arc<ConnectionCore>, Error> {
        match &self.owner {
            Owner::Connection(core) => Ok(core),
            Owner::Nobody | Owner::User(_) => {
                Err(Error::application("this presence has no connection: see `Context::presence`"))
            }
        }
    }

    fn subject(&self) -> Result<Subject<'_>, Error> {
        match &self.owner {
            Owner::Connection(core) => Ok(Subject::Connection(core)),
            Owner::User(user) => Ok(Subject::User(UserId::new(user)?)),
            Owner::Nobody => Err(Error::application("this presence has no user: see `Presence::of`")),
        }
    }

    /// Makes the user of this handle present, with metadata such as `{"status": "online"}`, which is merged
    /// into the user's present metadata. `()` stands for none. The presence of a connection tracks that
    /// connection; the presence of a user ([`Presence::of`]) tracks all connections that the user has now,
    /// including those whose sessions are kept. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `validation_error` where the metadata is not an object, or its `status` is not a string;
    /// `limit_exceeded` where it is longer than 4,096 bytes as JSON; `application_error` where this presence
    /// has no user; an error where the connection is closed, or `not_subscribed` where the user has no
    /// connection.
    pub fn track(&self, metadata: impl Serialize) -> BoxFuture<Result<(), Error>> {
        let (presence, fields) = (self.clone(), entry::object(metadata));
        Box::pin(async move {
            let fields = fields?;
            presence.core().wait_for_any_room().await;
            changes::track(presence.core(), &presence.subject()?, fields)
        })
    }

    /// Ends what [`track`](Presence::track) began, for this connection or for all connections of the user.
    /// The user stays present while another connection of theirs is tracked, or any is in a channel with
    /// presence. A user who is not tracked stays as they are. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `application_error` where this presence has no user, as that of [`Hub::presence`];
    /// `validation_error` where the name of the user is invalid.
    pub fn untrack(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let presence = self.clone();
        async move {
            changes::untrack(presence.core(), &presence.subject()?);
            Ok(())
        }
    }

    /// Changes some fields of the metadata of this handle's user, whatever connection they come by. Every
    /// channel with presence that the user is in is notified. Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `not_subscribed` where the user is not present; `validation_error`, `limit_exceeded` as for
    /// [`track`](Presence::track); `application_error` where this presence has no user.
    pub fn update(&self, metadata: impl Serialize) -> BoxFuture<Result<(), Error>> {
        let (presence, fields) = (self.clone(), entry::object(metadata));
        Box::pin(async move {
            let fields = fields?;
            presence.core().wait_for_any_room().await;
            changes::update(presence.core(), presence.subject()?.user(), fields)
        })
    }

    /// Sets the status of this handle's user, which is the field `status` of their metadata. Nothing happens
    /// before it is awaited.
    ///
    /// # Errors
    ///
    /// As [`update`](Presence::update).
    pub fn set_status(&self, status: impl Into<Status>) -> BoxFuture<Result<(), Error>> {
        let field = (String::from("status"), Value::from(status.into().as_str()));
        self.update(Map::from_iter([field]))
    }

    /// Sets the metadata of the connection of this handle alone, such as its device. `()` removes it. In a
    /// channel, the metadata of the subscription has this role; see
    /// [`Channel::update_metadata`](crate::Channel::update_metadata). Nothing happens before it is awaited.
    ///
    /// # Errors
    ///
    /// `not_subscribed` where the connection is not present; otherwise as [`track`](Presence::track).
    pub fn update_connection(&self, metadata: impl Serialize) -> BoxFuture<Result<(), Error>> {
        let (presence, fields) = (self.clone(), entry::object(metadata));
        Box::pin(async move {
            let text = serde_json::to_string(&fields?)?;
            entry::check_length(&text)?;
            presence.core().wait_for_any_room().await;
            let (hub, connection) = (presence.core(), presence.connection()?);
            changes::set_connection_metadata(hub, connection, Scope::Hub, Some(text.into()))
        })
    }
}

/// Handles `update_status` of a client: merges its fields, without those of the protocol, into the user's
/// metadata.
///
/// # Errors
///
/// As [`Presence::update`].
pub(crate) fn update_status(hub: &HubCore, core: &Arc<ConnectionCore>, body: &Value) -> Result<(), Error> {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    fields.retain(|name, _| !matches!(name.as_str(), "type" | "id"));
    changes::update(hub, core.user(), fields)
}

/// Replaces the metadata of a subscription, which is the connection's metadata in the channel.
pub(crate) fn set_subscription_metadata(hub: &HubCore, subscription: &Subscription, text: Option<Arc<str>>) {
    if subscription.channel.presence.is_none() {
        *subscription.metadata.lock() = text;
        return;
    }
    // It fails only for a subscriber that is leaving, whose metadata nobody needs any more.
    let _ =
        changes::set_connection_metadata(hub, &subscription.connection, Scope::Channel(subscription), text);
}

/// Replaces the metadata of a connection in a channel that shows presence, at its client's request.
///
/// # Errors
///
/// `limit_exceeded` where it is too long as JSON; `not_subscribed` where the connection is not present there
/// any more.
pub(crate) fn describe(hub: &HubCore, subscription: &Subscription, text: Arc<str>) -> Result<(), Error> {
    entry::check_length(&text)?;
    changes::set_connection_metadata(hub, &subscription.connection, Scope::Channel(subscription), Some(text))
}

/// Calls `f` with a page of the members of a channel: up to `limit` users whose names follow `after`.
pub(crate) fn with_page<R>(
    channel: &ChannelCore,
    presence: &ChannelPresence,
    after: Option<&str>,
    limit: Option<u32>,
    f: impl FnOnce(PresencePage<'_>) -> R,
) -> R {
    let limit = limit.map_or(MAX_RESULTS, |limit| MAX_RESULTS.min(limit as usize));
    message::with_page(&mut presence.members(), channel.name.as_str(), after, limit, f)
}

pub(super) fn not_present() -> Error {
    Error::protocol(ErrorType::NotSubscribed, "not present anywhere")
}

/// Maximum number of users on one page.
const MAX_RESULTS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelOptions, Handler, Presence, json};

    #[tokio::test]
    async fn metadata_for_an_ended_subscription_does_not_describe_the_next_one() {
        let channels = ChannelOptions::new().presence(Presence::each());
        let hub = Hub::builder().channels("c", channels).build();
        let (socket, _peer) = tokio::io::duplex(4096);
        let ann = hub.connections().register(socket, "ann", &Handler::new().share()).unwrap();
        let channel = hub.channel("c");
        channel.subscribe(&ann, json!({ "role": "speaker" })).await.unwrap();
        let ended = ann.core().subscription_list().subscription("c").unwrap();
        channel.unsubscribe(&ann).unwrap();
        channel.subscribe(&ann, json!({ "role": "listener" })).await.unwrap();
        // A request passed its checks right before the application unsubscribed its client.
        let error = describe(&hub.0, &ended, r#"{"role":"speaker"}"#.into()).unwrap_err();
        assert_eq!(error.error_type(), ErrorType::NotSubscribed);
        assert_eq!(channel.metadata(&ann), Some(json!({ "role": "listener" })));
        let members = channel.presence().await;
        assert_eq!(members[0].connections[0].metadata, json!({ "role": "listener" }));
    }
}
