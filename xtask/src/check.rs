//! `cargo xtask check`: everything that can be said about the tree without running it.

use crate::process;
use crate::steps::{Outcome, Step, run_all};
use crate::workspace::Workspace;
use crate::{deny, figures, ratchet, rules, typescript};
use anyhow::Result;
use std::process::Command;
use std::time::Duration;

/// Runs the checks; `true` when all passed.
pub(crate) fn run(house: &Workspace) -> Result<bool> {
    let tally = run_all(house, &STEPS)?;
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

const STEPS: [Step; 12] = [
    Step { name: "lock", run: lock },
    Step { name: "fmt", run: fmt },
    Step { name: "rules", run: rules::run },
    Step { name: "figures", run: figures::run },
    Step { name: "ratchet", run: ratchet::run },
    Step { name: "fixtures", run: rules::fixtures },
    Step { name: "typescript", run: typescript::types },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy-minimal", run: clippy_minimal },
    Step { name: "clippy-full", run: clippy_full },
    Step { name: "docs", run: docs },
    Step { name: "deny", run: deny::run },
];

/// `Cargo.lock` is what the manifests ask for.
fn lock(house: &Workspace) -> Result<Outcome> {
    passes(house, "lock", &mut house.cargo(&["metadata", "--locked", "--format-version", "1"]))
}

fn fmt(house: &Workspace) -> Result<Outcome> {
    // Names only: what to do about them is `cargo fmt`.
    passes(house, "fmt", &mut house.cargo(&["fmt", "--all", "--check", "--", "--files-with-diff"]))?;
    if house.root.join("fuzz/Cargo.toml").is_file() {
        let mut fuzz = house.cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
        return passes(house, "fmt-fuzz", &mut fuzz);
    }
    Ok(Outcome::passed())
}

fn clippy(house: &Workspace) -> Result<Outcome> {
    lint(house, "clippy", &["--workspace"])
}

fn clippy_minimal(house: &Workspace) -> Result<Outcome> {
    lint(house, "clippy-minimal", &["--package", "hauyna", "--no-default-features"])
}

fn clippy_full(house: &Workspace) -> Result<Outcome> {
    lint(house, "clippy-full", &["--package", "hauyna", "--all-features"])
}

fn lint(house: &Workspace, name: &str, what: &[&str]) -> Result<Outcome> {
    let mut command = house.cargo(&["clippy", "--quiet", "--all-targets"]);
    command.args(what).args(["--", "-D", "warnings"]);
    passes(house, name, &mut command)
}

fn docs(house: &Workspace) -> Result<Outcome> {
    let mut command = house.cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    passes(house, "docs", command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn passes(house: &Workspace, name: &str, command: &mut Command) -> Result<Outcome> {
    process::run(house, name, command, LIMIT)?;
    Ok(Outcome::passed())
}

/// A clean build of all dependencies on two slow cores.
const LIMIT: Duration = Duration::from_secs(20 * 60);
