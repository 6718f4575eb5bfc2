//! `hauyna types`: a contract as TypeScript, JSON Schema or AsyncAPI, to the terminal or a file, or compared with a
//! file. The contract is read from what `Contract::write` has written; without a file it is the chat's own.

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use hauyna::contract::Contract;
use std::path::PathBuf;

/// The flags of `hauyna types`.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// A contract as `Contract::write` writes it [default: the contract of this program's chat]
    file: Option<PathBuf>,
    /// What to make of it
    #[arg(long, value_enum, default_value = "typescript")]
    format: Format,
    /// Write to this file, not to the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write nothing; fail where the file of --out is not what the contract gives
    #[arg(long, requires = "out")]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Typescript,
    JsonSchema,
    AsyncApi,
}

/// Makes the text, and writes it or compares it.
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
    let there =
        std::fs::read_to_string(out).map_err(|error| anyhow::anyhow!("{}: {error}", out.display()))?;
    // Git may have given the file other line ends.
    if there.replace("\r\n", "\n") != text {
        bail!("{} is not what the contract gives: run this without --check", out.display());
    }
    Ok(())
}
