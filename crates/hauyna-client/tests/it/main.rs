//! The client against real servers over real sockets, and against scripted servers in memory where time or
//! misbehaviour matters. Each theme has a file.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod attempts;
mod client_events;
mod connected;
mod endings;
mod epochs;
mod faulty_servers;
mod gaps;
mod log;
mod many_channels;
mod moves;
mod odd_input;
mod outage;
mod presence;
mod reconnect;
mod resume;
mod script;
mod sessions;
mod shares;
mod stress;
mod subscription_races;
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(test)]
mod torture;
mod unsubscribe;
