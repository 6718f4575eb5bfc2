//! The report of a run: a table for people or a line of JSON for programs, and whether the run passed.

use super::recorder::{Faults, Latency};
use super::runner::BenchRun;
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
    connect_s: Option<f64>,
    connects_per_s: Option<f64>,
    client_cpu_share: Option<f64>,
    interrupted: bool,
    /// Figures that only this workload has.
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
    /// Creates a report with the figures that every workload has. `unit` is what its throughput counts.
    pub(super) fn new(run: &BenchRun, workload: &'static str, unit: &'static str) -> Self {
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
            connect_s: connect_s.map(rounded),
            connects_per_s: connect_s.map(|seconds| rounded(f64::from(run.conns) / seconds.max(1e-9))),
            client_cpu_share: run.cpu_share().map(rounded),
            interrupted: run.is_interrupted(),
            details: Map::new(),
            unit,
            terms: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Replaces the throughput, for workloads that do not measure arrivals.
    pub(super) fn throughput(mut self, per_second: f64, seconds: f64) -> Self {
        (self.throughput_per_s, self.seconds) = (rounded(per_second), rounded(seconds));
        self
    }

    /// Adds a figure that only this workload has.
    pub(super) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a condition of the measurement to the heading of the table.
    pub(super) fn term(mut self, text: impl Into<String>) -> Self {
        self.terms.push(text.into());
        self
    }

    /// Adds a line below the table.
    pub(super) fn remark(mut self, text: impl Into<String>) -> Self {
        self.remarks.push(text.into());
        self
    }

    /// Returns the table, or one line of JSON.
    pub(super) fn text(&self, json: bool) -> anyhow::Result<String> {
        Ok(if json { serde_json::to_string(self)? + "\n" } else { self.table() })
    }

    /// Returns an error if anything was lost or failed.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let faults = &self.faults;
        if faults.is_clean() {
            return Ok(());
        }
        let first =
            faults.first_error.as_ref().map(|text| format!("; first error: {text}")).unwrap_or_default();
        bail!(
            "{} lost, {} duplicated, {} reordered, {}{first}",
            count(faults.lost),
            count(faults.duplicated),
            count(faults.reordered),
            number(faults.errors, "error")
        );
    }

    fn table(&self) -> String {
        let mut text =
            format!("\n  {} · {}\n  {}", self.workload, self.url, number(self.conns, "connection"));
        for term in &self.terms {
            let _ = write!(text, " · {term}");
        }
        let latency = &self.latency;
        let figures = [
            (format!("{}/s", self.unit), thousands(self.throughput_per_s)),
            ("p50".to_owned(), duration(latency.p50_us)),
            ("p90".to_owned(), duration(latency.p90_us)),
            ("p99".to_owned(), duration(latency.p99_us)),
            ("p99.9".to_owned(), duration(latency.p999_us)),
            ("max".to_owned(), duration(latency.max_us)),
        ];
        let (heads, cells): (String, String) = figures
            .iter()
            .map(|(head, figure)| (format!(" {head:>WIDTH$}"), format!(" {figure:>WIDTH$}")))
            .unzip();
        let _ = write!(text, "\n\n {heads}\n {cells}\n");
        for line in self.lines() {
            let _ = write!(text, "\n  {line}");
        }
        text.push_str("\n\n");
        text
    }

    /// Returns the lines below the figures.
    fn lines(&self) -> Vec<String> {
        let faults = &self.faults;
        let mut lines = vec![format!(
            "{} lost · {} duplicated · {} reordered · {} · measured for {:.2} s",
            count(faults.lost),
            count(faults.duplicated),
            count(faults.reordered),
            number(faults.errors, "error"),
            self.seconds
        )];
        if let (Some(seconds), Some(per_second)) = (self.connect_s, self.connects_per_s) {
            lines.push(format!("connected in {seconds:.2} s ({}/s)", thousands(per_second)));
        }
        for (code, connections) in &faults.closed {
            let with = if *code == 1006 { "without a close code".to_owned() } else { format!("with {code}") };
            lines.push(format!("{} ended {with}", number(*connections, "connection")));
        }
        lines.extend(self.remarks.iter().cloned());
        if let Some(share) = self.client_cpu_share.filter(|share| *share > SATURATED) {
            let percent = share * 100.0;
            lines.push(format!("this tool used {percent:.0} % of a core: the server may be able to do more"));
        }
        if self.interrupted {
            lines.push("interrupted: the figures cover the time until then".to_owned());
        }
        lines
    }
}

/// Formats microseconds in the unit that needs the fewest digits.
pub(super) fn duration(micros: Option<f64>) -> String {
    match micros {
        None => "–".to_owned(),
        Some(micros) if micros < 1e3 => format!("{micros:.1} µs"),
        Some(micros) if micros < 1e6 => format!("{:.2} ms", micros / 1e3),
        Some(micros) => format!("{:.2} s", micros / 1e6),
    }
}

/// Formats a whole number with commas, or a value below 10 with one decimal.
pub(super) fn thousands(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 { format!("{value:.1}") } else { count(value.round() as u64) }
}

/// Formats a number and its noun.
pub(super) fn number(value: impl Into<u64>, thing: &str) -> String {
    let value = value.into();
    format!("{} {thing}{}", count(value), if value == 1 { "" } else { "s" })
}

/// Formats a whole number with commas.
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

/// Rounds to four decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

const WIDTH: usize = 12;
/// Share of a core above which the client measures itself.
const SATURATED: f64 = 0.9;

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
