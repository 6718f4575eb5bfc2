//! The torture run: hundreds of clients in each language behind a faulty network, a server that is drained
//! and replaced meanwhile, and a checker that finds silent losses. `cargo xtask torture` runs it.
//!
//! `run` is the main process; `server`, `clients` and, for TypeScript, `driver.mjs` are its child processes.
//! They get orders as lines on their standard input, and end with it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks to its terminal")]

mod checker;
mod child;
mod clients;
mod log;
mod report;
mod run;
mod server;

use clap::Parser;
use std::process::ExitCode;
use tokio::runtime::Builder;

/// The torture run and its child processes.
#[derive(Debug, Parser)]
enum Command {
    /// The whole run; exit code 1 if a target was missed
    Run(run::Options),
    /// A server, which runs until the order to drain
    Server,
    /// The Rust clients
    Clients(clients::Options),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(options) => on(&mut Builder::new_multi_thread(), run::run(&options)),
        Command::Server => on(&mut Builder::new_multi_thread(), server::serve()).map(|()| true),
        // One thread, as in Node, so that tasks start in their order.
        Command::Clients(options) => {
            on(&mut Builder::new_current_thread(), clients::drive(options)).map(|()| true)
        }
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

fn on<T>(runtime: &mut Builder, task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime.enable_all().build()?.block_on(task)
}
