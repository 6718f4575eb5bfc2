//! Latencies and faults that a workload counts while it runs, and the figures computed from them.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// Counter of arrivals. Only what was sent in the measured part enters the figures.
#[derive(Debug)]
pub(super) struct Recorder {
    histogram: Histogram<u64>,
    /// When the measured part began; `None` before that.
    from: Option<u64>,
    last: u64,
    count: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MAX_LATENCY_NS, DIGITS).expect("invariant: the bounds are valid");
        Self { histogram, from: None, last: 0, count: 0 }
    }

    /// Starts the measured part.
    pub(super) fn begin(&mut self, now: u64) {
        self.from = Some(now);
        self.last = now;
    }

    /// Records the arrival of what was sent, or due, at `sent`. Both times are nanoseconds since the run
    /// began.
    pub(super) fn note(&mut self, sent: u64, now: u64) {
        if self.measures(sent) {
            self.histogram.saturating_record(now.saturating_sub(sent).max(1));
            self.count += 1;
            self.last = now;
        }
    }

    /// Whether what was sent, or due, at `sent` belongs to the measured part.
    pub(super) fn measures(&self, sent: u64) -> bool {
        self.from.is_some_and(|from| sent >= from)
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the seconds from the beginning to the last arrival.
    pub(super) fn seconds(&self) -> f64 {
        self.last.saturating_sub(self.from.unwrap_or(self.last)) as f64 / 1e9
    }

    /// Returns the arrivals per second.
    pub(super) fn throughput(&self) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { self.count as f64 / seconds } else { 0.0 }
    }

    pub(super) fn latency(&self) -> Latency {
        let histogram = &self.histogram;
        let micros = |nanos: u64| (!histogram.is_empty()).then(|| (nanos as f64 / 100.0).round() / 10.0);
        let quantile = |quantile| micros(histogram.value_at_quantile(quantile).min(histogram.max()));
        Latency {
            samples: histogram.len(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: micros(histogram.max()),
        }
    }
}

/// Latencies in microseconds; `None` where nothing was measured.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Latency {
    pub(super) samples: u64,
    pub(super) p50_us: Option<f64>,
    pub(super) p90_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) p999_us: Option<f64>,
    pub(super) max_us: Option<f64>,
}

/// Faults of a run, those of the warm-up included.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// Number of connections that ended unexpectedly, by close code; 1006 means without a close frame.
    pub(super) closed: BTreeMap<u16, u64>,
}

impl Faults {
    pub(super) fn error(&mut self, text: impl Into<String>) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| text.into());
    }

    pub(super) fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.errors == 0
    }
}

/// Highest latency that is recorded: ten minutes, in nanoseconds.
const MAX_LATENCY_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_not_measured() {
        let mut recorder = Recorder::new();
        recorder.note(0, 900);
        recorder.begin(1_000);
        recorder.note(999, 2_000);
        assert_eq!((recorder.count(), recorder.latency().p50_us), (0, None));
        recorder.note(1_000, 501_000);
        assert_eq!(recorder.count(), 1);
        assert_eq!(recorder.latency().max_us, Some(500.2), "three digits of 500.0");
    }

    #[test]
    fn percentiles_ascend_and_end_at_the_maximum() {
        let mut recorder = Recorder::new();
        recorder.begin(0);
        for micros in 1..=1000 {
            recorder.note(0, micros * 1000);
        }
        let latency = recorder.latency();
        let figures = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        assert!(figures.is_sorted(), "{figures:?}");
        assert!(
            (latency.p50_us.unwrap() - 500.0).abs() < 1.0 && (latency.p99_us.unwrap() - 990.0).abs() < 1.0
        );
        assert!((recorder.throughput() - 1e6).abs() < 1.0, "1,000 within a millisecond");
    }
}
