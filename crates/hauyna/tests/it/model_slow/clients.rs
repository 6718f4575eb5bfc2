//! One client of a sequence: what it must receive, what it may miss, and how it processes each message.

use super::log::{Entry, Log, Sender, position};
use super::world::{self, Line, ROOM_BYTES, ROOM_FRAMES};
use hauyna::Connection;
use hauyna::connection::Encoding;
use hauyna_protocol::{Limits, Raw};
use hauyna_test::{Client, Frame};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

pub(super) struct Peer {
    pub(super) client: Client,
    pub(super) connection: Connection,
    pub(super) line: Line,
    /// Whether it does not read for some steps.
    pub(super) is_stalled: bool,
    pub(super) volume: Volume,
    pub(super) logs: BTreeMap<String, Log>,
    /// Messages to this client that are never dropped, whatever the method.
    pub(super) direct: Log,
    pub(super) policies: VecDeque<Value>,
    /// Gaps that it received, the publications that they count, and the dropped ones without a gap.
    pub(super) gaps: u64,
    pub(super) missed: u64,
    pub(super) unreported: u64,
    since: u64,
    /// The last message of the application's task.
    last: u64,
    requests: u64,
}

/// What was sent to a client since it last had everything.
#[derive(Debug, Default)]
pub(super) struct Volume {
    pub(super) frames: usize,
    pub(super) bytes: usize,
    /// Whether something was sent that closes the connection if it does not fit.
    pub(super) is_disconnecting: bool,
}

impl Volume {
    pub(super) fn add(&mut self, bytes: usize, is_disconnecting: bool) {
        self.frames += 1;
        self.bytes += bytes + OVERHEAD;
        self.is_disconnecting |= is_disconnecting;
    }

    /// Whether the outbox had room for all of it without the kernel's buffer.
    fn fits(&self) -> bool {
        self.frames <= ROOM_FRAMES && self.bytes <= ROOM_BYTES
    }
}

/// What a client received.
#[derive(Debug)]
pub(super) enum Received {
    Message(Value),
    Closed(u16),
}

impl Peer {
    /// Creates a client that connected after the message with this number.
    pub(super) fn new(client: Client, connection: Connection, line: Line, since: u64) -> Self {
        Self {
            client,
            connection,
            line,
            is_stalled: false,
            volume: Volume::default(),
            logs: BTreeMap::new(),
            direct: Log::default(),
            policies: VecDeque::new(),
            gaps: 0,
            missed: 0,
            unreported: 0,
            since,
            last: 0,
            requests: 0,
        }
    }

    /// Whether something that was sent to it may not have fitted.
    pub(super) fn may_lose(&self) -> bool {
        self.line == Line::Narrow && !self.volume.fits()
    }

    /// Whether its socket may have refused something, which is when messages are conflated.
    fn may_be_conflated(&self) -> bool {
        self.line == Line::Narrow && self.volume.bytes > NARROW_BYTES
    }

