//! Limits for the log: so many lines a second for one cause, then a count of those left out. A flood of
//! bad frames must not become a flood of lines.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Runs `line` unless this cause has had its lines for this second.
pub(crate) fn limited(cause: &'static str, line: impl FnOnce()) {
    static CAUSES: LazyLock<Mutex<HashMap<&'static str, Window>>> = LazyLock::new(Mutex::default);
    let (allowed, suppressed) = CAUSES.lock().entry(cause).or_insert_with(Window::new).count(Instant::now());
    if suppressed > 0 {
        tracing::warn!(target: "hauyna", cause, suppressed, "log lines left out");
    }
    if allowed {
        line();
    }
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    suppressed: u64,
}

impl Window {
    fn new() -> Self {
        Self { began: Instant::now(), lines: 0, suppressed: 0 }
    }

    /// Whether one more line may be written, and how many were left out in the second that just ended.
    fn count(&mut self, now: Instant) -> (bool, u64) {
        let mut ended = 0;
        if now.duration_since(self.began) >= Duration::from_secs(1) {
            ended = self.suppressed;
            *self = Self { began: now, lines: 0, suppressed: 0 };
        }
        self.lines += 1;
        let allowed = self.lines <= LINES;
        self.suppressed += u64::from(!allowed);
        (allowed, ended)
    }
}

const LINES: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_gets_twenty_lines_a_second_and_then_a_count() {
        let mut window = Window::new();
        let start = window.began;
        let allowed = (0..1000).filter(|_| window.count(start).0).count();
        assert_eq!(allowed, 20);
        assert_eq!(window.count(start + Duration::from_secs(1)), (true, 980));
    }
}
