//! The program `hauyna`: `serve` runs the server and its pages, `bench` measures a server under load, `types`
//! generates TypeScript from a contract. This file parses the flags and reports errors; the commands are
//! modules.

mod bench;
mod output;
mod serve;
mod signal;
mod types;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;

// Connections make many small allocations on all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A real-time server: WebSocket channels with history and recovery, and a chat to try them.
#[derive(Debug, Parser)]
#[command(name = "hauyna", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the demo, the chat page and the WebSocket endpoint `/chat` (the default command)
    Serve(serve::Options),
    /// Put a server under load and measure it: fanout, echo, idle, join, churn, drain, storm or slow
    Bench(bench::Options),
    /// Generate TypeScript, JSON Schema or AsyncAPI from a contract, or check that a file matches the
    /// contract
    Types(types::Options),
}

fn main() -> ExitCode {
    let code = run();
    output::finish();
    code
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let command = cli.command.unwrap_or_else(|| Command::Serve(serve::Options::default()));
    let done = match command {
        Command::Serve(options) => serve::run(&options),
        Command::Bench(options) => bench::run(options),
        Command::Types(options) => types::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints help and version unchanged, and a mistake as one line.
fn refuse(error: &clap::Error) -> ExitCode {
    let asks_for_help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_negative(error) {
        output::print_error(&anyhow::anyhow!("no option takes a negative value (see --help)"));
        return ExitCode::from(2);
    }
    if error.use_stderr() && !asks_for_help {
        let text = error.to_string();
        // clap lists missing options and possible values on lines of their own.
        let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let line = lines.join(" ");
        output::print_error(&anyhow::anyhow!("{} (see --help)", line.trim_start_matches("error: ")));
        return ExitCode::from(2);
    }
    match help(error) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whether clap took a negative value such as `-1s` for an unknown option.
fn is_negative(error: &clap::Error) -> bool {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return false };
    let mut word = word.chars();
    word.next() == Some('-') && word.next().is_some_and(|first| first.is_ascii_digit())
}

/// Prints help or a version, in colour on a terminal.
fn help(error: &clap::Error) -> anyhow::Result<()> {
    if !error.use_stderr() && !std::io::stdout().is_terminal() {
        return output::print(&error.to_string());
    }
    Ok(error.print()?)
}
