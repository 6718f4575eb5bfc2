//! Runs each fuzz target for a short time if cargo-fuzz is installed. The ordinary tests of the crates replay
//! the committed corpora in any case.

use crate::process;
use crate::steps::Outcome;
use crate::workspace::{Workspace, on_path};
use anyhow::Result;
use std::time::Duration;

/// Fuzzes each target for a while, starting from its committed corpus, which stays unchanged.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let targets = targets(workspace);
    if targets.is_empty() {
        return Ok(Outcome::Skipped("no targets".into()));
    }
    if on_path(&["cargo-fuzz"]).is_none() {
        return Ok(Outcome::Skipped("cargo-fuzz is not installed; the tests replay the corpora".into()));
    }
    for target in &targets {
        let found = workspace.target.join("fuzz-corpus").join(target);
        std::fs::create_dir_all(&found)?;
        let mut command = workspace.cargo(&["fuzz", "run", "--sanitizer", "none", target]);
        command.arg(found);
        let committed = workspace.root.join("fuzz/corpus").join(target);
        if committed.is_dir() {
            command.arg(committed);
        }
        command.args(["--", &format!("-max_total_time={SECONDS}"), "-timeout=10"]);
        // The stable compiler can fuzz without sanitizers, and there is no unsafe code.
        command.env("RUSTC_BOOTSTRAP", "1");
        process::run(workspace, &format!("fuzz-{target}"), &mut command, Duration::from_secs(900))?;
    }
    Ok(Outcome::Passed(format!("{} targets, {SECONDS} s each", targets.len())))
}

fn targets(workspace: &Workspace) -> Vec<String> {
    let folder = std::fs::read_dir(workspace.root.join("fuzz/fuzz_targets"));
    let names =
        folder.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned())).collect();
    names.sort();
    names
}

const SECONDS: u64 = 20;
