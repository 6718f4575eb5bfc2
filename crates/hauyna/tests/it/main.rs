//! The engine through its public API, over real sockets: one file a theme.

#[cfg(test)]
mod broker;
#[cfg(test)]
mod handlers;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod support;
