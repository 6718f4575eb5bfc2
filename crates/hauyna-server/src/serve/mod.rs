//! `hauyna serve`: the chat endpoint, its pages and the metrics. `command` assembles them and serves them
//! until a signal.

mod chat;
mod command;
mod metrics;
mod options;
mod pages;
mod process;
mod signals;

pub(crate) use chat::contract;
pub(crate) use command::run;
pub(crate) use options::Options;
pub(crate) use signals::drain_window;
