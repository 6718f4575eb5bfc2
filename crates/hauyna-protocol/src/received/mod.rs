//! Messages, server → client, as a client reads them: owned, with payloads as raw JSON in either encoding.
//! Clients call `Received::decode` once per frame. An unknown message is an [`Application`] message, never an
//! error.

mod application;
mod decode;
mod event;
mod field;
mod place;
mod presence;
mod publication;
mod request;
mod session;

pub use application::Application;
pub use decode::Received;
pub use event::{ChannelEvent, ClientEvent};
pub use place::{Gap, History, Subscribed};
pub use presence::{
    PresenceChange, PresenceConnection, PresenceDiff, PresenceEntry, PresenceKind, PresencePage,
    PresenceState,
};
pub use publication::{Direct, Publication};
pub use request::{Ack, Question, Refused};
pub use session::{Drain, FailedSubscription, Resume, Session};
