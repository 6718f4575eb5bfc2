//! The program `hauyna`: `serve` runs the engine with its chat page, `bench` puts a server under load.
//! No logic of its own: it reads its flags and calls the library.

mod bench;
mod serve;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

// Connections are many small allocations from all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A real-time server: WebSocket channels with history and recovery, and a chat to try them.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the chat page and the WebSocket endpoint `/chat` (what happens without a command, too)
    Serve(serve::Options),
    /// Put a server under load and measure it: fanout, echo, idle, churn or slow
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| Command::Serve(serve::Options::default()));
    let done = match command {
        Command::Serve(options) => serve::run(options),
        Command::Bench(options) => bench::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line, for people.
#[expect(clippy::print_stderr, reason = "a program tells its user what is wrong")]
fn complain(error: &anyhow::Error) {
    eprintln!("hauyna: {error}");
}
