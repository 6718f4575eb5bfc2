//! The grammar of Sec-WebSocket-Extensions (RFC 6455 §9.1) and the four parameters of permessage-deflate
//! (RFC 7692 §7.1). One pass over any header: no backtracking, no copies. `negotiate` uses it.

use crate::token::is_token_byte;

/// One entry of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// permessage-deflate with valid parameters.
    Deflate(Parameters),
    /// permessage-deflate with an unknown, repeated or invalid parameter, which must be declined.
    Invalid,
    /// Another extension.
    Other,
}

/// The parameters of an offer or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Parameters {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<u8>,
    pub(super) client_max_window_bits: Option<ClientBits>,
}

/// The value of `client_max_window_bits`, which an offer may leave out: the server may then choose any limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientBits {
    Any,
    AtMost(u8),
}

/// The error of a header that violates the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A reader of the entries of one header line.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// Reads the next entry; `None` at the end of the line. Empty entries are skipped (RFC 9110 §5.6.1).
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Malformed> {
        self.skip_space();
        while self.take(b',') {
            self.skip_space();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let ours = self.token()? == NAME;
        let mut parameters = Some(Parameters::default());
        self.skip_space();
        while self.take(b';') {
            self.skip_space();
            let name = self.token()?;
            self.skip_space();
            let value = if self.take(b'=') {
                self.skip_space();
                Some(self.value()?)
            } else {
                None
            };
            parameters = parameters.and_then(|parameters| parameters.with(name, value));
            self.skip_space();
        }
        if !self.rest.is_empty() && !self.take(b',') {
            return Err(Malformed);
        }
        Ok(Some(match parameters {
            _ if !ours => Entry::Other,
            Some(parameters) => Entry::Deflate(parameters),
            None => Entry::Invalid,
        }))
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Reads a token, or a quoted string that must be a token once unescaped (RFC 6455 §9.1).
    fn value(&mut self) -> Result<Value, Malformed> {
        if !self.take(b'"') {
            return Ok(self.token()?.iter().fold(Value::default(), |value, byte| value.push(*byte)));
        }
        let mut value = Value::default();
        loop {
            let [first, rest @ ..] = self.rest else { return Err(Malformed) };
            self.rest = rest;
            let byte = match first {
                b'"' => break,
                b'\\' => {
                    let [escaped, rest @ ..] = self.rest else { return Err(Malformed) };
                    self.rest = rest;
                    *escaped
                }
                byte => *byte,
            };
            if !is_token_byte(byte) {
                return Err(Malformed);
            }
            value = value.push(byte);
        }
        if value.len == 0 { Err(Malformed) } else { Ok(value) }
    }
}

impl Parameters {
    /// Adds a parameter. Returns `None` if it is unknown, repeated or has an invalid value (RFC 7692 §7).
    fn with(mut self, name: &[u8], value: Option<Value>) -> Option<Self> {
        match name {
            b"server_no_context_takeover" if !self.server_no_context_takeover && value.is_none() => {
                self.server_no_context_takeover = true;
            }
            b"client_no_context_takeover" if !self.client_no_context_takeover && value.is_none() => {
                self.client_no_context_takeover = true;
            }
            b"server_max_window_bits" if self.server_max_window_bits.is_none() => {
                self.server_max_window_bits = Some(value?.window_bits()?);
            }
            b"client_max_window_bits" if self.client_max_window_bits.is_none() => {
                self.client_max_window_bits = Some(match value {
                    None => ClientBits::Any,
                    Some(value) => ClientBits::AtMost(value.window_bits()?),
                });
            }
            _ => return None,
        }
        Some(self)
    }
}

/// A parameter's value: its first two bytes and its length, which is enough for window bits.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    start: [u8; 2],
    len: usize,
}

impl Value {
    fn push(mut self, byte: u8) -> Self {
        if let Some(slot) = self.start.get_mut(self.len) {
            *slot = byte;
        }
        self.len += 1;
        self
    }

    /// Returns the value as a decimal from 8 to 15 without leading zeros (RFC 7692 §7.1.2).
    fn window_bits(self) -> Option<u8> {
        match (self.len, self.start) {
            (1, [digit @ (b'8' | b'9'), _]) => Some(digit - b'0'),
            (2, [b'1', digit @ b'0'..=b'5']) => Some(10 + digit - b'0'),
            _ => None,
        }
    }
}

const NAME: &[u8] = b"permessage-deflate";
