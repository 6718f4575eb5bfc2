//! The engine through its public API, over real sockets: one file per theme. The modules carry
//! `#[cfg(test)]`, since clippy's `allow-unwrap-in-tests` applies only below that attribute.

#[cfg(test)]
mod application;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod authority;
#[cfg(all(test, feature = "axum"))]
mod axum;
#[cfg(test)]
mod broker;
#[cfg(test)]
mod broker_waits;
#[cfg(test)]
mod builders;
#[cfg(test)]
mod bursts;
#[cfg(test)]
mod client_events;
#[cfg(test)]
mod congestion;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod epochs;
#[cfg(test)]
mod error_table;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod events;
#[cfg(test)]
mod extreme_durations;
#[cfg(test)]
mod faulty_callbacks;
#[cfg(test)]
mod formatting;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod handlers;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod history;
#[cfg(test)]
mod hostile_callbacks;
#[cfg(test)]
mod hostile_runtimes;
#[cfg(test)]
mod hubs;
#[cfg(test)]
mod idle_runtimes;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod interrupted_resumes;
#[cfg(feature = "jwt")]
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod log;
#[cfg(all(test, feature = "metrics"))]
mod metrics;
#[cfg(test)]
mod middleware;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_all;
#[cfg(test)]
mod model_runtimes;
#[cfg(test)]
mod model_slow;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod order;
#[cfg(test)]
mod own_presence;
#[cfg(test)]
mod presence;
#[cfg(test)]
mod races;
#[cfg(test)]
mod rate_limits;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod registration;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod resume_faults;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod server_requests;
#[cfg(test)]
mod session_ends;
#[cfg(test)]
mod session_tokens;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod states;
#[cfg(test)]
mod support;
#[cfg(feature = "tls")]
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tracking;
#[cfg(test)]
mod transports;
#[cfg(test)]
mod turned_replays;
#[cfg(test)]
mod turning;
#[cfg(test)]
mod unreliable_broker;
#[cfg(test)]
mod validation;
