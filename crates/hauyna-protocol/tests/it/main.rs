//! Tests of the public API: the fixtures that other languages read, too, the examples of `PROTOCOL.md`,
//! hostile input, and round trips between the encodings.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod fixtures;
mod hostile;
mod messages;
mod page;
mod received;
mod round_trip;
