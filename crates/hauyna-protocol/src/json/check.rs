//! Checks the depth of a text before `serde_json` sees it. `serde_json` checks the grammar; nesting in
//! skipped values, which it does not limit, is checked here. `raw` and `fields` use it.

use super::token;
use crate::Fault;
use serde_json::value::RawValue;

/// Checks that `text` is one JSON value, no deeper than `depth`.
pub(crate) fn check(text: &str, depth: usize) -> Result<(), Fault> {
    check_depth(text, depth).map_err(|_| Fault::too_deep(depth))?;
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(describe(text, &error)),
    }
}

/// Finds the first bracket that nests deeper than `limit`. It is iterative, so no text overflows the stack.
pub(super) fn check_depth(text: &str, limit: usize) -> Result<(), usize> {
    let bytes = text.as_bytes();
    if count_openers(bytes) <= limit {
        return Ok(()); // As many brackets as levels cannot nest too deeply, wherever they stand.
    }
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' if depth == limit => return Err(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = token::end_of_text(bytes, at + 1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Counts `[` and `{`, which differ in one bit. It adds up bytes, so that the compiler vectorises it.
pub(super) fn count_openers(bytes: &[u8]) -> usize {
    let count = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    bytes.chunks(128).map(|chunk| usize::from(count(chunk))).sum()
}

/// Turns an error of `serde_json` into the protocol's texts, which do not depend on its version.
pub(super) fn describe(text: &str, error: &serde_json::Error) -> Fault {
    if error.is_data() && !text.trim_start().starts_with('{') {
        return Fault::not_an_object();
    }
    let details = serde_json::json!({ "line": error.line(), "column": error.column() });
    Fault::parse("the message is not valid JSON", Some(details))
}
