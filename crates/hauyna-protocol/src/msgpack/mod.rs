//! MessagePack: reads the fields of a message without a tree, and checks that its values are safe to pass on.
//! It is iterative; a claimed length counts only as far as there are bytes, and nothing is allocated for it.

mod token;
mod transcode;
mod write;

use token::{Malformed, Token, Tokens};
pub(crate) use transcode::to_json;
pub(crate) use write::{PackWriter, extend_map};

use crate::{Fault, fields::Fields};

/// Collects the protocol's fields of one message. Fields read before a fault stay collected.
pub(crate) fn collect<'a>(bytes: &'a [u8], depth: usize, fields: &mut Fields<'a>) -> Result<(), Fault> {
    let mut last = None;
    let walked = walk_fields(bytes, depth, &mut last, |name, value| fields.put(name, value));
    walked.map_err(|malformed| describe(malformed, depth, last.unwrap_or_default()))
}

/// Calls `visit` with the name and the raw value of each field of the map `bytes`.
pub(crate) fn each_field<'a>(
    bytes: &'a [u8],
    depth: usize,
    visit: impl FnMut(&'a str, &'a [u8]),
) -> Result<(), Malformed> {
    walk_fields(bytes, depth, &mut None, visit)
}

/// Checks that `bytes` are one value, no deeper than `depth`.
pub(crate) fn check(bytes: &[u8], depth: usize) -> Result<(), Fault> {
    let mut tokens = Tokens::new(bytes);
    let checked = tokens.skip(depth).and_then(|()| tokens.end());
    checked.map_err(|malformed| describe(malformed, depth, ""))
}

/// Reads a text.
pub(crate) fn read_text(bytes: &[u8]) -> Option<&str> {
    match Tokens::new(bytes).next() {
        Ok(Token::Text(text)) => Some(text),
        _ => None,
    }
}

/// Reads an integer that is not negative.
pub(crate) fn read_unsigned(bytes: &[u8]) -> Option<u64> {
    match Tokens::new(bytes).next() {
        Ok(Token::Unsigned(number)) => Some(number),
        Ok(Token::Signed(number)) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// Walks the fields of a map. After an error, `last` is the name of the field that was being read.
fn walk_fields<'a>(
    bytes: &'a [u8],
    depth: usize,
    last: &mut Option<&'a str>,
    mut visit: impl FnMut(&'a str, &'a [u8]),
) -> Result<(), Malformed> {
    let mut tokens = Tokens::new(bytes);
    let Token::Map(fields) = tokens.next()? else { return Err(Malformed::NotAnObject) };
    if depth == 0 {
        return Err(Malformed::TooDeep);
    }
    for _ in 0..fields {
        let Token::Text(name) = tokens.next()? else { return Err(Malformed::NameIsNoText) };
        *last = Some(name);
        let start = tokens.position();
        tokens.skip(depth - 1)?;
        visit(name, &bytes[start..tokens.position()]);
        *last = None;
    }
    tokens.end()
}

/// Turns malformed input into the protocol's texts. `path` is the field in which it was found.
fn describe(malformed: Malformed, depth: usize, path: &str) -> Fault {
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

#[cfg(test)]
mod tests;
