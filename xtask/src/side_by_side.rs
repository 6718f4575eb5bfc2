//! Rows A to J: the program beside the floor server, a C program that does nothing but send. Both are measured
//! by the load generator that lies beside the workspace, in interleaved rounds; medians are printed.

use crate::house::House;
use crate::process::{self, Guard};
use crate::server::{Server, pinned};
use crate::table::{Table, figure};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Measures every row; `true` unless one failed.
pub(crate) fn run(house: &House) -> Result<bool> {
    let tools = Tools::build(house)?;
    let mut table =
        Table::new(&["", "unit", "floor", "hauyna", "ratio", "user", "share", "p50 µs", "p99 µs", "wrong"]);
    let mut failures = Vec::new();
    for row in
        ROWS.iter().filter(|row| house.only.is_empty() || house.only.iter().any(|name| name == row.name))
    {
        let mut floor = Vec::new();
        let mut ours = Vec::new();
        for round in 1..=house.rounds {
            println!("row {}, round {round} of {}", row.name, house.rounds);
            keep(row, tools.floor(house, row), &mut floor, &mut failures);
            keep(row, tools.hauyna(house, row), &mut ours, &mut failures);
        }
        table.row(cells(row, &floor, &ours));
    }
    println!(
        "\nmedians of {} rounds; µs of server time, `user` of it in user space; `wrong`: lost + doubled + reordered",
        house.rounds
    );
    println!("\n{table}\n{}", failures.join("\n"));
    Ok(failures.is_empty())
}

/// One line of the table.
struct Row {
    name: &'static str,
    what: &'static str,
    /// Words for the load generator, the same for both servers.
    options: &'static str,
    /// Words that only our server gets: protocol and, for requests, the size that fits.
    ours: &'static str,
    floor: Floor,
    /// The figure compared, and the one of it that is user space.
    figure: &'static str,
    user: &'static str,
    unit: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// A `send` for each message.
    Each,
    /// The messages of one turn joined into one `send`.
    Joined,
}

const ROWS: [Row; 11] = [
    fan_out(
        "A",
        "1,000 subscribers, one at a time",
        "fanout --conns 1000 --rate closed --window 1 --msgs 1000",
        Floor::Each,
    ),
    fan_out(
        "B",
        "1,000 subscribers, 16 outstanding",
        "fanout --conns 1000 --rate closed --window 16 --msgs 4000",
        Floor::Joined,
    ),
    fan_out("C", "1,000 subscribers, 50 msg/s", "fanout --conns 1000 --rate 50 --secs {}", Floor::Each),
    fan_out(
        "D",
        "10,000 subscribers",
        "fanout --conns 10000 --rate closed --window 1 --msgs 100",
        Floor::Each,
    ),
    fan_out(
        "E",
        "1,000 channels of 10",
        "fanout --conns 10000 --channels 1000 --rate closed --window 1 --msgs 20000",
        Floor::Each,
    ),
    echo("F", "echo, 100 connections", "echo --conns 100 --secs {}", "--proto raw --size 128"),
    echo("F2", "ping request, 100 connections", "echo --conns 100 --secs {}", "--proto hauyna --size 48"),
    echo("G", "echo, 1,000 connections", "echo --conns 1000 --secs {}", "--proto raw --size 128"),
    Row {
        name: "H",
        what: "idle, subscribed",
        options: "idle --conns 10000 --secs {}",
        ours: OURS,
        floor: Floor::Each,
        figure: "rss_bytes_per_conn",
        user: "",
        unit: "B/connection",
    },
    Row {
        name: "I",
        what: "churn",
        options: "churn --conns 50 --secs {}",
        ours: OURS,
        floor: Floor::Each,
        figure: "server_us_per_cycle",
        user: "server_user_us_per_cycle",
        unit: "µs/cycle",
    },
    Row {
        name: "J",
        what: "20 of 200 stalled, 8 KiB × 100/s",
        options: "slow --conns 200 --stalled 20 --size 8192 --rate 100 --secs 20",
        ours: "--proto hauyna",
        floor: Floor::Each,
        figure: "rss_growth_mb",
        user: "",
        unit: "MB growth",
    },
];

const fn fan_out(name: &'static str, what: &'static str, options: &'static str, floor: Floor) -> Row {
    Row {
        name,
        what,
        options,
        ours: OURS,
        floor,
        figure: "server_us_per_delivery",
        user: "server_user_us_per_delivery",
        unit: "µs/delivery",
    }
}

const fn echo(name: &'static str, what: &'static str, options: &'static str, ours: &'static str) -> Row {
    Row {
        name,
        what,
        options,
        ours,
        floor: Floor::Each,
        figure: "server_us_per_round",
        user: "server_user_us_per_round",
        unit: "µs/round",
    }
}

