//! Walks JSON that is known to be valid, one token at a time, without a stack. On invalid input it still ends
//! and never panics, but its tokens are meaningless.

/// One token of a JSON text. There are no tokens for commas and colons, which follow from the structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `{`
    OpenObject,
    /// `[`
    OpenArray,
    /// `}` or `]`
    Close,
    /// A text between its quotation marks, with its escapes.
    Text(&'a [u8]),
    /// `null`, `true`, `false` or a number.
    Scalar(&'a [u8]),
}

/// The tokens of a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Starts at the beginning of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        while let b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' = self.bytes.get(self.at)? {
            self.at += 1;
        }
        let start = self.at;
        self.at += 1;
        Some(match self.bytes[start] {
            b'{' => Token::OpenObject,
            b'[' => Token::OpenArray,
            b'}' | b']' => Token::Close,
            b'"' => {
                let end = end_of_text(self.bytes, start + 1);
                self.at = (end + 1).min(self.bytes.len());
                Token::Text(&self.bytes[start + 1..end])
            }
            _ => {
                while let Some(byte) = self.bytes.get(self.at)
                    && !b" \t\n\r,:{}[]\"".contains(byte)
                {
                    self.at += 1;
                }
                Token::Scalar(&self.bytes[start..self.at])
            }
        })
    }
}

/// Finds the quotation mark that ends the text whose first byte is at `from`, or the end of `bytes`.
pub(crate) fn end_of_text(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// Appends the unescaped characters of a text. An unpaired surrogate, which UTF-8 cannot represent, becomes
/// U+FFFD.
pub(crate) fn unescape_into(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(plain) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..plain]);
        let escape = rest.get(plain + 1).copied().unwrap_or(b'\\');
        rest = rest.get(plain + 2..).unwrap_or_default();
        match escape {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (character, used) = unicode_escape(rest);
                rest = rest.get(used..).unwrap_or_default();
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
}

/// Reads what follows `\u`: four digits, or a complete surrogate pair. Also returns the number of bytes used.
fn unicode_escape(rest: &[u8]) -> (char, usize) {
    let first = hex4(rest);
    if let Some(high @ 0xD800..=0xDBFF) = first
        && rest.get(4..6) == Some(b"\\u".as_slice())
        && let Some(low @ 0xDC00..=0xDFFF) = hex4(&rest[6..])
    {
        let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10);
    }
    (first.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}

/// Reads four hexadecimal digits.
fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_at_the_first_mark_that_is_not_escaped() {
        assert_eq!(end_of_text(br#"a\"b\\" "#, 0), 6);
        assert_eq!(end_of_text(br"open\", 0), 5);
    }

    #[test]
    fn escapes_become_characters_and_lone_surrogates_the_replacement() {
        let mut out = Vec::new();
        unescape_into(br#"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00\ud800x\udc00"#, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"\\/\u{8}\u{c}\n\r\tA😀\u{FFFD}x\u{FFFD}");
    }

    #[test]
    fn tokens_of_broken_text_end() {
        for text in [r#"{"a"#, r#"["\"#, "}}]", "tru", r#""\u"#] {
            assert!(Tokens::new(text.as_bytes()).count() <= 4);
        }
    }
}
