//! What signals do to the server: the first drains the hub, the second ends the process at once. The control
//! thread runs it; it decides nothing about connections.

use crate::output;
use crate::signal::{Signals, exit_code};
use hauyna::{Drain, Hub};
use rustix::process::Signal;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Waits for a signal, drains the hub, sends to `drained`, and then waits for a second signal. The second
/// signal ends the process at any time.
pub(super) async fn shut_down_on_signal(
    mut signals: Signals,
    hub: Hub,
    window: Duration,
    drained: SyncSender<()>,
) {
    signals.next().await;
    tracing::info!(target: "hauyna::server", "a second signal ends the process at once");
    tokio::select! {
        _ = hub.drain(Drain::over(window)) => {}
        signal = signals.next() => exit(signal),
    }
    // The channel has room for one value, and nobody else sends.
    let _ = drained.send(());
    exit(signals.next().await)
}

fn exit(signal: Signal) -> ! {
    output::finish();
    std::process::exit(exit_code(signal))
}

/// Parses a whole number with its unit: `500ms`, `30s`, `2m`.
pub(crate) fn drain_window(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let time = number.parse().ok().and_then(|number: u64| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    });
    time.filter(|time| *time <= MAX_WINDOW)
        .ok_or_else(|| "a time such as 500ms, 30s or 2m, at most 60m".to_owned())
}

const MAX_WINDOW: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let times = ["0s", "500ms", "30s", "2m", "60m"].map(|text| drain_window(text).unwrap().as_millis());
        assert_eq!(times, [0, 500, 30_000, 120_000, 3_600_000]);
        for wrong in
            ["", "30", "s", "-1s", "1.5s", "30 s", "1h", "61m", "99999999999999999999s", "3601s", "1S"]
        {
            assert!(drain_window(wrong).is_err(), "{wrong}");
        }
    }
}
