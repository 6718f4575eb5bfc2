//! `hauyna bench`: the load tool. It uses one thread and one task per connection, on the codec of
//! `hauyna_websocket`. `command` runs a workload and prints its report; each workload is a file of its own.

mod child;
mod churn;
mod command;
mod connection;
mod drain;
mod echo;
mod fanout;
mod idle;
mod join;
mod mark;
mod options;
mod order;
mod outstanding;
mod progress;
mod protocol;
mod recorder;
mod report;
mod runner;
mod session;
mod stalled;
mod storm;
mod system;
mod target;

pub(crate) use command::run;
pub(crate) use options::Options;
