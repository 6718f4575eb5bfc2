//! The client against real servers over real sockets, and against scripted servers in memory where time or
//! misbehaviour matters. Each theme has a file.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod attempts;
mod client_events;
mod epochs;
mod extremes;
mod gaps;
mod handover;
mod hostile;
mod lapses;
mod log;
mod outage;
mod presence;
mod reconnect;
mod restoring;
mod resume;
mod script;
mod sessions;
mod shares;
mod standing;
mod stress;
mod support;
mod talk;
#[cfg(feature = "tls")]
mod tls;
#[cfg(test)]
mod torture;
mod unsubscribe;
