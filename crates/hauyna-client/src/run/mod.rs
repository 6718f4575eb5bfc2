//! The task of a client: it alone touches the sockets. It waits for commands, bytes and deadlines, and
//! passes each on to one of the files here.
//!
//! `task` waits; `reconnect` opens, moves and ends connections; `receive` distributes what the server sends;
//! `send` writes requests; `catch_up` fetches missed publications; `subscriptions` and `subscribe_queue` keep
//! and request subscriptions; `deadlines` does what a moment has come for.

mod catch_up;
mod deadlines;
mod events;
mod presence_lists;
mod receive;
mod reconnect;
mod requests;
mod send;
mod sockets;
mod subscribe;
mod subscribe_queue;
mod subscriptions;
mod task;
mod too_large;
mod wake_up;

pub(crate) use sockets::Target;
pub(crate) use subscriptions::SubscribeRequest;
pub(crate) use task::{ClientTask, Command};
pub(crate) use wake_up::{WakeUp, WakeUps};
