//! `cargo xtask bench --side-by-side`: compares the program with the floor server and the requested peers.
//! The load generator, which lies beside the workspace, measures all of them in interleaved rounds; the table
//! shows medians.

use crate::bench::MEASURED;
use crate::contender::Contender;
use crate::process;
use crate::rows::{ROWS, Row};
use crate::table::{Table, figure};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Measures all rows. Returns whether none failed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let source =
        workspace.shared("wsload").context("the load generator wsload is missing beside the workspace")?;
    println!("building the load generator and the other servers");
    let load = load_generator(workspace, &source)?;
    let mut contenders = vec![Contender::floor(workspace, &source)?, Contender::Hauyna];
    for name in &workspace.peers {
        contenders.push(Contender::peer(workspace, &source, name)?);
    }
    let mut heading = vec!["", "", "floor", "hauyna", "× floor", "p50 µs", "p99 µs", "busy", "wrong"];
    heading.extend(contenders[2..].iter().map(Contender::name));
    let mut table = Table::new(&heading);
    let mut failures = Vec::new();
    for row in ROWS
        .iter()
        .filter(|row| workspace.only.is_empty() || workspace.only.iter().any(|name| name == row.name))
    {
        let mut reports: Vec<Vec<Value>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 1..=workspace.rounds {
            println!("row {}, round {round} of {}", row.name, workspace.rounds);
            for (contender, reports) in contenders.iter().zip(&mut reports) {
                match measure(workspace, &load, contender, row) {
                    Ok(report) => reports.push(report),
                    Err(problem) => failures.push((row.name, contender.name(), problem)),
                }
            }
        }
        table.row(cells(row, &reports));
    }
    println!(
        "\n{table}\nMedians of {} rounds. Server time, with the user space part in brackets.",
        workspace.rounds
    );
    println!("p50 to wrong are those of hauyna; busy: share of its core; wrong: lost + doubled + reordered.");
    for (row, name, problem) in &failures {
        println!("row {row}, {name}: {problem:#}");
    }
    Ok(failures.is_empty())
}

fn load_generator(workspace: &Workspace, source: &Path) -> Result<PathBuf> {
    let target = workspace.scratch.join("wsload");
    let mut build = workspace.cargo(&["build", "--release", "--locked", "--manifest-path"]);
    build.arg(source.join("Cargo.toml")).env("CARGO_TARGET_DIR", &target);
    process::run(workspace, "wsload", &mut build, Duration::from_secs(600))?;
    Ok(target.join("release/wsload"))
}

fn measure(workspace: &Workspace, load: &Path, contender: &Contender, row: &Row) -> Result<Value> {
    let server = contender.start(workspace, row)?;
    let mut command = workspace.command(&load.to_string_lossy());
    command.args(row.options.replace("{}", &workspace.seconds.unwrap_or(MEASURED).to_string()).split(' '));
    command.args(["--label", contender.name(), "--proto", contender.protocol(row), "--max-secs", "120"]);
    let numbers = [("--port", u32::from(server.port)), ("--pid", server.id), ("--size", row.size)];
    for (option, number) in numbers {
        command.args([option, &number.to_string()]);
    }
    let output =
        process::run(workspace, &format!("row-{}", row.name), &mut command, Duration::from_secs(300))?;
    let json =
        output.lines().rfind(|line| line.starts_with('{')).context("the load generator printed nothing")?;
    Ok(serde_json::from_str(json)?)
}

fn cells(row: &Row, reports: &[Vec<Value>]) -> Vec<String> {
    let total = |at: usize| median(reports[at].iter().map(|report| row.total(report)));
    let both = |at: usize| match median(reports[at].iter().map(|report| row.user(report))) {
        Some(user) => format!("{} ({})", figure(total(at)), figure(Some(user))),
        None => figure(total(at)),
    };
    let of_hauyna = |key: &str| median(reports[1].iter().map(|report| report.get(key)?.as_f64()));
    let ratio =
        total(0).zip(total(1)).filter(|(floor, _)| *floor > 0.0).map(|(floor, hauyna)| hauyna / floor);
    let wrong =
        ["lost", "duplicated", "reordered"].map(of_hauyna).into_iter().flatten().reduce(|sum, n| sum + n);
    let mut cells = vec![format!("{:<3}{}", row.name, row.what), row.unit.to_owned(), both(0), both(1)];
    cells.extend(
        [ratio, of_hauyna("p50_us"), of_hauyna("p99_us"), of_hauyna("server_cpu_share"), wrong].map(figure),
    );
    cells.extend((2..reports.len()).map(both));
    cells
}

fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
