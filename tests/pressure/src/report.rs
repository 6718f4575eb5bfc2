//! The table: a row for each scenario, and the sums. `run` prints it.

use crate::server::{Options, Policy, Runtime};
use crate::stage::Outcome;

pub(crate) fn print_head() {
    println!(
        "{:<20} {:<11} {:<8} {:>7} {:>16} {:>11} {:>7} {:>6} {:>8} {:>6} {:>6} {:>22} {:>22}",
        "scenario",
        "policy",
        "runtime",
        "readers",
        "lagging",
        "closed",
        "dropped",
        "lost",
        "disorder",
        "twice",
        "over",
        "MB base>peak/allowed",
        "p99 ms alone>beside",
    );
}

pub(crate) fn print_row(name: &str, server: Options, outcome: &Outcome) {
    let policy = match server.policy {
        Policy::Disconnect => "disconnect",
        Policy::DropOldest => "drop-oldest",
        Policy::DropNewest => "drop-newest",
        Policy::Conflate => "conflate",
    };
    let runtime = match server.runtime {
        Runtime::Multi => "multi",
        Runtime::PerCore => "per-core",
        Runtime::Streams => "streams",
    };
    let closed = match outcome.code {
        Some(code) => format!("{} ({code})", outcome.closed),
        None => "0".to_owned(),
    };
    let lagging = format!("{} ({} closed)", outcome.lagging, outcome.closed_lagging);
    let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let memory = outcome.memory;
    let memory = format!(
        "{}>{}/{}={:.2}",
        megabytes(memory.base),
        megabytes(memory.peak),
        megabytes(memory.allowed),
        memory.ratio()
    );
    let latency = outcome.latency;
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    let latency = format!(
        "{:.1}>{:.1}={:.1}x",
        milliseconds(latency.alone),
        milliseconds(latency.beside),
        latency.ratio()
    );
    let difference = outcome.difference;
    println!(
        "{name:<20} {policy:<11} {runtime:<8} {:>7} {lagging:>16} {closed:>11} {:>7} {:>6} {:>8} {:>6} {:>6} {memory:>22} {latency:>22}{}",
        outcome.readers,
        outcome.dropped,
        difference.lost,
        difference.disorder,
        difference.duplicates,
        difference.overcounted,
        if outcome.is_violated() { "  BROKEN" } else { "" },
    );
    for failure in &outcome.failures {
        println!("    {}", failure.chars().take(SHOWN).collect::<String>());
    }
}

/// Prints the sums. Each line begins with a figure; most of them must be 0.
pub(crate) fn print_sum(rows: &[Outcome]) {
    let sum = |count: fn(&Outcome) -> u64| rows.iter().map(count).sum::<u64>();
    let max = |ratio: fn(&Outcome) -> f64| rows.iter().map(ratio).fold(0.0, f64::max);
    println!();
    println!("{:>8}  of {} rows are violated", sum(|row| row.is_violated().into()), rows.len());
    println!("{:>8}  of them are in doubt", sum(|row| row.is_in_doubt().into()));
    println!("{:>8}  readers closed that did not lag", sum(|row| row.closed as u64));
    println!("{:>8}  readers that did not lag and lost messages with a gap", sum(|row| row.dropped as u64));
    println!("{:>8}  messages lost without a gap", sum(|row| row.difference.lost));
    println!("{:>8}  messages after a later one", sum(|row| row.difference.disorder));
    println!("{:>8}  messages twice", sum(|row| row.difference.duplicates));
    println!("{:>8}  messages counted by a gap that were not missing", sum(|row| row.difference.overcounted));
    println!("{:>8}  other failures", sum(|row| row.failures.len() as u64));
    println!(
        "{:>8.2}  greatest peak memory over what is allowed (at most 1.2)",
        max(|row| row.memory.ratio())
    );
    println!(
        "{:>8.2}  greatest p99 of bystanders over it alone (aim: at most 2)",
        max(|row| row.latency.ratio())
    );
}

/// Maximum of characters of a printed failure.
const SHOWN: usize = 160;
