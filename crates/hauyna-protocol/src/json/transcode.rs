//! JSON → MessagePack, iterative: one pass counts the items of every array and object, a second one writes.
//! Integers of up to 64 bits stay integers; all other numbers become doubles.

use super::token::{Token, Tokens, unescape_into};
use rmp::encode;

/// Appends the value in MessagePack; `nil` if there is none.
pub(crate) fn to_message_pack(json: &[u8], out: &mut Vec<u8>) {
    let mut counts = count_items(json).into_iter();
    let mut scratch = Vec::new();
    let start = out.len();
    // Writing into a `Vec` cannot fail, so the results are ignored.
    for token in Tokens::new(json) {
        match token {
            Token::OpenObject => {
                let _ = encode::write_map_len(out, counts.next().unwrap_or(0) / 2);
            }
            Token::OpenArray => {
                let _ = encode::write_array_len(out, counts.next().unwrap_or(0));
            }
            Token::Close => {}
            Token::Text(text) => write_text(text, &mut scratch, out),
            Token::Scalar(scalar) => write_scalar(scalar, out),
        }
    }
    if out.len() == start {
        let _ = encode::write_nil(out);
    }
}

/// Counts the direct items of each array and object, in the order in which they open.
fn count_items(json: &[u8]) -> Vec<u32> {
    let mut counts: Vec<u32> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for token in Tokens::new(json) {
        if token == Token::Close {
            open.pop();
            continue;
        }
        if let Some(innermost) = open.last() {
            counts[*innermost] += 1;
        }
        if matches!(token, Token::OpenObject | Token::OpenArray) {
            open.push(counts.len());
            counts.push(0);
        }
    }
    counts
}

fn write_text(text: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut text = text;
    if memchr::memchr(b'\\', text).is_some() {
        scratch.clear();
        unescape_into(text, scratch);
        text = scratch;
    }
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let _ = encode::write_str_len(out, length);
    out.extend_from_slice(text);
}

fn write_scalar(scalar: &[u8], out: &mut Vec<u8>) {
    match scalar {
        b"null" => {
            let _ = encode::write_nil(out);
        }
        b"true" => {
            let _ = encode::write_bool(out, true);
        }
        b"false" => {
            let _ = encode::write_bool(out, false);
        }
        number => write_number(std::str::from_utf8(number).unwrap_or_default(), out),
    }
}

fn write_number(number: &str, out: &mut Vec<u8>) {
    // As an integer, the zero of `-0` would lose its sign.
    if let Ok(integer) = number.parse::<u64>() {
        let _ = encode::write_uint(out, integer);
    } else if let Ok(integer) = number.parse::<i64>()
        && integer != 0
    {
        let _ = encode::write_sint(out, integer);
    } else if let Ok(float) = number.parse::<f64>() {
        let _ = encode::write_f64(out, float);
    } else {
        let _ = encode::write_nil(out);
    }
}
