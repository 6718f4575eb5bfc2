//! The torture run: hundreds of clients of every language behind a network that fails, a server that is drained and
//! exchanged under them, and a checker that finds out who lost what without being told. `cargo xtask torture` runs it.
//!
//! `run` is the whole; `server` and `clients` are its child processes, as is `driver.mjs` for TypeScript. They are told by
//! lines on their standard input what to do next, and end when it ends.
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

/// How hard, how long and with what.
#[derive(Debug, Parser)]
enum Command {
    /// The whole run; exit code 1 where a target was missed
    Run(run::Options),
    /// A server, until it is told to drain
    Server,
    /// The Rust clients
    Clients(clients::Options),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(options) => on(&mut Builder::new_multi_thread(), run::run(&options)),
        Command::Server => on(&mut Builder::new_multi_thread(), server::serve()).map(|()| true),
        // One thread, as Node has; and tasks begin in their order.
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
