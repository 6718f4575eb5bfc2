//! Tests of the test tools: servers in memory, the fault proxy and the wrapped broker.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod memory;
mod memory_engine;
mod proxy;
mod wrapped_broker;
