//! Checks licences, duplicates and sources of the dependencies with cargo-deny and `deny.toml`. Installs the
//! tool into the build folder if it is missing. `check` lists it.

use crate::process;
use crate::steps::Outcome;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Runs cargo-deny without advisories, since their database cannot be fetched from everywhere.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let tool = find_or_install(workspace)?;
    let mut command = workspace.command(&tool.to_string_lossy());
    command.args(["--log-level", "error", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    process::run(workspace, "deny", &mut command, Duration::from_secs(300))?;
    Ok(Outcome::Passed("advisories not checked".into()))
}

fn find_or_install(workspace: &Workspace) -> Result<PathBuf> {
    let installed = workspace.scratch.join("bin/cargo-deny");
    if let Some(tool) = on_path(&["cargo-deny"]).or_else(|| installed.is_file().then(|| installed.clone())) {
        return Ok(tool);
    }
    let mut install =
        workspace.cargo(&["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--root"]);
    install
        .arg(&workspace.scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    process::run(workspace, "deny-install", &mut install, Duration::from_secs(20 * 60)).context(
        "cargo-deny is missing and could not be installed; try: cargo install cargo-deny --locked",
    )?;
    Ok(installed)
}

const VERSION: &str = "0.20.2";
