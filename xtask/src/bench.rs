//! `cargo xtask bench`: runs the load tool `hauyna bench` against a new release server on one core, and
//! prints one table. `--side-by-side` compares with the physical limit instead.

use crate::process;
use crate::server::Server;
use crate::side_by_side;
use crate::table::{Table, figure};
use crate::test::release_build;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// Default length of one measurement, in seconds.
pub(crate) const MEASURED: u64 = 5;

/// Measures and prints. Returns whether no row failed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    println!("building the release program");
    release_build(workspace)?;
    if workspace.side_by_side {
        return side_by_side::run(workspace);
    }
    let mut heading = vec!["hauyna bench"];
    heading.extend(FIGURES.map(|(title, _)| title));
    let mut table = Table::new(&heading);
    let mut failures = Vec::new();
    for row in ROWS
        .iter()
        .filter(|row| workspace.only.is_empty() || workspace.only.iter().any(|name| name == row.name))
    {
        println!("measuring {}", row.name);
        match measure(workspace, row) {
            Ok(report) => table.row(cells(row, &report)),
            Err(problem) => failures.push(format!("{}: {problem:#}", row.name)),
        }
    }
    println!("\n{table}\n{}", failures.join("\n"));
    Ok(failures.is_empty())
}

struct Row {
    name: &'static str,
    path: &'static str,
    /// Arguments of the load tool; the workload comes first.
    options: &'static str,
}

const ROWS: [Row; 8] = [
    Row { name: "fanout", path: "/chat", options: "fanout --conns 1000" },
    Row { name: "request", path: "/chat", options: "echo --conns 100" },
    Row { name: "echo", path: "/echo", options: "echo --raw --conns 100" },
    Row { name: "idle", path: "/chat", options: "idle --conns 5000 --pid {pid}" },
    Row { name: "churn", path: "/chat", options: "churn --conns 50" },
    Row { name: "storm", path: "/chat", options: "storm --conns 10000 --pid {pid}" },
    // This workload starts and ends its own server.
    Row { name: "drain", path: "/chat", options: "drain --conns 10000 --window 10s" },
    Row { name: "slow", path: "/chat", options: "slow --conns 200 --stalled 20 --size 8192 --rate 100" },
];

fn measure(workspace: &Workspace, row: &Row) -> Result<Value> {
    let server =
        Server::start_pinned(workspace, &workspace.program(), &["--echo", "/echo", "--log", "error"])?;
    let mut command = workspace.command(&workspace.program().to_string_lossy());
    command.arg("bench").args(row.options.replace("{pid}", &server.id().to_string()).split(' '));
    command.args(["--url", &format!("ws://{}{}", server.address, row.path)]);
    command.args(["--secs", &workspace.seconds.unwrap_or(MEASURED).to_string(), "--json"]);
    let output = process::run(workspace, &format!("bench-{}", row.name), &mut command, LIMIT)?;
    server.stop()?;
    let json = output.lines().rfind(|line| line.starts_with('{')).context("the load tool printed no JSON")?;
    Ok(serde_json::from_str(json)?)
}

fn cells(row: &Row, report: &Value) -> Vec<String> {
    let mut cells = vec![row.options.replace("{pid}", "…")];
    cells.extend(FIGURES.map(|(_, key)| figure(report.get(key).and_then(Value::as_f64))));
    cells
}

/// Heading of each figure and its key in the load tool's report.
const FIGURES: [(&str, &str); 8] = [
    ("per second", "throughput_per_s"),
    ("p50 µs", "p50_us"),
    ("p99 µs", "p99_us"),
    ("p99.9 µs", "p999_us"),
    ("max µs", "max_us"),
    ("B/connection", "rss_bytes_per_conn"),
    ("lost", "lost"),
    ("doubled", "duplicated"),
];
const LIMIT: Duration = Duration::from_secs(180);
