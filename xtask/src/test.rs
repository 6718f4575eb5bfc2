//! `cargo xtask test`: every suite there is. What a suite needs beyond Rust it fetches, or says what to
//! install.

use crate::process;
use crate::steps::{Outcome, Step, run_all};
use crate::workspace::{Workspace, on_path, other_program};
use crate::{browser, conformance, contract, environments, fuzz, pressure, site, torture, typescript};
use anyhow::Result;
use std::time::Duration;

/// Runs the suites; `true` when all passed. The last line is their tally.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let tally = run_all(workspace, if workspace.quick { &SUITES[..QUICK] } else { &SUITES })?;
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// The quick ones first.
const SUITES: [Step; 13] = [
    Step { name: "tests", run: tests },
    Step { name: "doc-tests", run: doc_tests },
    Step { name: "release-build", run: release_build },
    Step { name: "contract", run: contract::run },
    Step { name: "site", run: site::run },
    Step { name: "torture", run: torture::short },
    Step { name: "pressure", run: pressure::short },
    Step { name: "typescript", run: typescript::run },
    Step { name: "environments", run: environments::run },
    Step { name: "browser", run: browser::run },
    Step { name: "autobahn", run: conformance::core },
    Step { name: "autobahn-deflate", run: conformance::deflate },
    Step { name: "fuzz", run: fuzz::run },
];
const QUICK: usize = 2;

/// Unit and integration tests, those of every feature among them; a process for each where nextest is there.
fn tests(workspace: &Workspace) -> Result<Outcome> {
    let mut command = if on_path(&["cargo-nextest"]).is_some() {
        workspace.cargo(&["nextest", "run", "--no-tests=warn", "--color=never"])
    } else {
        workspace.cargo(&["test", "--lib", "--bins", "--tests", "--examples"])
    };
    command.args(EVERYTHING);
    let output = process::run(workspace, "tests", &mut command, BUILD_AND_TEST)?;
    Ok(Outcome::Passed(tests_in(&output)))
}

/// The examples of the documentation, the README's among them.
fn doc_tests(workspace: &Workspace) -> Result<Outcome> {
    let mut command = workspace.cargo(&["test", "--doc"]);
    command.args(EVERYTHING);
    let output = process::run(workspace, "doc-tests", &mut command, BUILD_AND_TEST)?;
    Ok(Outcome::Passed(tests_in(&output)))
}

/// The program as users build it.
pub(crate) fn release_build(workspace: &Workspace) -> Result<Outcome> {
    if let Some(program) = other_program() {
        return Ok(Outcome::Skipped(format!("HAUYNA_BIN is {}", program.display())));
    }
    let mut command = workspace.cargo(&["build", "--release", "--package", "hauyna-server"]);
    process::run(workspace, "release-build", &mut command, BUILD_AND_TEST)?;
    Ok(Outcome::passed())
}

/// How many tests ran, from the words of nextest or of the standard harness.
fn tests_in(output: &str) -> String {
    let count = |line: &str, before: &str| -> Option<usize> {
        line.split_once(before)?.0.split_whitespace().last()?.parse().ok()
    };
    let nextest =
        output.lines().filter(|line| line.contains("Summary [")).find_map(|l| count(l, " tests run"));
    let harness = output.lines().filter(|line| line.starts_with("test result:"));
    let sum = nextest.unwrap_or_else(|| harness.filter_map(|line| count(line, " passed")).sum());
    format!("{sum} tests")
}

/// What features add is tested only where they are on. That it builds without them is for `cargo xtask
/// check`.
const EVERYTHING: [&str; 3] = ["--workspace", "--all-features", "--no-fail-fast"];
/// A clean build of everything on two slow cores, then the tests.
const BUILD_AND_TEST: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::tests_in;

    #[test]
    fn tests_are_counted_in_the_words_of_either_runner() {
        assert_eq!(tests_in("     Summary [   0.003s] 12 tests run: 12 passed, 0 skipped"), "12 tests");
        let harness = "test result: ok. 3 passed; 0 failed\nrunning\ntest result: ok. 4 passed; 0 failed";
        assert_eq!(tests_in(harness), "7 tests");
    }
}
