//! The decoder: received bytes in, events out. A frame that lies completely in the input is unmasked there
//! and lent; only an incomplete frame at the end of the input is copied, into memory that grows with the
//! bytes that arrive. The reader of the socket calls it; it never reads, waits or answers by itself.

use std::fmt;
use std::ops::Range;

use crate::deflate::Inflate;
use crate::frame::{Context, Header};
use crate::mask::{advance_mask, apply_mask};
use crate::message::{Message, Pending, Unfinished};
use crate::{CloseCode, Compression, Fragment, Limits, OpCode, ProtocolError, Role};

/// A strict decoder, without I/O, of one direction of one connection (RFC 6455 §5).
///
/// It holds no heap memory while nothing is incomplete; the struct itself is at most 64 bytes.
pub struct Decoder {
    limits: Limits,
    /// Invariant: present exactly while a header, a frame or a message is unfinished.
    pending: Option<Box<Pending>>,
    inflate: Option<Inflate>,
    role: Role,
    finished: bool,
}

impl Decoder {
    /// Creates a decoder for our own end of the connection.
    #[must_use]
    pub const fn new(role: Role, limits: Limits) -> Self {
        Self { limits, pending: None, inflate: None, role, finished: false }
    }

    /// Accepts compressed messages, as negotiated (RFC 7692).
    #[must_use]
    pub fn with_inflate(mut self, inflate: Inflate) -> Self {
        self.inflate = Some(inflate);
        self
    }

    /// Decodes bytes that were read from the socket. Payloads are unmasked in place and lent by the events.
    pub fn feed<'d, 'i>(&'d mut self, input: &'i mut [u8]) -> Events<'d, 'i> {
        Events { decoder: self, input, at: 0, lent: Vec::new() }
    }

    /// Whether a frame or a fragmented message is unfinished. The caller sets a deadline for it.
    #[must_use]
    pub const fn is_mid_message(&self) -> bool {
        self.pending.is_some()
    }

    /// Returns the bytes of heap memory for unfinished frames and messages, without the connection's
    /// decompressor ([`Takeover::Allowed`](crate::Takeover)).
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| size_of::<Pending>() + pending.heap())
    }

    /// Sets the limits from the next frame on, for example after the peer has authenticated.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether a close frame or an error has ended the stream. Later bytes are ignored unparsed.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    fn finish(&mut self) {
        self.finished = true;
        self.pending = None;
        self.inflate = None;
    }

    #[inline(always)]
    fn parse(&self, bytes: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let message = self.pending.as_ref().and_then(|pending| pending.message.as_ref());
        let context = Context {
            role: self.role,
            limits: self.limits,
            deflate: self.inflate.is_some(),
            message: message.map(|message| (message.compression, message.len())),
        };
        Header::parse(bytes, &context)
    }

    /// Frees the pending state if nothing is unfinished.
    fn release(&mut self) {
        if self.pending.as_ref().is_some_and(|pending| pending.is_empty()) {
            self.pending = None;
        }
    }

    fn inflate(&mut self, deflated: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        // Invariant: the header parser refuses RSV1 when nothing was negotiated.
        let inflate = self.inflate.as_mut().ok_or(ProtocolError::ReservedBit)?;
        inflate.inflate(deflated, self.limits.message, out)
    }
}

// Payloads belong to users and stay out of logs.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("role", &self.role)
            .field("limits", &self.limits)
            .field("inflate", &self.inflate)
            .field("buffered", &self.buffered())
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

