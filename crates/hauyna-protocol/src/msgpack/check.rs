//! Checks that a value is safe to pass on, and describes input that is not. `raw` and `fields` use it.

use super::token::{Malformed, Tokens};
use crate::Fault;

/// Checks that `bytes` are one value, no deeper than `depth`.
pub(crate) fn check(bytes: &[u8], depth: usize) -> Result<(), Fault> {
    let mut tokens = Tokens::new(bytes);
    let checked = tokens.skip(depth).and_then(|()| tokens.end());
    checked.map_err(|malformed| describe(malformed, depth, ""))
}

/// Turns malformed input into the protocol's texts. `path` is the field in which it was found.
pub(super) fn describe(malformed: Malformed, depth: usize, path: &str) -> Fault {
    let parse = |message| Fault::parse(message, None);
    match malformed {
        Malformed::Truncated => parse("the message ends too early"),
        Malformed::Trailing => parse("something follows the message"),
        Malformed::Reserved => parse("the message is not valid MessagePack"),
        Malformed::TextIsNotUtf8 => parse("the message has a string that is not UTF-8"),
        Malformed::NotAnObject => Fault::not_an_object(),
        Malformed::TooDeep => Fault::too_deep(depth),
        Malformed::Extension => {
            Fault::invalid(path, "value that JSON has", "extension types are not allowed")
        }
        Malformed::NameIsNoText => Fault::invalid(path, "string keys", "a map key is not a string"),
    }
}
