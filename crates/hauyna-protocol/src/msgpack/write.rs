//! Writes MessagePack. Writing into a `Vec` cannot fail, so the results of `rmp` are ignored.

use super::token::{Token, Tokens};
use crate::{Encoding, Raw, write::Writer};
use rmp::encode;

/// A writer that appends MessagePack to a buffer.
#[derive(Debug)]
pub(crate) struct PackWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Number of fields written to the innermost open object.
    fields: u8,
}

impl<'o> PackWriter<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, fields: 0 }
    }
}

impl Writer for PackWriter<'_> {
    fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        let header = self.out.len();
        let outer = std::mem::take(&mut self.fields);
        self.out.push(0x80);
        fields(self);
        debug_assert!(self.fields <= 15, "invariant: objects of the protocol have at most 15 fields");
        self.out[header] |= self.fields;
        self.fields = outer;
    }

    fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        let _ = encode::write_array_len(self.out, length(items.len()));
        for value in items {
            item(self, value);
        }
    }

    fn map<K: AsRef<str>, V>(&mut self, entries: &[(K, V)], mut value: impl FnMut(&mut Self, &V)) {
        let _ = encode::write_map_len(self.out, length(entries.len()));
        for (key, entry) in entries {
            self.text(key.as_ref());
            value(self, entry);
        }
    }

    fn name(&mut self, name: &'static str) {
        self.fields += 1;
        self.text(name);
    }

    fn text(&mut self, text: &str) {
        let _ = encode::write_str(self.out, text);
    }

    fn unsigned(&mut self, number: u64) {
        let _ = encode::write_uint(self.out, number);
    }

    fn float(&mut self, number: f64) {
        let _ = encode::write_f64(self.out, number);
    }

    fn boolean(&mut self, value: bool) {
        let _ = encode::write_bool(self.out, value);
    }

    fn raw(&mut self, raw: Raw<'_>) {
        raw.transcode_into(Encoding::MessagePack, self.out);
    }

    fn encoded(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

/// Raises the number of fields by `more` in the map that starts at `at` and ends at the end of `out`.
pub(crate) fn extend_map(out: &mut Vec<u8>, at: usize, more: u32) {
    let mut tokens = Tokens::new(&out[at..]);
    let Ok(Token::Map(fields)) = tokens.next() else { return };
    let old = at..at + tokens.position();
    let mut header = Vec::with_capacity(5);
    let _ = encode::write_map_len(&mut header, fields + more);
    out.splice(old, header);
}

/// Returns a length as MessagePack stores it. Messages are far smaller than 4 GiB.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
