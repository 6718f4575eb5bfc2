//! `cargo xtask torture`, and its short form in `cargo xtask test`: builds `tests/torture` and the TypeScript
//! client, and runs them. `tests/torture` defines what is measured and what counts as a violation.

use crate::browser::install_packages;
use crate::process;
use crate::steps::Outcome;
use crate::workspace::{Workspace, on_path};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Runs the full form and prints its table. Returns whether all targets were met.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    println!("building");
    let node = driver(workspace)?;
    if node.is_none() {
        println!("without TypeScript clients: Node.js is not installed");
    }
    let seconds = workspace.seconds.unwrap_or(60);
    println!("running for {seconds} s, and the time to settle");
    let mut command = program(workspace, "torture", node)?;
    for language in &workspace.only {
        command.args(["--only", language]);
    }
    match torture(workspace, command, Load { seconds, clients: workspace.clients, rate: workspace.rate }) {
        Ok(table) => println!("\n{table}"),
        Err(violated) => {
            println!("\n{violated:#}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs the short form: ten seconds with few clients.
pub(crate) fn short(workspace: &Workspace) -> Result<Outcome> {
    let load = Load { seconds: 10, clients: 20, rate: 100 };
    let table = torture(workspace, program(workspace, "dev", driver(workspace)?)?, load)?;
    let figure = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().last().unwrap_or_default().to_owned()
    };
    let (delivered, reconnects) = (figure("delivered"), figure("reconnects"));
    Ok(Outcome::Passed(format!("{delivered} delivered, {reconnects} reconnects, nothing lost silently")))
}

/// Builds the program and returns its command without the load.
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

/// The load of a run.
#[derive(Clone, Copy)]
struct Load {
    /// How long the clients publish.
    seconds: u64,
    /// Number of clients of each language.
    clients: u64,
    /// Publications per second.
    rate: u64,
}

fn torture(workspace: &Workspace, mut command: Command, load: Load) -> Result<String> {
    let Load { seconds, clients, rate } = load;
    let options =
        [("--seconds", seconds), ("--clients", clients), ("--rate", rate), ("--seed", workspace.seed)];
    for (option, number) in options {
        command.args([option, &number.to_string()]);
    }
    // Add the time for starting, settling and checking.
    process::run(workspace, "torture", &mut command, Duration::from_secs(seconds + 400))
}

/// Builds the TypeScript client and returns the path of its driver, or `None` without Node.js.
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
