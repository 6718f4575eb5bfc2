//! What the tools for tests promise, over real sockets.

#[cfg(test)]
mod proxy;
