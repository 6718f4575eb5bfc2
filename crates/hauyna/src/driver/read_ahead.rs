//! Reads ahead while a callback waits for an answer of its own client, which could not arrive otherwise:
//! answers go to the callbacks that wait for them, and everything else is kept in order and within a bound
//! until the callback has ended. Part of the task in `driver`.

use super::callback::{start_request, wait_for_room};
use super::reader::{self, Handled};
use super::replies::{MAX_REPLY_BYTES, flush_replies};
use super::task::{Driver, Next};
use crate::connection::{awaits_answer, end_requests};
use crate::transport::{with_replies, with_scratch};
use hauyna_websocket::{Event, OpCode, ProtocolError};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// Input that was read ahead and not handled yet: messages, oldest first, then the remaining bytes.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    held: VecDeque<HeldMessage>,
    /// Bytes of the held messages.
    bytes: usize,
    pub(super) rest_bytes: Box<[u8]>,
}

#[derive(Debug)]
enum HeldMessage {
    Text(Box<str>),
    Binary(Box<[u8]>),
    Ping(Box<[u8]>),
    Pong(Box<[u8]>),
    Close(Option<u16>),
    Fault(ProtocolError),
}

impl ReadAhead {
    pub(super) fn of(rest: Box<[u8]>) -> Option<Box<Self>> {
        (!rest.is_empty()).then(|| Box::new(Self { rest_bytes: rest, ..Self::default() }))
    }

    /// Whether held messages come before the bytes.
    pub(super) fn has_messages(&self) -> bool {
        !self.held.is_empty()
    }

    fn push(&mut self, held: HeldMessage) {
        self.bytes += held.cost();
        self.held.push_back(held);
    }

    fn pop(&mut self) -> Option<HeldMessage> {
        let held = self.held.pop_front()?;
        self.bytes -= held.cost();
        Some(held)
    }

    fn is_full(&self) -> bool {
        self.bytes >= CAPACITY
    }
}

impl HeldMessage {
    fn cost(&self) -> usize {
        let payload = match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(_) | Self::Fault(_) => 0,
        };
        payload + OVERHEAD_BYTES
    }

    /// Whether no answer can come after it.
    fn ends_reading(&self) -> bool {
        matches!(self, Self::Close(_) | Self::Fault(_))
    }
}

impl Driver {
    /// Continues to read if the running callback may be waiting for an answer of the client. Reading pauses
    /// at the bound: the answer of a client that sends more than that before it does not arrive.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>) -> Next {
        if !awaits_answer(&self.core) {
            return Next::Wait;
        }
        if let Some(read_ahead) = &mut self.read_ahead {
            if read_ahead.is_full() {
                return Next::Wait;
            }
            let mut rest = std::mem::take(&mut read_ahead.rest_bytes);
            if !rest.is_empty() {
                self.scan(&mut rest);
                return Next::Again;
            }
        }
        let read = with_scratch(|scratch| {
            let read = self.poll_read(cx, scratch);
            if let Poll::Ready(Ok(read @ 1..)) = read {
                self.core.traffic().received.add(read as u64);
                self.scan(&mut scratch[..read]);
            }
            read
        });
        match read {
            Poll::Pending => Next::Wait,
            Poll::Ready(Ok(1..)) => Next::Again,
            // The end of the stream is read again when everything before it has been handled.
            Poll::Ready(Ok(0) | Err(_)) => {
                end_requests(&self.core);
                Next::Again
            }
        }
    }

    fn scan(&mut self, input: &mut [u8]) {
        let Self { core, decoder, read_ahead, .. } = self;
        let read_ahead = read_ahead.get_or_insert_default();
        core.liveness.note_read();
        let mut has_ended = false;
        let mut events = decoder.feed(input);
        loop {
            let held = match events.next() {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => {
                    has_ended = true;
                    let is_answer = reader::take_answer(core, OpCode::Text, text.as_bytes());
                    (!is_answer).then(|| HeldMessage::Text(text.into()))
                }
                Ok(Some(Event::Binary(bytes))) => {
                    has_ended = true;
                    let is_answer = reader::take_answer(core, OpCode::Binary, bytes);
                    (!is_answer).then(|| HeldMessage::Binary(bytes.into()))
                }
                Ok(Some(Event::Ping(payload))) => Some(HeldMessage::Ping(payload.into())),
                Ok(Some(Event::Pong(payload))) => Some(HeldMessage::Pong(payload.into())),
                Ok(Some(Event::Close(frame))) => {
                    Some(HeldMessage::Close(frame.map(|(code, _)| code.as_u16())))
                }
                Err(error) => Some(HeldMessage::Fault(error)),
            };
            let Some(held) = held else { continue };
            let is_end = held.ends_reading();
            if let (HeldMessage::Close(code), Some(takeover)) = (&held, core.takeover()) {
                takeover.client_closed(reader::closed_cleanly(*code));
            }
            read_ahead.push(held);
            if is_end {
                end_requests(core);
                break;
            }
            if read_ahead.is_full() {
                read_ahead.rest_bytes = (&*events.rest()).into();
                break;
            }
        }
        if has_ended {
            core.transitions().mark_active();
        }
        self.update_message_deadline(has_ended);
    }

    /// Handles the held messages until a callback is running again.
    pub(super) fn replay_held(&mut self, mut read_ahead: Box<ReadAhead>, cx: &mut Context<'_>) {
        let Self { core, callback, .. } = self;
        with_replies(|replies| {
            while callback.is_none()
                && let Some(held) = read_ahead.pop()
            {
                let handled = match held {
                    HeldMessage::Text(text) => reader::handle(core, Event::Text(&text), replies),
                    HeldMessage::Binary(bytes) => reader::handle(core, Event::Binary(&bytes), replies),
                    HeldMessage::Ping(payload) => reader::handle(core, Event::Ping(&payload), replies),
                    HeldMessage::Pong(payload) => reader::handle(core, Event::Pong(&payload), replies),
                    HeldMessage::Close(code) => {
                        reader::closed_by_peer(core, code, replies);
                        Handled::Done
                    }
                    HeldMessage::Fault(error) => {
                        reader::close_for_fault(core, &error, replies);
                        Handled::Done
                    }
                };
                if let Handled::Later(pending) = handled {
                    *callback = start_request(core, pending, replies, cx);
                    if core.sender().is_backed_up() {
                        break;
                    }
                }
                if replies.len() >= MAX_REPLY_BYTES {
                    break;
                }
                if callback.is_none() {
                    *callback = wait_for_room(core);
                }
            }
            flush_replies(core, replies);
        });
        if read_ahead.has_messages() || !read_ahead.rest_bytes.is_empty() {
            self.read_ahead = Some(read_ahead);
        }
    }
}

/// Bytes that may be held; one message may exceed it.
const CAPACITY: usize = 64 * 1024;
/// Bytes that a message costs beside its payload.
const OVERHEAD_BYTES: usize = 64;
