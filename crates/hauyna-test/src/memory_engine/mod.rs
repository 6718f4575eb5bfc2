//! An engine in memory that connects several hubs in one process, as Redis or NATS connect processes, and
//! that fails where a test asks for it.

mod broker;
mod delivery;
mod engine;
mod faults;
mod maps;
mod nodes;
mod stream;

pub use broker::MemoryBroker;
pub use engine::MemoryEngine;
pub use faults::EngineFaults;
