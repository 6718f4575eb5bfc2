//! Reads single values: texts and integers of the envelope. `raw` uses it.

use super::token::{Token, Tokens};

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
