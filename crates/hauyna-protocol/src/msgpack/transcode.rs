//! MessagePack → JSON, iterative. `bin` becomes base64 text, a number that is not finite becomes `null`.

use super::token::{Malformed, Token, Tokens};
use crate::json::{write_float, write_text};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Appends the value in JSON; `null` if the bytes are not one valid value.
pub(crate) fn to_json(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if write(bytes, out).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// An array or map while it is written.
struct Level {
    remaining: usize,
    is_map: bool,
    is_first: bool,
}

impl Level {
    /// Writes the separator before the next item.
    fn separate(&mut self, out: &mut Vec<u8>) {
        if self.is_value() {
            out.push(b':');
        } else if !std::mem::take(&mut self.is_first) {
            out.push(b',');
        }
    }

    fn is_name(&self) -> bool {
        self.is_map && self.remaining.is_multiple_of(2)
    }

    fn is_value(&self) -> bool {
        self.is_map && !self.remaining.is_multiple_of(2)
    }
}

fn write(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut tokens = Tokens::new(bytes);
    let mut levels: Vec<Level> = Vec::new();
    loop {
        let mut is_name = false;
        if let Some(level) = levels.last_mut() {
            is_name = level.is_name();
            level.separate(out);
            level.remaining -= 1;
        }
        match tokens.next()? {
            Token::Text(text) => write_text(text, out),
            _ if is_name => return Err(Malformed::NameIsNoText),
            Token::Array(items) => {
                out.push(b'[');
                levels.push(Level { remaining: items as usize, is_map: false, is_first: true });
            }
            Token::Map(fields) => {
                out.push(b'{');
                levels.push(Level { remaining: 2 * fields as usize, is_map: true, is_first: true });
            }
            scalar => write_scalar(scalar, out),
        }
        while let Some(level) = levels.pop_if(|level| level.remaining == 0) {
            out.push(if level.is_map { b'}' } else { b']' });
        }
        if levels.is_empty() {
            return tokens.end();
        }
    }
}

fn write_scalar(token: Token<'_>, out: &mut Vec<u8>) {
    match token {
        Token::Boolean(true) => out.extend_from_slice(b"true"),
        Token::Boolean(false) => out.extend_from_slice(b"false"),
        Token::Unsigned(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Token::Signed(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Token::Float(number) => write_float(number, out),
        Token::Binary(bytes) => write_text(&STANDARD.encode(bytes), out),
        Token::Text(text) => write_text(text, out),
        Token::Null | Token::Array(_) | Token::Map(_) => out.extend_from_slice(b"null"),
    }
}
