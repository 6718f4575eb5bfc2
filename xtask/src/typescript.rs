//! The suite of the TypeScript client: its types, its build, its tests against the program, its package and
//! its size, and a check that the pages load the current build. `test` and `check` list it.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::test::release_build;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Installs the packages, then runs types, build, tests, package and size, one after the other.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let folder = install(workspace)?;
    release_build(workspace)?;
    npm(workspace, "types", &folder)?;
    npm(workspace, "build", &folder)?;
    let tests = npm(workspace, "test", &folder)?;
    npm(workspace, "package", &folder)?;
    npm(workspace, "page", &folder)?;
    let size = npm(workspace, "size", &folder)?;
    let line = |output: &str, word: &str| {
        output.lines().rfind(|line| line.contains(word)).unwrap_or_default().trim().to_owned()
    };
    Ok(Outcome::Passed(format!("{}; {}", line(&tests, "Tests "), line(&size, "gzip"))))
}

/// Builds the package for the examples of the bindings.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let folder = install(workspace)?;
    npm(workspace, "build", &folder)?;
    Ok(())
}

/// Checks only the types, if the client's tools are installed; it takes seconds.
pub(crate) fn types(workspace: &Workspace) -> Result<Outcome> {
    let folder = folder(workspace);
    if !folder.join("node_modules/.bin/tsc").is_file() {
        return Ok(Outcome::Skipped(
            "needs npm ci in clients/typescript, which `cargo xtask test` does".into(),
        ));
    }
    npm(workspace, "types", &folder)?;
    Ok(Outcome::passed())
}

fn install(workspace: &Workspace) -> Result<PathBuf> {
    on_path(&["npm"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let folder = folder(workspace);
    install_packages(workspace, &folder)?;
    Ok(folder)
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("clients/typescript")
}

/// Runs a script of the package in this folder.
pub(crate) fn npm(workspace: &Workspace, script: &str, folder: &std::path::Path) -> Result<String> {
    let mut command = workspace.command("npm");
    command
        .args(["run", "--silent", script])
        .current_dir(folder)
        .env("HAUYNA_BIN", workspace.program())
        .env("NO_COLOR", "1");
    process::run(workspace, &format!("typescript-{script}"), &mut command, Duration::from_secs(600))
}
