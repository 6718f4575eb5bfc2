//! `cargo xtask torture`, and its short form in `cargo xtask test`: builds `tests/torture` and the TypeScript client,
//! and runs them. What is measured and what is a violation is said there.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::workspace::{Workspace, on_path};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Runs it at length and prints its table; `true` where every target was met.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    println!("building");
    let node = driver(workspace)?;
    if node.is_none() {
        println!("without TypeScript clients: there is no Node.js");
    }
    let seconds = workspace.seconds.unwrap_or(60);
    println!("{seconds} s of it, and what follows");
    let mut command = program(workspace, "torture", node)?;
    for language in &workspace.only {
        command.args(["--only", language]);
    }
    match torture(workspace, command, [seconds, workspace.clients, workspace.rate]) {
        Ok(table) => println!("\n{table}"),
        Err(violated) => {
            println!("\n{violated:#}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ten seconds of it with few clients.
pub(crate) fn short(workspace: &Workspace) -> Result<Outcome> {
    let table = torture(workspace, program(workspace, "dev", driver(workspace)?)?, [10, 20, 100])?;
    let figure = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().last().unwrap_or_default().to_owned()
    };
    let (delivered, reconnects) = (figure("delivered"), figure("reconnects"));
    Ok(Outcome::Passed(format!("{delivered} delivered, {reconnects} reconnects, nothing lost silently")))
}

/// Builds it; gives the command without its figures.
fn program(workspace: &Workspace, profile: &str, node: Option<PathBuf>) -> Result<Command> {
    let mut build = workspace.cargo(&["build", "--profile", profile, "--package", "hauyna-torture"]);
    process::run(workspace, "torture-build", &mut build, Duration::from_secs(30 * 60))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let program = workspace.target.join(folder).join("hauyna-torture");
    let mut command = workspace.command(&program.to_string_lossy());
    command.arg("run").arg("--logs").arg(workspace.scratch.join("torture"));
    if let Some(node) = node {
        command.arg("--node").arg(node);
    }
    Ok(command)
}

fn torture(
    workspace: &Workspace,
    mut command: Command,
    [seconds, clients, rate]: [u64; 3],
) -> Result<String> {
    let options =
        [("--seconds", seconds), ("--clients", clients), ("--rate", rate), ("--seed", workspace.seed)];
    for (option, number) in options {
        command.args([option, &number.to_string()]);
    }
    // Starting, settling and checking come on top.
    process::run(workspace, "torture", &mut command, Duration::from_secs(seconds + 400))
}

/// The driver of the TypeScript clients, with what it needs built; none where there is no Node.js.
fn driver(workspace: &Workspace) -> Result<Option<PathBuf>> {
    if on_path(&["node"]).is_none() || on_path(&["npm"]).is_none() {
        return Ok(None);
    }
    let folder = workspace.root.join("clients/typescript");
    install_packages(workspace, &folder)?;
    let mut build = workspace.command("npm");
    build.args(["run", "build"]).current_dir(folder);
    process::run(workspace, "torture-typescript", &mut build, Duration::from_secs(300))?;
    Ok(Some(workspace.root.join("tests/torture/driver.mjs")))
}
