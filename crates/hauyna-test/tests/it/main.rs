//! What the tools for tests promise.

#[cfg(test)]
mod memory;
#[cfg(test)]
mod proxy;
