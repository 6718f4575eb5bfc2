//! A request of the application: its message on the wire, its approximate size, and its outcome after a loss.
//! Pure: the outbox keeps it.

use hauyna_protocol::{Direction, Position, Raw, Request};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A request of the application.
#[derive(Clone, Debug)]
pub(crate) enum Draft {
    Publish { channel: String, content: Box<RawValue>, key: String, echo: bool },
    Private { to: String, message: Box<RawValue>, key: String },
    Group { room: String, message: Box<RawValue>, key: String },
    Broadcast { message: Box<RawValue>, key: String },
    Event { name: String, body: Box<RawValue>, repeat: Repeat },
    UpdateStatus { status: String, body: Box<RawValue> },
    UpdatePresence { channel: String, metadata: Box<RawValue> },
    History { channel: String, since: Option<Position>, limit: Option<u32>, direction: Direction },
}

/// Whether a request may be done twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Repeat {
    #[default]
    Never,
    Harmless,
}

impl Draft {
    pub(crate) fn request(&self) -> Request<'_> {
        match self {
            Self::Publish { channel, content, key, echo } => Request::Publish {
                channel: channel.into(),
                content: json(content),
                key: is_present(key),
                echo: *echo,
            },
            Self::Private { to, message, key } => {
                Request::Private { to: to.into(), message: json(message), key: is_present(key) }
            }
            Self::Group { room, message, key } => {
                Request::Group { room: room.into(), message: json(message), key: is_present(key) }
            }
            Self::Broadcast { message, key } => {
                Request::Broadcast { message: json(message), key: is_present(key) }
            }
            Self::Event { name, body, .. } => Request::Event { name: name.into(), body: json(body) },
            Self::UpdateStatus { status, body } => {
                Request::UpdateStatus { status: status.into(), body: json(body) }
            }
            Self::UpdatePresence { channel, metadata } => {
                Request::UpdatePresence { channel: channel.into(), metadata: json(metadata) }
            }
            Self::History { channel, since, limit, direction } => Request::History {
                channel: channel.into(),
                since: *since,
                limit: *limit,
                direction: *direction,
            },
        }
    }

    /// Returns the approximate number of bytes that it keeps.
    pub(super) fn size(&self) -> usize {
        const ENTRY_BYTES: usize = 160;
        ENTRY_BYTES
            + match self {
                Self::Publish { channel, content, .. } => channel.len() + content.get().len(),
                Self::Private { to: name, message, .. } | Self::Group { room: name, message, .. } => {
                    name.len() + message.get().len()
                }
                Self::Broadcast { message, .. } => message.get().len(),
                Self::Event { name, body, .. } | Self::UpdateStatus { status: name, body } => {
                    name.len() + body.get().len()
                }
                Self::UpdatePresence { channel, metadata } => channel.len() + metadata.get().len(),
                Self::History { channel, .. } => channel.len(),
            }
    }

    /// Returns the channel that it is about.
    pub(super) fn channel(&self) -> Option<&str> {
        match self {
            Self::Publish { channel, .. }
            | Self::UpdatePresence { channel, .. }
            | Self::History { channel, .. } => Some(channel),
            _ => None,
        }
    }

    pub(super) fn after_loss(&self) -> AfterLoss<'_> {
        match self {
            Self::Publish { channel, .. } => AfterLoss::WhileRemembered(Some(channel)),
            Self::Private { .. } | Self::Group { .. } | Self::Broadcast { .. } => {
                AfterLoss::WhileRemembered(None)
            }
            Self::Event { repeat: Repeat::Never, .. } => AfterLoss::Unknown,
            Self::Event { .. }
            | Self::UpdateStatus { .. }
            | Self::UpdatePresence { .. }
            | Self::History { .. } => AfterLoss::Always,
        }
    }
}

/// What happens to a request that was in flight when the connection was lost.
pub(super) enum AfterLoss<'a> {
    /// It is repeated if the server still remembers its key: for this channel, or at all.
    WhileRemembered(Option<&'a str>),
    Always,
    Unknown,
}

fn json(raw: &RawValue) -> Raw<'_> {
    Raw::assume_valid(hauyna_protocol::Encoding::Json, raw.get().as_bytes())
}

#[allow(clippy::unnecessary_wraps, reason = "the field is optional on the wire, not here")]
fn is_present(key: &str) -> Option<Cow<'_, str>> {
    Some(key.into())
}
