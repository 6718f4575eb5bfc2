//! Tests of the test tools: servers in memory, the fault proxy, the wrapped broker, and where failures
//! point to.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod failures;
mod memory;
mod memory_engine;
mod proxy;
mod wrapped_broker;
