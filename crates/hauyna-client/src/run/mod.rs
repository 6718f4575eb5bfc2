//! The task of a client, which alone touches its sockets. Its state has four parts: `sockets`, `requests`,
//! `subscriptions` and `deadlines`.
//!
//! `task` waits, and handles commands. `reconnect` and `credentials` are about connections and tokens;
//! `receive`, `send`, `client_events` and `too_large` about messages in both directions; `subscribe`,
//! `subscribe_queue`, `catch_up` and `presence_lists` about channels. Through `wake_up`, handles notify the
//! task without waiting.

mod catch_up;
mod client_events;
mod credentials;
mod deadlines;
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
