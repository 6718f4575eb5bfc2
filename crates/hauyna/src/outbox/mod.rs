//! What waits to be sent to one connection. `queue` is the outbox with its phases, `lanes` its two lanes,
//! with the client events in `latest` and what a subscriber catches up on in `replay`. `write` writes it to
//! the socket, `slow_consumer` decides what is dropped, and `send` queues what the rest of the crate sends.

mod lanes;
mod latest;
mod outgoing;
mod queue;
mod queued;
mod replay;
mod send;
mod slow_consumer;
mod write;

pub(crate) use outgoing::Outgoing;
pub(crate) use queue::{Backlog, Flushed, Outbox, Phase, SessionNotice};
pub(crate) use queued::{QueueBounds, Widening};
pub(crate) use send::Sender;
pub(crate) use write::TaskUrgency;
