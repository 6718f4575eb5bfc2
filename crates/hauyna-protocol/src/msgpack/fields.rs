//! Reads the fields of a message in order, without a tree. `request` collects those of the protocol, and
//! `raw` visits those of any map.

use super::check::describe;
use super::token::{Malformed, Token, Tokens};
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
