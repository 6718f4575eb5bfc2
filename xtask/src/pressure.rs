//! `cargo xtask pressure`, and its short form in `cargo xtask test`: builds and runs `tests/pressure`, which
//! defines what is measured and what counts as a violation.

use crate::process;
use crate::steps::Outcome;
use crate::workspace::Workspace;
use anyhow::Result;
use std::process::Command;
use std::time::Duration;

/// Runs the full form and prints its table. Returns whether no required count is violated.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    println!("building");
    let mut command = program(workspace)?;
    for scenario in &workspace.only {
        command.args(["--only", scenario]);
    }
    if workspace.quick {
        command.arg("--short");
    }
    match process::run(workspace, "pressure", &mut command, FULL) {
        Ok(table) => println!("\n{table}"),
        Err(violated) => {
            println!("\n{violated:#}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs each scenario with each policy once, with fewer messages. The build is optimised, since readers that
/// are slower than the server would really lag without noticing it.
pub(crate) fn short(workspace: &Workspace) -> Result<Outcome> {
    let mut command = program(workspace)?;
    command.arg("--short");
    let table = process::run(workspace, "pressure", &mut command, FULL)?;
    let sum = table.lines().find(|line| line.ends_with("rows are violated")).unwrap_or_default();
    Ok(Outcome::Passed(sum.trim().to_owned()))
}

/// Builds the program and returns the command of a run.
fn program(workspace: &Workspace) -> Result<Command> {
    let mut build = workspace.cargo(&["build", "--profile", PROFILE, "--package", "hauyna-pressure"]);
    process::run(workspace, "pressure-build", &mut build, Duration::from_secs(30 * 60))?;
    let mut command =
        workspace.command(&workspace.target.join(PROFILE).join("hauyna-pressure").to_string_lossy());
    command.arg("run");
    Ok(command)
}

const PROFILE: &str = "torture";
/// Maximum time of a run. Each scenario has its own, much shorter limit.
const FULL: Duration = Duration::from_secs(60 * 60);
