//! `cargo xtask check`: all checks of the source tree that do not run it.

use crate::process;
use crate::steps::{Outcome, Step, run_all};
use crate::workspace::Workspace;
use crate::{api, deny, figures, ratchet, references, rules, typescript, words};
use anyhow::Result;
use std::process::Command;
use std::time::Duration;

/// Runs the checks. Returns whether all passed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let tally = run_all(workspace, &STEPS)?;
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

const STEPS: [Step; 15] = [
    Step { name: "lock", run: lock },
    Step { name: "fmt", run: fmt },
    Step { name: "rules", run: rules::run },
    Step { name: "figures", run: figures::run },
    Step { name: "ratchet", run: ratchet::run },
    Step { name: "references", run: references::run },
    Step { name: "words", run: words::run },
    Step { name: "fixtures", run: rules::fixtures },
    Step { name: "typescript", run: typescript::types },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy-minimal", run: clippy_minimal },
    Step { name: "clippy-full", run: clippy_full },
    Step { name: "docs", run: docs },
    Step { name: "deny", run: deny::run },
    Step { name: "api", run: api::run },
];

/// Checks that `Cargo.lock` matches the manifests.
fn lock(workspace: &Workspace) -> Result<Outcome> {
    passes(workspace, "lock", &mut workspace.cargo(&["metadata", "--locked", "--format-version", "1"]))
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    // List only the names of the files; `cargo fmt` corrects them.
    passes(workspace, "fmt", &mut workspace.cargo(&["fmt", "--all", "--check", "--", "--files-with-diff"]))?;
    if workspace.root.join("fuzz/Cargo.toml").is_file() {
        let mut fuzz = workspace.cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
        return passes(workspace, "fmt-fuzz", &mut fuzz);
    }
    Ok(Outcome::passed())
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    lint(workspace, "clippy", &["--workspace"])
}

fn clippy_minimal(workspace: &Workspace) -> Result<Outcome> {
    lint(workspace, "clippy-minimal", &["--package", "hauyna", "--no-default-features"])
}

fn clippy_full(workspace: &Workspace) -> Result<Outcome> {
    lint(workspace, "clippy-full", &["--package", "hauyna", "--all-features"])
}

fn lint(workspace: &Workspace, name: &str, what: &[&str]) -> Result<Outcome> {
    let mut command = workspace.cargo(&["clippy", "--quiet", "--all-targets"]);
    command.args(what).args(["--", "-D", "warnings"]);
    passes(workspace, name, &mut command)
}

fn docs(workspace: &Workspace) -> Result<Outcome> {
    let mut command = workspace.cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    passes(workspace, "docs", command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn passes(workspace: &Workspace, name: &str, command: &mut Command) -> Result<Outcome> {
    process::run(workspace, name, command, LIMIT)?;
    Ok(Outcome::passed())
}

/// Maximum time of a step: a clean build of all dependencies on two slow cores.
const LIMIT: Duration = Duration::from_secs(20 * 60);
