//! Cargo's tools that checks need. Installs one into the build folder if it is missing.

use crate::process;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Returns the program of a tool, for example `cargo-deny`; installs `version` of it if there is none.
pub(crate) fn find_or_install(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let installed = workspace.scratch.join("bin").join(name);
    if let Some(tool) = on_path(&[name]).or_else(|| installed.is_file().then(|| installed.clone())) {
        return Ok(tool);
    }
    let mut install =
        workspace.cargo(&["install", name, "--version", version, "--locked", "--debug", "--root"]);
    install
        .arg(&workspace.scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    process::run(workspace, &format!("{name}-install"), &mut install, LIMIT).with_context(|| {
        format!("{name} is missing and could not be installed; try: cargo install {name} --locked")
    })?;
    Ok(installed)
}

/// A clean build of a tool on two slow cores.
const LIMIT: Duration = Duration::from_secs(20 * 60);