const OURS: &str = "--proto hauyna --size 128";

/// The load generator and the floor servers, built.
struct Tools {
    load: PathBuf,
    floor: PathBuf,
    joined: PathBuf,
}

impl Tools {
    fn build(house: &House) -> Result<Tools> {
        let source = house.shared("wsload").context("no wsload beside the workspace")?;
        let target = house.scratch.join("wsload");
        println!("building the load generator and the floor servers");
        let mut build = house.cargo(&["build", "--release", "--locked", "--manifest-path"]);
        build.arg(source.join("Cargo.toml")).env("CARGO_TARGET_DIR", &target).current_dir(&house.scratch);
        process::run(house, "wsload", &mut build, BUILD)?;
        let floor = compile(house, &source, "floor")?;
        Ok(Tools { load: target.join("release/wsload"), floor, joined: compile(house, &source, "floorb")? })
    }

    fn hauyna(&self, house: &House, row: &Row) -> Result<Value> {
        let server = Server::start_pinned(house, &["--echo", "/echo", "--log", "error"])?;
        let report = self.load(house, row, row.ours, (server.address.port(), server.id()))?;
        server.stop()?;
        Ok(report)
    }

    fn floor(&self, house: &House, row: &Row) -> Result<Value> {
        let program = if row.floor == Floor::Joined { &self.joined } else { &self.floor };
        let port = free_port()?;
        let mut command = pinned(house, &program.to_string_lossy());
        command
            .args([&port.to_string(), "send"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut guard = Guard(command.spawn().context("cannot start the floor server")?);
        await_port(port)?;
        let own = row.ours.replace("--proto hauyna", "--proto raw");
        let report = self.load(house, row, &own, (port, guard.0.id()))?;
        guard.stop(Duration::from_secs(2))?;
        Ok(report)
    }

    fn load(&self, house: &House, row: &Row, own: &str, (port, id): (u16, u32)) -> Result<Value> {
        let mut command = house.command(&self.load.to_string_lossy());
        let options = row.options.replace("{}", &house.seconds.to_string());
        command.args(options.split(' ')).args(own.split(' '));
        command.args(["--port", &port.to_string(), "--pid", &id.to_string(), "--max-secs", "120"]);
        let output =
            process::run(house, &format!("row-{}", row.name), &mut command, Duration::from_secs(300))?;
        let json = output
            .lines()
            .rfind(|line| line.starts_with('{'))
            .context("the load generator printed nothing")?;
        Ok(serde_json::from_str(json)?)
    }
}

fn keep(row: &Row, report: Result<Value>, reports: &mut Vec<Value>, failures: &mut Vec<String>) {
    match report {
        Ok(report) => reports.push(report),
        Err(problem) => failures.push(format!("row {}: {problem:#}", row.name)),
    }
}

fn cells(row: &Row, floor: &[Value], ours: &[Value]) -> Vec<String> {
    let limit = median(floor, row.figure);
    let reached = median(ours, row.figure);
    let ratio = limit.zip(reached).filter(|(limit, _)| *limit > 0.0).map(|(limit, reached)| reached / limit);
    let wrong = WRONG.iter().filter_map(|key| median(ours, key)).reduce(|sum, count| sum + count);
    let mut cells = vec![format!("{}  {}", row.name, row.what), row.unit.to_owned()];
    cells.extend(
        [limit, reached, ratio, median(ours, row.user), median(ours, "server_cpu_share")].map(figure),
    );
    cells.extend([median(ours, "p50_us"), median(ours, "p99_us"), wrong].map(figure));
    cells
}

fn median(reports: &[Value], key: &str) -> Option<f64> {
    let mut values: Vec<f64> = reports.iter().filter_map(|report| report.get(key)?.as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Compiles one of the floor servers, fetching Debian's liburing where that is possible.
fn compile(house: &House, source: &std::path::Path, name: &str) -> Result<PathBuf> {
    let program = house.scratch.join(name);
    let gcc = || {
        let mut gcc = house.command("gcc");
        gcc.args(["-O3", "-march=native", "-w", "-o"])
            .arg(&program)
            .arg(source.join(format!("{name}.c")))
            .arg("-luring");
        process::run(house, name, &mut gcc, BUILD)
    };
    if gcc().is_err() {
        let mut apt = house.command("apt-get");
        apt.args(["--quiet", "install", "--yes", "liburing-dev"]).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(house, "liburing", &mut apt, BUILD).context("the floor needs gcc and liburing-dev")?;
        gcc()?;
    }
    Ok(program)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn await_port(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

const WRONG: [&str; 3] = ["lost", "duplicated", "reordered"];
const BUILD: Duration = Duration::from_secs(600);
