//! The torture run: hundreds of clients of every language behind a network that fails, a server that is drained and
//! exchanged under them, and a checker that finds out who lost what without being told. `cargo xtask torture` runs it.
//!
//! `run` is the whole; `server` is its child process, as is `driver.mjs` with the TypeScript clients. They are told by
//! lines on their standard input what to do next, and end when it ends.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks to its terminal")]

mod checker;
mod child;
mod log;
mod report;
mod run;
mod server;

use clap::Parser;
use std::process::ExitCode;

/// How hard, how long and with what.
#[derive(Debug, Parser)]
enum Command {
    /// The whole run; exit code 1 where a target was missed
    Run(run::Options),
    /// A server, until it is told to drain
    Server,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(options) => run::run(&options).await,
        Command::Server => server::serve().await.map(|()| true),
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
