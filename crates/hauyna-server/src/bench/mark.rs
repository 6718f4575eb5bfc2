//! The mark in every message: its run, its number, and when it was due. It has a fixed length and needs no
//! escaping, so it is found at any position without parsing the server's envelope. All workloads use it.

use memchr::memmem;

/// Number and time of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: u64,
    /// When the message was due, in nanoseconds since the run began.
    pub(super) nanos: u64,
}

/// A finder of the marks of one run. It ignores those of other runs on the same channels.
#[derive(Debug)]
pub(super) struct Marks {
    finder: memmem::Finder<'static>,
}

impl Marks {
    pub(super) fn new(run: u32) -> Self {
        let prefix = format!("~bench:{run:08x}:");
        Self { finder: memmem::Finder::new(prefix.as_bytes()).into_owned() }
    }

    pub(super) fn find(&self, message: &[u8]) -> Option<Mark> {
        let start = self.finder.find(message)? + PREFIX;
        let digits = message.get(start..start + LEN - PREFIX)?;
        let (number, rest) = digits.split_at(NUMBER);
        let (&[b':', ref nanos @ .., b'~'], Some(number)) = (rest, hex(number)) else { return None };
        Some(Mark { number, nanos: hex(nanos)? })
    }

    /// Returns a message in which [`Template::fill`] writes marks: `head`, `size` bytes of content, and
    /// `tail`. `split` stands between the mark and the padding, if there is any.
    pub(super) fn template(&self, envelope: Envelope<'_>, size: usize) -> Template {
        let mut message = envelope.head.as_bytes().to_vec();
        let at = message.len() + PREFIX;
        message.extend_from_slice(self.finder.needle());
        message.resize(at + LEN - PREFIX, b'0');
        let padding = size.saturating_sub(LEN);
        if padding > 0 {
            message.extend_from_slice(envelope.split.as_bytes());
            message.resize(message.len() + padding, b'x');
        }
        message.extend_from_slice(envelope.tail.as_bytes());
        Template { message, at }
    }
}

/// The text around the content of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Envelope<'a> {
    pub(super) head: &'a str,
    pub(super) split: &'a str,
    pub(super) tail: &'a str,
}

/// A message that is sent repeatedly, each time with another mark.
#[derive(Debug, Clone)]
pub(super) struct Template {
    message: Vec<u8>,
    at: usize,
}

impl Template {
    pub(super) fn fill(&mut self, mark: Mark) -> &[u8] {
        let field = &mut self.message[self.at..self.at + LEN - PREFIX];
        write_hex(&mut field[..NUMBER], mark.number);
        field[NUMBER] = b':';
        write_hex(&mut field[NUMBER + 1..NUMBER + 1 + NANOS], mark.nanos);
        field[NUMBER + 1 + NANOS] = b'~';
        &self.message
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(sum << 4 | u64::from(value))
    })
}

fn write_hex(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Bytes of a mark, and the minimum size of a message.
pub(super) const LEN: usize = PREFIX + NUMBER + 1 + NANOS + 1;
/// Length of `~bench:`, eight digits and `:`.
const PREFIX: usize = 16;
const NUMBER: usize = 12;
/// Digits of the time: enough for two years.
const NANOS: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { number: 0xabc_1234_5678, nanos: 0x12_3456_789a };

    #[test]
    fn a_mark_is_found_in_any_envelope() {
        let marks = Marks::new(7);
        let envelope = Envelope { head: "{\"id\":\"", split: "\",\"pad\":\"", tail: "\"}" };
        for size in [LEN, LEN + 1, 4096] {
            let mut template = marks.template(envelope, size);
            let message = template.fill(MARK).to_vec();
            assert_eq!(marks.find(&message), Some(MARK));
            assert!(serde_json::from_slice::<serde_json::Value>(&message).is_ok());
        }
        assert_eq!(marks.template(Envelope::default(), 200).fill(MARK).len(), 200);
    }

    #[test]
    fn other_runs_and_cut_marks_are_not_taken() {
        let mut template = Marks::new(7).template(Envelope::default(), LEN);
        let message = template.fill(MARK);
        assert_eq!(Marks::new(8).find(message), None);
        assert_eq!(Marks::new(7).find(&message[..LEN - 1]), None);
        assert_eq!(Marks::new(7).find(b"{\"type\":\"pong\"}"), None);
    }
}