/// One message or control frame from the peer.
///
/// Exhaustive: RFC 6455 has no other kind of message or control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A complete text message.
    Text(&'a str),
    /// A complete binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload (RFC 6455 §5.5.2). Answering the latest ping is
    /// enough.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer's close frame, with its code and reason if it has them. Nothing is decoded after it.
    Close(Option<(CloseCode, &'a str)>),
}

/// The events in one input, one after another.
///
/// Call [`next`](Self::next) until it returns `None`, or take the [`rest`](Self::rest): the decoder does not
/// keep input that it has not processed.
#[must_use = "input that is not decoded is lost; call `next` until it returns `None`, or keep the `rest`"]
pub struct Events<'d, 'i> {
    decoder: &'d mut Decoder,
    input: &'i mut [u8],
    at: usize,
    /// Payload of an event that does not lie in the input; reused as the buffer of the next such event.
    lent: Vec<u8>,
}

impl fmt::Debug for Events<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("decoder", &self.decoder)
            .field("input", &self.input.len())
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// A complete frame or message, and the location of its payload.
struct Found {
    opcode: OpCode,
    place: Place,
}

enum Place {
    Input(Range<usize>),
    Lent,
}

impl<'i> Events<'_, 'i> {
    /// Returns the next event. `None` means that the input is consumed and its incomplete tail is in the
    /// decoder.
    ///
    /// # Errors
    ///
    /// Returns the first fault of the peer. The decoder is finished after it, as after [`Event::Close`].
    // Not an `Iterator`: the event borrows from `self`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, ProtocolError> {
        if self.decoder.finished {
            return Ok(None);
        }
        let found = match self.find() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.decoder.finish();
                return Err(error);
            }
        };
        let payload = match found.place {
            Place::Input(range) => &self.input[range],
            Place::Lent => &self.lent[..],
        };
        let event = interpret(found.opcode, payload);
        if matches!(event, Err(_) | Ok(Event::Close(_))) {
            self.decoder.finish();
        }
        event.map(Some)
    }

    /// Stops decoding and returns the unprocessed input, to be fed later.
    #[must_use]
    pub fn rest(self) -> &'i mut [u8] {
        &mut self.input[self.at..]
    }

    fn find(&mut self) -> Result<Option<Found>, ProtocolError> {
        loop {
            if self.decoder.pending.as_ref().is_some_and(|pending| pending.frame.is_some()) {
                match self.fill()? {
                    Some(found) => return Ok(Some(found)),
                    None if self.is_mid_frame() => return Ok(None),
                    None => {}
                }
            }
            let Some(header) = self.header()? else { return Ok(None) };
            let whole = header.payload <= self.input.len() - self.at;
            let alone = header.opcode.is_control()
                || (header.fragment == Fragment::Final && header.opcode != OpCode::Continuation);
            if whole && alone {
                return self.lend(&header).map(Some);
            }
            self.begin(&header)?;
        }
    }

    fn is_mid_frame(&self) -> bool {
        self.decoder.pending.as_ref().is_some_and(|pending| pending.frame.is_some())
    }

    /// Reads a header, which may have begun in earlier input. Keeps an incomplete header.
    #[inline(always)] // Returned through memory, the header took two fifths of a small frame's time.
    fn header(&mut self) -> Result<Option<Header>, ProtocolError> {
        let begun = self.decoder.pending.as_ref().is_some_and(|pending| pending.head.len() > 0);
        let input = &self.input[self.at..];
        if begun || input.is_empty() {
            return if begun { self.complete_header() } else { Ok(None) };
        }
        match self.decoder.parse(input)? {
            Some(header) => {
                self.at += header.size;
                Ok(Some(header))
            }
            None => self.complete_header(),
        }
    }

    /// Reads a header whose bytes are spread over several inputs.
    #[cold]
    fn complete_header(&mut self) -> Result<Option<Header>, ProtocolError> {
        let pending = self.decoder.pending.get_or_insert_default();
        let begun = pending.head.len();
        let taken = pending.head.extend(&self.input[self.at..]);
        let head = pending.head;
        let Some(header) = self.decoder.parse(head.bytes())? else {
            self.at += taken;
            return Ok(None);
        };
        self.at += header.size - begun;
        if let Some(pending) = &mut self.decoder.pending {
            pending.head.clear();
        }
        self.decoder.release();
        Ok(Some(header))
    }

    /// Lends a frame that lies completely in the input and is a complete message or a control frame.
    fn lend(&mut self, header: &Header) -> Result<Found, ProtocolError> {
        let range = self.at..self.at + header.payload;
        self.at = range.end;
        let payload = &mut self.input[range.clone()];
        apply_mask(payload, header.mask);
        if header.compression == Compression::Deflated {
            self.decoder.inflate(payload, &mut self.lent)?;
            return Ok(Found { opcode: header.opcode, place: Place::Lent });
        }
        Ok(Found { opcode: header.opcode, place: Place::Input(range) })
    }

    /// Starts a frame whose payload has to be kept.
    fn begin(&mut self, header: &Header) -> Result<(), ProtocolError> {
        let limits = self.decoder.limits;
        let pending = self.decoder.pending.get_or_insert_default();
        if !header.opcode.is_control() {
            let message =
                pending.message.get_or_insert_with(|| Message::new(header.opcode, header.compression));
            message.note_fragment(header, limits.empty_fragments)?;
        }
        pending.frame = Some(Unfinished {
            opcode: header.opcode,
            fragment: header.fragment,
            missing: header.payload,
            mask: header.mask,
        });
        Ok(())
    }

    /// Moves the input's part of the unfinished frame into the decoder. Returns `Some` if that completes an
    /// event.
    fn fill(&mut self) -> Result<Option<Found>, ProtocolError> {
        let Some(pending) = self.decoder.pending.as_deref_mut() else { return Ok(None) };
        let Some(frame) = &mut pending.frame else { return Ok(None) };
        let end = self.at + frame.missing.min(self.input.len() - self.at);
        let chunk = &mut self.input[self.at..end];
        self.at = end;
        apply_mask(chunk, frame.mask);
        frame.mask = advance_mask(frame.mask, chunk.len());
        frame.missing -= chunk.len();
        let (opcode, missing) = (frame.opcode, frame.missing);
        let last = missing == 0 && frame.fragment == Fragment::Final;
        if opcode.is_control() {
            pending.control.extend_from_slice(chunk);
        } else if let Some(message) = &mut pending.message {
            message.append(chunk, frame, self.decoder.limits.message);
            if !last {
                message.check_text()?;
            }
        }
        if missing > 0 {
            return Ok(None);
        }
        pending.frame = None;
        if opcode.is_control() {
            self.lent = std::mem::take(&mut pending.control);
            self.decoder.release();
            return Ok(Some(Found { opcode, place: Place::Lent }));
        }
        let Some(message) = pending.message.take_if(|_| last) else { return Ok(None) };
        self.decoder.release();
        let opcode = message.opcode;
        match message.compression {
            Compression::Plain => self.lent = message.into_bytes(),
            Compression::Deflated => self.decoder.inflate(&message.into_bytes(), &mut self.lent)?,
        }
        Ok(Some(Found { opcode, place: Place::Lent }))
    }
}

/// Turns a complete payload into its event, and checks the rules of the frame's type.
#[inline]
fn interpret(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    Ok(match opcode {
        OpCode::Text => Event::Text(utf8(payload)?),
        // A message carries the opcode of its first frame.
        OpCode::Binary | OpCode::Continuation => Event::Binary(payload),
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        OpCode::Close => Event::Close(close(payload)?),
    })
}

fn close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::CloseTooShort) };
    };
    let code = CloseCode::new(u16::from_be_bytes(*code));
    if !code.is_valid_on_wire() {
        return Err(ProtocolError::CloseCode);
    }
    Ok(Some((code, utf8(reason)?)))
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, ProtocolError> {
    // Below this length setting up vectors costs more than it gains (measured).
    if bytes.len() < 256 {
        return std::str::from_utf8(bytes).map_err(|_| ProtocolError::InvalidUtf8);
    }
    simdutf8::basic::from_utf8(bytes).map_err(|_| ProtocolError::InvalidUtf8)
}
