//! The pressure suite: bursts, floods, stalled and slow readers, large recoveries and a slow broker, against
//! a server in its own process. `cargo xtask pressure` runs it.
//!
//! A run prints one row for each scenario, slow-consumer policy and kind of runtime. Readers that do not lag
//! must not be closed and must lose nothing, all readers must see one order, and the memory of the server
//! must stay within the sum of the configured bounds; otherwise the exit code is 1. Latencies are only
//! printed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks to its terminal")]

mod broker;
mod bystander;
mod child;
mod client;
mod memory;
mod order;
mod report;
mod run;
mod scenarios;
mod server;
mod stage;
mod streams;
mod tally;

use clap::Parser;
use std::process::ExitCode;
use tokio::runtime::Builder;

// The allocator of the program `hauyna`, so that the measured memory is that of real servers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The role of this process.
#[derive(Debug, Parser)]
enum Command {
    /// The whole run; exit code 1 if a required count is violated
    Run(run::Options),
    /// The server of one scenario, which follows the orders on its standard input and ends with it
    Server(server::Options),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(options) => run_all(&options),
        Command::Server(options) => server::serve(&options).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem:#}");
            ExitCode::from(2)
        }
    }
}

fn run_all(options: &run::Options) -> anyhow::Result<bool> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run::run(options))
}
