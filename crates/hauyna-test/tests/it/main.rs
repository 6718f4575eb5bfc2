//! Tests of the test tools: servers in memory and the fault proxy.

#[cfg(test)]
mod memory;
#[cfg(test)]
mod proxy;
