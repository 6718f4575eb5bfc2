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
pub(crate) fn run(house: &Workspace) -> Result<bool> {
    println!("building");
    let node = driver(house)?;
    if node.is_none() {
        println!("without TypeScript clients: there is no Node.js");
    }
    let seconds = house.seconds.unwrap_or(60);
    println!("{seconds} s of it, and what follows");
    let mut command = program(house, "torture", node)?;
    for language in &house.only {
        command.args(["--only", language]);
    }
    match torture(house, command, [seconds, house.clients, house.rate]) {
        Ok(table) => println!("\n{table}"),
        Err(violated) => {
            println!("\n{violated:#}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ten seconds of it with few clients.
pub(crate) fn short(house: &Workspace) -> Result<Outcome> {
    let table = torture(house, program(house, "dev", driver(house)?)?, [10, 20, 100])?;
    let figure = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().last().unwrap_or_default().to_owned()
    };
    let (delivered, reconnects) = (figure("delivered"), figure("reconnects"));
    Ok(Outcome::Passed(format!("{delivered} delivered, {reconnects} reconnects, nothing lost silently")))
}

/// Builds it; gives the command without its figures.
fn program(house: &Workspace, profile: &str, node: Option<PathBuf>) -> Result<Command> {
    let mut build = house.cargo(&["build", "--profile", profile, "--package", "hauyna-torture"]);
    process::run(house, "torture-build", &mut build, Duration::from_secs(30 * 60))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let program = house.target.join(folder).join("hauyna-torture");
    let mut command = house.command(&program.to_string_lossy());
    command.arg("run").arg("--logs").arg(house.scratch.join("torture"));
    if let Some(node) = node {
        command.arg("--node").arg(node);
    }
    Ok(command)
}

fn torture(house: &Workspace, mut command: Command, [seconds, clients, rate]: [u64; 3]) -> Result<String> {
    let options = [("--seconds", seconds), ("--clients", clients), ("--rate", rate), ("--seed", house.seed)];
    for (option, number) in options {
        command.args([option, &number.to_string()]);
    }
    // Starting, settling and checking come on top.
    process::run(house, "torture", &mut command, Duration::from_secs(seconds + 400))
}

/// The driver of the TypeScript clients, with what it needs built; none where there is no Node.js.
fn driver(house: &Workspace) -> Result<Option<PathBuf>> {
    if on_path(&["node"]).is_none() || on_path(&["npm"]).is_none() {
        return Ok(None);
    }
    let folder = house.root.join("clients/typescript");
    install_packages(house, &folder)?;
    let mut build = house.command("npm");
    build.args(["run", "build"]).current_dir(folder);
    process::run(house, "torture-typescript", &mut build, Duration::from_secs(300))?;
    Ok(Some(house.root.join("tests/torture/driver.mjs")))
}
