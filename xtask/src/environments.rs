//! The environments of the TypeScript client's users: `tests/environments` runs the package in test runners,
//! frameworks, bundlers, runtimes and versions of TypeScript, each pinned in its own folder.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::test::release_build;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result};
use std::time::Duration;

/// Builds the package, then runs all environments. Each installs the pinned packages of its folder once.
/// Bundles run in Chromium through the driver of `tests/browser`, if Chromium is installed.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    on_path(&["npm"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    let package = workspace.root.join("clients/typescript");
    install_packages(workspace, &package)?;
    let mut build = workspace.command("npm");
    build.args(["run", "--silent", "build"]).current_dir(&package).env("NO_COLOR", "1");
    process::run(workspace, "environments-build", &mut build, Duration::from_secs(300))?;
    install_packages(workspace, &workspace.root.join("tests/browser"))?;
    release_build(workspace)?;
    let mut tests = workspace.command("npm");
    tests
        .arg("test")
        .current_dir(workspace.root.join("tests/environments"))
        .env("HAUYNA_BIN", workspace.program())
        .env("NO_COLOR", "1");
    let output = process::run(workspace, "environments", &mut tests, LIMIT)?;
    Ok(Outcome::Passed(summary(&output)))
}

/// Returns how many environments passed, and the reason of each skipped one.
fn summary(output: &str) -> String {
    let count = |word: &str| {
        output
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("ℹ ")?.strip_prefix(word))
            .unwrap_or_default()
            .trim()
    };
    let mut note = format!("{} rows", count("pass "));
    for reason in output.lines().filter_map(|line| line.split_once("# ").map(|(_, reason)| reason)) {
        note = format!("{note}; skipped: {reason}");
    }
    note
}

/// Maximum time. A run takes two minutes on two idle cores, and twice that with the first installation.
const LIMIT: Duration = Duration::from_secs(20 * 60);

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn environments_that_were_skipped_are_named_with_their_reason() {
        let output = "✔ Jest 29, node (1959.2ms)\n﹣ Deno (0.4ms) # npm has no deno for darwin\nℹ tests 2\nℹ pass 1\nℹ skipped 1\n";
        assert_eq!(summary(output), "1 rows; skipped: npm has no deno for darwin");
    }
}
