//! The hub: what all connections share. This file has the public handle; `registry` finds connections,
//! `channels` finds channels, `limits` counts places, `stats` and `inspect` report,
//! `shutdown` and `drain` end the hub. Nothing is global: two hubs can live in one process.

mod broker_calls;
mod builder;
mod channels;
mod drain;
mod handle;
mod hooks;
mod inspect;
mod limit_scope;
mod limits;
mod registry;
mod shutdown;
mod stats;

pub use builder::HubBuilder;
pub use drain::Drain;
pub use handle::Hub;
pub use inspect::{
    ChannelSnapshot, ConnectionSnapshot, Inspect, OptionsSnapshot, PositionSnapshot, SubscriberSnapshot,
    UserSnapshot,
};
pub use shutdown::Readiness;
pub use stats::{Memory, Stats};

pub(crate) use channels::ChannelMap;
pub(crate) use handle::HubCore;
pub(crate) use limits::{Limits, Place};
pub(crate) use registry::Registry;
pub(crate) use shutdown::Lifecycle;
