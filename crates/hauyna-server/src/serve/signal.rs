//! What signals make of the program: the first drains the hub, the second ends the process at once. Run by the
//! control thread; decides nothing about connections.

use hauyna::{Drain, Hub};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM, from when it was made: none is missed between two.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The exit code that a shell expects of who dies by the next signal: 130 or 143.
    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        128 + kind.as_raw_value()
    }
}

/// Waits for a signal, then for the end of the hub.
pub(super) async fn heed(mut signals: Signals, hub: Hub, window: Duration) {
    signals.next().await;
    tracing::info!(target: "hauyna::server", "a second signal ends the process at once");
    tokio::select! {
        () = hub.drain(Drain::over(window)) => {}
        code = signals.next() => std::process::exit(code),
    }
}

/// A whole number with its unit: `500ms`, `30s`, `2m`.
pub(crate) fn window(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let time = number.parse().ok().and_then(|number: u64| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    });
    time.filter(|time| *time <= LONGEST)
        .ok_or_else(|| "a time such as 500ms, 30s or 2m, at most 60m".to_owned())
}

const LONGEST: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let times = ["0s", "500ms", "30s", "2m", "60m"].map(|text| window(text).unwrap().as_millis());
        assert_eq!(times, [0, 500, 30_000, 120_000, 3_600_000]);
        for wrong in
            ["", "30", "s", "-1s", "1.5s", "30 s", "1h", "61m", "99999999999999999999s", "3601s", "1S"]
        {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
