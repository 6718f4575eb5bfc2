//! Limits for the log: a number of lines per second for one cause, then a count of those left out; names and
//! errors as one short line, whatever characters they contain. Tokens, queries and contents are never passed
//! to the log at all. `docs/operations.md` lists what is logged where.

use crate::contain::{self, Panicked};
use crate::counters::Counter;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::{self, Debug, Display, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Runs `line` unless this cause has used up its lines for this second.
pub(crate) fn limited(cause: &'static str, line: impl FnOnce()) {
    static CAUSES: LazyLock<Mutex<HashMap<&'static str, Window>>> = LazyLock::new(Mutex::default);
    let (allowed, suppressed) = CAUSES.lock().entry(cause).or_insert_with(Window::new).count(Instant::now());
    if suppressed > 0 {
        tracing::warn!(target: "hauyna::log", cause, suppressed, "lines left out");
    }
    if allowed {
        line();
    }
}

/// Formats a name that comes from outside.
pub(crate) fn name(text: &str) -> impl Display {
    Line { text, max: MAX_NAME_CHARS }
}

/// Formats a text from outside that is useful only as a whole, such as an origin or a host.
pub(crate) fn untruncated(text: &str) -> impl Display {
    Line { text, max: MAX_FAULT_CHARS }
}

/// Formats an error with its sources. Its text may be the application's, and panic while it is formatted.
pub(crate) fn error_text<E: Debug>(error: &E) -> ErrorText<'_, E> {
    ErrorText { error, panics: None }
}

/// The text of an error on one line.
pub(crate) struct ErrorText<'a, E> {
    error: &'a E,
    panics: Option<&'a Counter>,
}

impl<'a, E> ErrorText<'a, E> {
    /// Counts a panic of its text.
    pub(crate) fn counting(self, panics: &'a Counter) -> Self {
        Self { panics: Some(panics), ..self }
    }
}

impl<E: Debug> Display for ErrorText<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = Line { text: DebugText(self.error), max: MAX_FAULT_CHARS };
        let written = contain::call_uncounted(|| Display::fmt(&line, f));
        written.unwrap_or_else(|Panicked| {
            self.panics.iter().for_each(|panics| panics.increment());
            f.write_str("(its text panicked)")
        })
    }
}

/// A text as one line: no character of it can end the line, colour it, or change its direction.
struct Line<T> {
    text: T,
    /// Maximum number of characters.
    max: usize,
}

impl<T: Display> Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaping = Escaping { out: f, remaining: self.max };
        match write!(escaping, "{}", self.text) {
            Err(_) if escaping.remaining == 0 => f.write_str("…"),
            written => written,
        }
    }
}

struct DebugText<'a, E>(&'a E);

impl<E: Debug> Display for DebugText<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

struct Escaping<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    remaining: usize,
}

impl Write for Escaping<'_, '_> {
    /// Fails at the limit, so that the rest is not even formatted.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.remaining = self.remaining.checked_sub(1).ok_or(fmt::Error)?;
            match character {
                // Quotes and backslashes are in every `Debug`, and harmless.
                '"' | '\'' | '\\' => self.out.write_char(character)?,
                other => write!(self.out, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u32,
    suppressed: u64,
}

impl Window {
    fn new() -> Self {
        Self { start: Instant::now(), lines: 0, suppressed: 0 }
    }

    /// Returns whether one more line may be written, and how many were left out in the second that just
    /// ended.
    fn count(&mut self, now: Instant) -> (bool, u64) {
        let mut ended = 0;
        if now.duration_since(self.start) >= Duration::from_secs(1) {
            ended = self.suppressed;
            *self = Self { start: now, lines: 0, suppressed: 0 };
        }
        self.lines += 1;
        let allowed = self.lines <= MAX_LINES_PER_SECOND;
        self.suppressed += u64::from(!allowed);
        (allowed, ended)
    }
}

const MAX_LINES_PER_SECOND: u32 = 20;
/// Maximum number of characters of a name.
const MAX_NAME_CHARS: usize = 64;
/// Maximum number of characters of an error.
const MAX_FAULT_CHARS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_gets_twenty_lines_a_second_and_then_a_count() {
        let mut window = Window::new();
        let start = window.start;
        let allowed = (0..1000).filter(|_| window.count(start).0).count();
        assert_eq!(allowed, 20);
        assert_eq!(window.count(start + Duration::from_secs(1)), (true, 980));
    }

    #[test]
    fn names_and_faults_are_one_short_line() {
        assert_eq!(name("ann").to_string(), "ann");
        assert_eq!(name("zoë \u{1f600}").to_string(), "zoë \u{1f600}");
        let forged = "x\n{\"level\":\"error\"}\u{1b}[2J\u{202e}\u{9b}";
        assert_eq!(name(forged).to_string(), "x\\n{\"level\":\"error\"}\\u{1b}[2J\\u{202e}\\u{9b}");
        assert_eq!(name(&"n".repeat(64)).to_string(), "n".repeat(64));
        assert_eq!(name(&"n".repeat(65)).to_string(), format!("{}…", "n".repeat(64)));
        let fault = error_text(&("a\nb", "y".repeat(10_000))).to_string();
        assert!(fault.starts_with("(\"a\\nb\", \"yyy") && fault.ends_with("y…"), "{fault}");
        assert!(fault.chars().count() <= 513);
    }
}
