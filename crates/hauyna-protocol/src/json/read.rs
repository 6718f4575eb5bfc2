//! Reads single values of valid JSON: texts and integers of the envelope. `raw` uses it.

use std::borrow::Cow;

/// Reads a text, borrowed unless it has escapes. `None` for other kinds and for lone surrogates.
pub(crate) fn read_text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let [b'"', inner @ .., b'"'] = bytes else { return None };
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(bytes).ok().map(Cow::Owned)
}

/// Reads only digits: no sign, fraction or exponent.
pub(crate) fn read_unsigned(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 20 {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
