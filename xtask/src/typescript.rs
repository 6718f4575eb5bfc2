//! The suite of the TypeScript client: its types, its build, its tests against the program, its package and its
//! size. And that the file which the pages load is what the build gives.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::test::release_build;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Installs what it needs, then types, build, tests, package, size, one after the other.
pub(crate) fn run(house: &Workspace) -> Result<Outcome> {
    let folder = install(house)?;
    release_build(house)?;
    npm(house, "types", &folder)?;
    npm(house, "build", &folder)?;
    let tests = npm(house, "test", &folder)?;
    npm(house, "package", &folder)?;
    npm(house, "page", &folder)?;
    let size = npm(house, "size", &folder)?;
    let line = |output: &str, word: &str| {
        output.lines().rfind(|line| line.contains(word)).unwrap_or_default().trim().to_owned()
    };
    Ok(Outcome::Passed(format!("{}; {}", line(&tests, "Tests "), line(&size, "gzip"))))
}

/// The package as the bindings' examples take it.
pub(crate) fn build(house: &Workspace) -> Result<()> {
    let folder = install(house)?;
    npm(house, "build", &folder)?;
    Ok(())
}

/// The types alone, where the client's tools are installed: they take seconds.
pub(crate) fn types(house: &Workspace) -> Result<Outcome> {
    let folder = folder(house);
    if !folder.join("node_modules/.bin/tsc").is_file() {
        return Ok(Outcome::Skipped(
            "needs npm ci in clients/typescript, which `cargo xtask test` does".into(),
        ));
    }
    npm(house, "types", &folder)?;
    Ok(Outcome::passed())
}

fn install(house: &Workspace) -> Result<PathBuf> {
    on_path(&["npm"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let folder = folder(house);
    install_packages(house, &folder)?;
    Ok(folder)
}

fn folder(house: &Workspace) -> PathBuf {
    house.root.join("clients/typescript")
}

/// A script of the package in this folder.
pub(crate) fn npm(house: &Workspace, script: &str, folder: &std::path::Path) -> Result<String> {
    let mut command = house.command("npm");
    command
        .args(["run", "--silent", script])
        .current_dir(folder)
        .env("HAUYNA_BIN", house.program())
        .env("NO_COLOR", "1");
    process::run(house, &format!("typescript-{script}"), &mut command, Duration::from_secs(600))
}
