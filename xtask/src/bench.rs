//! `cargo xtask bench`: the program's own load tool against a fresh release server on one core, in one table.
//! `--side-by-side` measures beside the physical limit instead.

use crate::house::House;
use crate::process;
use crate::server::Server;
use crate::side_by_side;
use crate::table::{Table, figure};
use crate::test::release_build;
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// Measures and prints; `true` unless a row failed.
pub(crate) fn run(house: &House) -> Result<bool> {
    println!("building the release program");
    release_build(house)?;
    if house.side_by_side {
        return side_by_side::run(house);
    }
    let mut table = Table::new(&HEADING);
    let mut failures = Vec::new();
    for row in
        ROWS.iter().filter(|row| house.only.is_empty() || house.only.iter().any(|name| name == row.name))
    {
        println!("measuring {}", row.name);
        match measure(house, row) {
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
    options: &'static str,
}

const ROWS: [Row; 5] = [
    Row { name: "fanout", path: "/chat", options: "--conns 1000 --size 128" },
    Row { name: "echo", path: "/echo", options: "--conns 100 --size 128" },
    Row { name: "idle", path: "/chat", options: "--conns 5000 --size 128" },
    Row { name: "churn", path: "/chat", options: "--conns 50 --size 128" },
    Row { name: "slow", path: "/chat", options: "--conns 200 --size 8192 --rate 100" },
];

fn measure(house: &House, row: &Row) -> Result<Value> {
    let server = Server::start_pinned(house, &["--echo", "/echo", "--log", "error"])?;
    let mut command = house.command(&house.program().to_string_lossy());
    let url = format!("ws://{}{}", server.address, row.path);
    command.args(["bench", row.name, "--url", &url, "--json"]).args(row.options.split(' '));
    let output = process::run(house, &format!("bench-{}", row.name), &mut command, Duration::from_secs(180))?;
    server.stop()?;
    let json = output.lines().rfind(|line| line.starts_with('{')).context("the load tool printed no JSON")?;
    Ok(serde_json::from_str(json)?)
}

fn cells(row: &Row, report: &Value) -> Vec<String> {
    let mut cells = vec![row.name.to_owned(), row.options.to_owned()];
    cells.extend(FIGURES.iter().map(|key| figure(report.get(key).and_then(Value::as_f64))));
    cells
}

const HEADING: [&str; 9] =
    ["", "", "per second", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "lost", "doubled"];
/// What the load tool calls them.
const FIGURES: [&str; 7] = ["per_second", "p50_us", "p99_us", "p999_us", "max_us", "lost", "duplicated"];
