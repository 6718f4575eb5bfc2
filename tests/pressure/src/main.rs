//! The pressure suite: bursts, floods, readers that stall or trickle, large recoveries and a slow broker, against a
//! server in a process of its own. `cargo xtask pressure` runs it.
//!
//! A run prints one row for each scenario, slow-consumer policy and kind of runtime. Readers that lag nowhere must not
//! be closed and must lose nothing, everybody must see one order, and the memory of the server must stay within the
//! sum of the configured bounds; otherwise the exit code is 1. Latencies are printed, never judged.
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

// The allocator of the program `hauyna`, so that the memory measured is the memory that users see.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What this process is.
#[derive(Debug, Parser)]
enum Command {
    /// The whole run; exit code 1 where a required count is broken
    Run(run::Options),
    /// The server of one scenario, which obeys the orders on its standard input and ends with it
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
