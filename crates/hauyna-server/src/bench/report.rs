//! What a run measured, as a table for people or a line of JSON for programs, and whether it passed.

use super::recorder::{Faults, Latency};
use super::run::Run;
use anyhow::bail;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The figures of one run. The serialized names are an interface.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    workload: &'static str,
    url: String,
    conns: u32,
    size: usize,
    seconds: f64,
    throughput_per_s: f64,
    #[serde(flatten)]
    latency: Latency,
    #[serde(flatten)]
    faults: Faults,
    connect_s: f64,
    connects_per_s: f64,
    interrupted: bool,
    /// What only this workload has.
    #[serde(flatten)]
    details: Map<String, Value>,
    #[serde(skip)]
    unit: &'static str,
    #[serde(skip)]
    terms: Vec<String>,
    #[serde(skip)]
    remarks: Vec<String>,
}

impl Report {
    /// The figures that every workload has; `unit` is what its throughput counts.
    pub(super) fn new(run: &Run, workload: &'static str, unit: &'static str) -> Self {
        let recorder = run.recorder.borrow();
        let connect_s = run.connect_s();
        Self {
            workload,
            url: run.url.clone(),
            conns: run.conns,
            size: run.size,
            seconds: rounded(recorder.seconds()),
            throughput_per_s: rounded(recorder.throughput()),
            latency: recorder.latency(),
            faults: run.faults.borrow().clone(),
            connect_s: rounded(connect_s),
            connects_per_s: if connect_s > 0.0 { rounded(f64::from(run.conns) / connect_s) } else { 0.0 },
            interrupted: run.is_interrupted(),
            details: Map::new(),
            unit,
            terms: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Replaces the throughput, for workloads that measure something else than arrivals.
    pub(super) fn throughput(mut self, per_second: f64, seconds: f64) -> Self {
        (self.throughput_per_s, self.seconds) = (rounded(per_second), rounded(seconds));
        self
    }

    /// Adds a figure of this workload alone.
    pub(super) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds to the heading of the table: under which terms it was measured.
    pub(super) fn term(mut self, text: impl Into<String>) -> Self {
        self.terms.push(text.into());
        self
    }

    /// Adds a line below the table.
    pub(super) fn remark(mut self, text: impl Into<String>) -> Self {
        self.remarks.push(text.into());
        self
    }

    #[expect(clippy::print_stdout, reason = "the figures are the program's output")]
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?)
        } else {
            print!("{}", self.table())
        }
        Ok(())
    }

    /// An error if anything was lost or went wrong.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let faults = &self.faults;
        if faults.is_clean() {
            return Ok(());
        }
        let first =
            faults.first_error.as_ref().map(|text| format!("; first error: {text}")).unwrap_or_default();
        bail!(
            "{} lost, {} duplicated, {} reordered, {} errors{first}",
            faults.lost,
            faults.duplicated,
            faults.reordered,
            faults.errors
        );
    }

    fn table(&self) -> String {
        let mut text = format!("\n  {} · {} · {} connections", self.workload, self.url, count(self.conns));
        for term in &self.terms {
            let _ = write!(text, " · {term}");
        }
        let latency = &self.latency;
        let heads = [self.unit, "p50", "p90", "p99", "p99.9", "max"];
        let mut figures = vec![thousands(self.throughput_per_s)];
        figures.extend(
            [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us].map(duration),
        );
        text.push_str("\n\n ");
        for (at, head) in heads.iter().enumerate() {
            let head = if at == 0 { format!("{head}/s") } else { (*head).to_owned() };
            let _ = write!(text, " {head:>WIDTH$}");
        }
        text.push_str("\n ");
        for figure in &figures {
            let _ = write!(text, " {figure:>WIDTH$}");
        }
        let faults = &self.faults;
        let _ = write!(
            text,
            "\n\n  {} lost · {} duplicated · {} reordered · {} errors · measured for {:.2} s",
            count(faults.lost),
            count(faults.duplicated),
            count(faults.reordered),
            count(faults.errors),
            self.seconds
        );
        let _ =
            write!(text, "\n  connected in {:.2} s ({}/s)", self.connect_s, thousands(self.connects_per_s));
        for (code, connections) in &faults.closed {
            let _ = write!(text, "\n  {} connections ended with {code}", count(*connections));
        }
        for remark in &self.remarks {
            let _ = write!(text, "\n  {remark}");
        }
        if self.interrupted {
            text.push_str("\n  interrupted: these are the figures so far");
        }
        text.push_str("\n\n");
        text
    }
}

/// Microseconds in the unit that needs the fewest digits.
pub(super) fn duration(micros: Option<f64>) -> String {
    match micros {
        None => "–".to_owned(),
        Some(micros) if micros < 1e3 => format!("{micros:.1} µs"),
        Some(micros) if micros < 1e6 => format!("{:.2} ms", micros / 1e3),
        Some(micros) => format!("{:.2} s", micros / 1e6),
    }
}

/// A whole number with commas, or one digit behind the point where there are few before it.
pub(super) fn thousands(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 { format!("{value:.1}") } else { count(value.round() as u64) }
}

/// A whole number with commas.
pub(super) fn count(value: impl Into<u64>) -> String {
    let digits = value.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// To the precision that means something.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

const WIDTH: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!([0.0, 3.25, 999.0, 1_234_567.4].map(thousands), ["0", "3.2", "999", "1,234,567"]);
        let shown = [Some(12.34), Some(1_234.0), Some(2.5e6), None].map(duration);
        assert_eq!(shown, ["12.3 µs", "1.23 ms", "2.50 s", "–"]);
    }
}
