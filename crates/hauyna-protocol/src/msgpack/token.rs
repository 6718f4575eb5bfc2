//! Reads MessagePack one token at a time. Only this file reads markers and declared lengths.

use crate::Limits;
use rmp::Marker;

/// One token of MessagePack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
    Binary(&'a [u8]),
    /// An array; this many values follow.
    Array(u32),
    /// A map; this many pairs follow.
    Map(u32),
}

/// Why bytes are no valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Truncated,
    Trailing,
    Reserved,
    TextIsNotUtf8,
    TooDeep,
    Extension,
    NameIsNoText,
    NotAnObject,
}

/// The tokens of some bytes.
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

    /// Returns the number of bytes read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Checks that no bytes follow.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed::Trailing) }
    }

    /// Reads one token.
    pub(crate) fn next(&mut self) -> Result<Token<'a>, Malformed> {
        let [marker] = self.fixed()?;
        match Marker::from_u8(marker) {
            Marker::FixPos(number) => Ok(Token::Unsigned(u64::from(number))),
            Marker::FixNeg(number) => Ok(Token::Signed(i64::from(number))),
            Marker::FixStr(length) => self.text(u32::from(length)),
            Marker::FixMap(fields) => self.map(u32::from(fields)),
            Marker::FixArray(items) => self.array(u32::from(items)),
            Marker::Null => Ok(Token::Null),
            Marker::True => Ok(Token::Boolean(true)),
            Marker::False => Ok(Token::Boolean(false)),
            Marker::U8 => Ok(Token::Unsigned(u64::from(u8::from_be_bytes(self.fixed()?)))),
            Marker::U16 => Ok(Token::Unsigned(u64::from(u16::from_be_bytes(self.fixed()?)))),
            Marker::U32 => Ok(Token::Unsigned(u64::from(u32::from_be_bytes(self.fixed()?)))),
            Marker::U64 => Ok(Token::Unsigned(u64::from_be_bytes(self.fixed()?))),
            Marker::I8 => Ok(Token::Signed(i64::from(i8::from_be_bytes(self.fixed()?)))),
            Marker::I16 => Ok(Token::Signed(i64::from(i16::from_be_bytes(self.fixed()?)))),
            Marker::I32 => Ok(Token::Signed(i64::from(i32::from_be_bytes(self.fixed()?)))),
            Marker::I64 => Ok(Token::Signed(i64::from_be_bytes(self.fixed()?))),
            Marker::F32 => Ok(Token::Float(f64::from(f32::from_be_bytes(self.fixed()?)))),
            Marker::F64 => Ok(Token::Float(f64::from_be_bytes(self.fixed()?))),
            Marker::Str8 => self.length8().and_then(|length| self.text(length)),
            Marker::Str16 => self.length16().and_then(|length| self.text(length)),
            Marker::Str32 => self.length32().and_then(|length| self.text(length)),
            Marker::Bin8 => self.length8().and_then(|length| self.binary(length)),
            Marker::Bin16 => self.length16().and_then(|length| self.binary(length)),
            Marker::Bin32 => self.length32().and_then(|length| self.binary(length)),
            Marker::Array16 => self.length16().and_then(|items| self.array(items)),
            Marker::Array32 => self.length32().and_then(|items| self.array(items)),
            Marker::Map16 => self.length16().and_then(|fields| self.map(fields)),
            Marker::Map32 => self.length32().and_then(|fields| self.map(fields)),
            Marker::Reserved => Err(Malformed::Reserved),
            _ => Err(Malformed::Extension),
        }
    }

    /// Skips one value that nests at most `depth` levels.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        let mut level = match Level::of(self.next()?) {
            Some(_) if depth == 0 => return Err(Malformed::TooDeep),
            Some(level) => level,
            None => return Ok(()),
        };
        let mut outer = [Level::default(); Limits::MAX_DEPTH as usize];
        let mut depth_now = 1;
        loop {
            if level.remaining == 0 {
                depth_now -= 1;
                if depth_now == 0 {
                    return Ok(());
                }
                level = outer[depth_now];
                continue;
            }
            let is_name = level.is_map && level.remaining.is_multiple_of(2);
            level.remaining -= 1;
            let token = self.next()?;
            if is_name && !matches!(token, Token::Text(_)) {
                return Err(Malformed::NameIsNoText);
            }
            if let Some(inner) = Level::of(token) {
                if depth_now == depth {
                    return Err(Malformed::TooDeep);
                }
                outer[depth_now] = level;
                depth_now += 1;
                level = inner;
            }
        }
    }

    fn text(&mut self, length: u32) -> Result<Token<'a>, Malformed> {
        let bytes = self.take(length as usize)?;
        std::str::from_utf8(bytes).map(Token::Text).map_err(|_| Malformed::TextIsNotUtf8)
    }

    fn binary(&mut self, length: u32) -> Result<Token<'a>, Malformed> {
        self.take(length as usize).map(Token::Binary)
    }

    /// Returns the token of an array. An item takes at least one byte, so a longer claim is refused at once.
    fn array(&self, items: u32) -> Result<Token<'a>, Malformed> {
        if items as usize > self.bytes.len() - self.at {
            Err(Malformed::Truncated)
        } else {
            Ok(Token::Array(items))
        }
    }

    /// Returns the token of a map. A field takes at least two bytes.
    fn map(&self, fields: u32) -> Result<Token<'a>, Malformed> {
        if fields as usize > (self.bytes.len() - self.at) / 2 {
            Err(Malformed::Truncated)
        } else {
            Ok(Token::Map(fields))
        }
    }

    fn length8(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(|bytes| u32::from(u8::from_be_bytes(bytes)))
    }

    fn length16(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(|bytes| u32::from(u16::from_be_bytes(bytes)))
    }

    fn length32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_be_bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, _) = self.bytes[self.at..].split_first_chunk().ok_or(Malformed::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, _) = self.bytes[self.at..].split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.at += length;
        Ok(bytes)
    }
}

/// Remaining items of one array or map. A map counts names and values.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    remaining: usize,
    is_map: bool,
}

impl Level {
    fn of(token: Token<'_>) -> Option<Self> {
        match token {
            Token::Array(items) => Some(Self { remaining: items as usize, is_map: false }),
            Token::Map(fields) => Some(Self { remaining: 2 * fields as usize, is_map: true }),
            _ => None,
        }
    }
}
