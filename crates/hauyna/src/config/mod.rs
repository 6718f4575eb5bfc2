//! The options of a hub and of a handler, with their defaults. Builders set them; all other modules read
//! them.

mod heartbeat;
mod hub;
mod limits;
mod sessions;

pub use heartbeat::Heartbeat;
pub use hub::UnknownUsers;
pub use limits::{AtLimit, Limit};
pub use sessions::SessionOptions;

pub(crate) use hub::{HubConfig, OutboxLimits};
pub(crate) use limits::{LimitOptions, check_policies};