    pub(super) fn may_be_closed(&self) -> bool {
        self.may_lose() && self.volume.is_disconnecting
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    pub(super) fn is_complete(&self) -> bool {
        self.direct.is_complete()
            && self.policies.is_empty()
            && self.logs.values().all(|log| log.is_complete() && !log.is_ended && log.announced.is_none())
    }

    /// Records that it has everything and reads again.
    pub(super) fn settle(&mut self) {
        self.logs.values_mut().chain([&mut self.direct]).for_each(Log::settle);
        self.volume = Volume::default();
        self.is_stalled = false;
    }

    pub(super) async fn receive(&mut self) -> Received {
        let encoding = self.encoding();
        match self.client.next_frame().await {
            Frame::Text(text) => Received::Message(serde_json::from_str(&text).unwrap()),
            Frame::Binary(bytes) => {
                let raw = Raw::parse(encoding, &bytes, &Limits::default()).unwrap();
                Received::Message(serde_json::from_str(&raw.as_json()).unwrap())
            }
            Frame::Close(Some((code, _))) => Received::Closed(code),
            other => panic!("{other:?}"),
        }
    }

    fn encoding(&self) -> Encoding {
        let is_packed = self.client.protocol().is_some_and(|protocol| protocol.ends_with("msgpack"));
        if is_packed { Encoding::MessagePack } else { Encoding::Json }
    }

    /// Processes a message that answers no request.
    pub(super) fn accept(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "message" => self.publication(message),
            "gap" => {
                let may_lose = match world::conflates(message["channel"].as_str().unwrap()) {
                    true => self.may_be_conflated(),
                    false => self.may_lose(),
                };
                assert!(may_lose, "gap although it has read everything: {message} {:?}", self.volume);
                self.log(message).gap(message);
                self.gaps += 1;
                self.missed += message["missed"].as_u64().unwrap();
            }
            "subscribed" => self.subscribed(message),
            "unsubscribed" => {
                assert!(self.log(message).is_ended, "{message}");
                let log = self.logs.remove(message["channel"].as_str().unwrap());
                self.unreported += log.unwrap().unreported();
            }
            "private" | "group" | "broadcast" if self.is_early(message) => {}
            "private" | "group" | "broadcast" => self.of_direct(&message["message"]),
            "own" => self.of_direct(&message["content"]),
            "retry_policy" => assert_eq!(self.policies.pop_front().as_ref(), Some(message)),
            _ => panic!("not expected: {message}"),
        }
    }

    fn log(&mut self, message: &Value) -> &mut Log {
        let channel = message["channel"].as_str().unwrap();
        self.logs.get_mut(channel).unwrap_or_else(|| panic!("not subscribed: {message}"))
    }

    fn publication(&mut self, message: &Value) {
        let number = message["content"]["n"].as_u64().unwrap();
        let log = self.log(message);
        assert!(log.announced.is_none(), "before the subscription was reported: {message}");
        let sender = log.publication(number, message["offset"].as_u64());
        if !log.is_catching_up {
            self.keep_order(sender, number);
        }
    }

    /// Whether it was sent before this client connected, because the shard looked for receivers later.
    fn is_early(&mut self, message: &Value) -> bool {
        let number = message["message"]["n"].as_u64().unwrap();
        let is_early = number <= self.since;
        if is_early {
            assert!(self.last < number && message["type"] != "group", "{message}");
            self.last = number;
        }
        is_early
    }

    fn of_direct(&mut self, content: &Value) {
        let number = content["n"].as_u64().unwrap();
        let sender = self.direct.publication(number, None);
        self.keep_order(sender, number);
    }

    /// Checks that messages of one task arrive in order, whatever the method.
    fn keep_order(&mut self, sender: Sender, number: u64) {
        if sender == Sender::Application {
            assert!(self.last < number, "{number} arrived after {}", self.last);
            self.last = number;
        }
    }

    /// Processes a subscription by the application, or a change of the epoch.
    fn subscribed(&mut self, message: &Value) {
        let log = self.log(message);
        match log.announced.take() {
            Some(announced) => {
                assert_eq!((position(message), message.get("recovered")), (announced, None), "{message}");
            }
            None => log.turn(message),
        }
    }

    pub(super) fn subscribe(&mut self, channel: &str, replayed: Vec<Entry>) -> &mut Log {
        // One page of it waits in addition, and counts in the sum.
        self.volume.frames += replayed.len();
        self.volume.bytes += replayed.len() * REPLAYED;
        let log = self.logs.entry(channel.to_owned()).or_default();
        log.is_conflating = world::conflates(channel);
        log.is_catching_up = !replayed.is_empty();
        replayed.into_iter().for_each(|entry| log.push(entry));
        log
    }
}

/// Minimum bytes that the kernel buffers on a narrow socket.
const NARROW_BYTES: usize = 2048;
/// Maximum bytes of a replayed message.
const REPLAYED: usize = 4000 + OVERHEAD;
/// Maximum bytes of a message without its padding.
const OVERHEAD: usize = 256;
