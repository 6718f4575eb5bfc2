//! Events inside the process: those that the application triggers by name, and system events that the hub
//! emits. `Events` is the public handle. `listeners` stores and runs the listeners, `system` defines the
//! system events, `emit` is how they are emitted, and `queue` brings them to their listeners off the hot
//! path.

mod emit;
mod handle;
mod listeners;
mod queue;
mod system;

pub use handle::{Event, Events, Flow};
pub use listeners::{Failure, ListenerId, Outcome};
pub use system::{GroupChange, PresenceChange, SystemEvent, SystemKind};

pub(crate) use emit::emit;
pub(crate) use listeners::Listeners;
