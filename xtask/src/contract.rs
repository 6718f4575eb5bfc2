//! The suite of the typed contract: runs `tests/contract`, where the TypeScript compiler and the official
//! schema of AsyncAPI check the files that the tests in Rust generated. `test` lists it.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::time::Duration;

/// Runs the suite: generated types accept exactly what serde accepts.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let node =
        on_path(&["node"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let folder = workspace.root.join("tests/contract");
    install_packages(workspace, &folder)?;
    let mut command = workspace.command(&node.to_string_lossy());
    command.args(["--test", "--test-reporter=spec"]).current_dir(&folder);
    let output = process::run(workspace, "contract", &mut command, Duration::from_secs(300))?;
    let passed = output.lines().find_map(|line| line.split_once("pass ")).map_or("", |(_, count)| count);
    Ok(Outcome::Passed(format!("{passed} tests")))
}
