//! `hauyna types`: prints a contract as TypeScript, JSON Schema or AsyncAPI, writes it to a file or compares
//! it with a file. The contract is a file from `Contract::write`; without a file it is that of the chat.

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use hauyna::contract::Contract;
use std::path::PathBuf;

/// The flags of `hauyna types`.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// A contract as `Contract::write` writes it [default: the contract of this program's chat]
    file: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "typescript")]
    format: Format,
    /// Write to this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write nothing; fail if the file of --out does not match the contract
    #[arg(long, requires = "out")]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Typescript,
    JsonSchema,
    AsyncApi,
}

/// Generates the text, then prints, writes or compares it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let contract = match &options.file {
        None => crate::serve::contract(),
        Some(file) => Contract::read(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?,
    };
    let text = match options.format {
        Format::Typescript => contract.typescript(),
        Format::JsonSchema => format!("{:#}\n", contract.json_schema()),
        Format::AsyncApi => format!("{:#}\n", contract.async_api()),
    };
    let Some(out) = &options.out else {
        return crate::output::print(&text);
    };
    if !options.check {
        return std::fs::write(out, text).with_context(|| format!("{} cannot be written", out.display()));
    }
    let current =
        std::fs::read_to_string(out).map_err(|error| anyhow::anyhow!("{}: {error}", out.display()))?;
    // Git may have changed the line endings.
    if current.replace("\r\n", "\n") != text {
        bail!("{} does not match the contract: run this command without --check", out.display());
    }
    Ok(())
}
