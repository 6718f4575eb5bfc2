//! The engine through its public API, over real sockets: one file per theme.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests may panic and print as tests do"
)]

mod application;
mod auth;
mod authority;
#[cfg(feature = "axum")]
mod axum;
mod broker;
mod broker_waits;
mod builders;
mod bursts;
mod client_events;
mod cluster_faults;
mod cluster_messages;
mod cluster_nodes;
mod congestion;
mod deadlines;
mod drain;
mod ended_permissions;
mod epochs;
mod error_table;
mod errors;
mod events;
mod extreme_durations;
mod faulty_callbacks;
mod formatting;
mod groups;
mod handlers;
mod handshake;
mod history;
mod hostile_callbacks;
mod hostile_runtimes;
mod hubs;
mod idle_runtimes;
mod interleavings;
mod interrupted_resumes;
#[cfg(feature = "jwt")]
mod jwt;
mod limits;
mod liveness;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod middleware;
mod model;
mod model_all;
mod model_runtimes;
mod model_slow;
mod observability;
mod opening;
mod order;
mod own_presence;
mod presence;
mod presence_scope;
mod races;
mod rate_limits;
mod recovery;
mod reference;
mod refusals;
mod registration;
mod replay;
mod requests;
mod resume_faults;
mod retry;
mod routing;
mod server_requests;
mod session_ends;
mod session_tokens;
mod sessions;
mod slow;
mod states;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod tracking;
mod transports;
mod turned_replays;
mod turning;
mod unreliable_broker;
mod validation;
