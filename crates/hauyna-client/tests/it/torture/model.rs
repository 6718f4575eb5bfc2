//! A server with one channel and every fault that the protocol allows: forgotten sessions, gaps, new epochs,
//! and histories that are short or refused.

use crate::script::{Peer, Script};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) content: u64,
}

enum Out {
    Message(Value),
    Close(u16),
}

struct Connection {
    peer: Peer,
    is_greeted: bool,
    is_over: bool,
    is_subscribed: bool,
    token: Option<String>,
    out: VecDeque<Out>,
}

/// One channel, with its sessions and connections.
pub(super) struct Model {
    pub(super) random: Random,
    script: Script,
    connections: Vec<Connection>,
    waiting: BTreeMap<String, bool>,
    tokens: u64,
    pub(super) published: Vec<Entry>,
    epochs: Vec<String>,
    log: VecDeque<Entry>,
    keep: usize,
    offset: u64,
    pub(super) is_calm: bool,
    /// Epoch and offset in each answer to a subscription, with the index of the publication that follows.
    pub(super) starts: Vec<(String, u64, usize)>,
}

fn epoch(number: u64) -> String {
    // Epochs have the format of a real server: eleven characters for 64 bits.
    hauyna_protocol::Epoch::new(number).to_string()
}

impl Model {
    pub(super) fn new(seed: u64, script: Script) -> Self {
        let mut random = Random(seed);
        let keep = [1000, 1000, 5][random.below(3) as usize];
        Self {
            random,
            script,
            keep,
            connections: Vec::new(),
            waiting: BTreeMap::new(),
            tokens: 0,
            published: Vec::new(),
            epochs: vec![epoch(1)],
            log: VecDeque::new(),
            offset: 0,
            is_calm: false,
            starts: Vec::new(),
        }
    }

    fn epoch(&self) -> String {
        self.epochs.last().unwrap().clone()
    }

    fn send_to_subscribers(&mut self, message: &Value) {
        for one in self.connections.iter_mut().filter(|one| one.is_subscribed && !one.is_over) {
            one.out.push_back(Out::Message(message.clone()));
        }
    }

    pub(super) fn publish(&mut self) {
        self.offset += 1;
        let entry = Entry { epoch: self.epoch(), offset: self.offset, content: self.published.len() as u64 };
        self.published.push(entry.clone());
        self.log.push_back(entry.clone());
        if self.log.len() > self.keep {
            self.log.pop_front();
        }
        self.send_to_subscribers(&message(&entry));
    }

    fn state_entry(&self) -> Value {
        json!({ "channel": "a", "epoch": self.epoch(), "offset": self.offset, "recoverable": true })
    }

    pub(super) fn change_epoch(&mut self, how: EpochChange) {
        let next = epoch(1000 + self.random.below(1 << 40));
        trace(|| format!("TURN {how:?}"));
        match how {
            EpochChange::Kept => self.epochs.push(next),
            EpochChange::Lost | EpochChange::Silent => {
                self.epochs = vec![next];
                self.log.clear();
                self.offset = 0;
            }
        }
        let mut said = self.state_entry();
        said["type"] = json!("subscribed");
        said["recovered"] = json!(how == EpochChange::Kept);
        match how {
            EpochChange::Silent => return,
            EpochChange::Lost => said["reason"] = json!("epoch_changed"),
            EpochChange::Kept => {}
        }
        self.send_to_subscribers(&said);
    }

    /// Returns the publications after a position, or why they are not available.
    fn since(&self, position: &Value) -> Result<Vec<Value>, &'static str> {
        let (epoch, offset) = (position["epoch"].as_str().unwrap(), position["offset"].as_u64().unwrap());
        if !self.epochs.iter().any(|known| known == epoch) || offset > self.offset {
            return Err("epoch_changed");
        }
        let missed: Vec<_> = self.log.iter().filter(|entry| entry.offset > offset).map(message).collect();
        if (missed.len() as u64) < self.offset - offset { Err("too_old") } else { Ok(missed) }
    }

    fn subscribe(&mut self, recover: Option<&Value>, is_resumed: bool) -> (Value, Vec<Value>) {
        let mut entry = self.state_entry();
        self.starts.push((self.epoch(), self.offset, self.published.len()));
        let Some(position) = recover else {
            if is_resumed {
                entry["recovered"] = json!(false);
                entry["reason"] = json!("unknown_position");
            }
            return (entry, Vec::new());
        };
        let missed = self.since(position);
        entry["recovered"] = json!(missed.is_ok());
        if let Err(reason) = missed {
            entry["reason"] = json!(reason);
        }
        (entry, missed.unwrap_or_default())
    }

    pub(super) async fn step(&mut self) {
        while let Some(stream) = self.script.attempt() {
            if !self.is_calm && self.random.chance(15) {
                continue;
            }
            let Some(peer) = self.script.shake(stream).await else { continue };
            self.connections.push(Connection {
                peer,
                is_greeted: false,
                is_over: false,
                is_subscribed: false,
                token: None,
                out: VecDeque::new(),
            });
        }
        for at in 0..self.connections.len() {
            if self.connections[at].is_over {
                continue;
            }
            if !self.connections[at].is_greeted && offered_token(&self.connections[at]).is_none() {
                self.greet(at, None, &Value::Null);
            }
            while self.random.chance(80) {
                match self.connections[at].peer.poll() {
                    Some(message) => {
                        trace(|| format!("s{at} -> {message}"));
                        self.handle_request(at, &message);
                    }
                    None => break,
                }
            }
            if self.connections[at].peer.is_over() {
                let is_session_lost = self.connections[at].peer.closed_with == Some(1000);
                trace(|| format!("s{at} left {is_session_lost}"));
                self.end(at, is_session_lost);
                continue;
            }
            while self.random.chance(75) {
                match self.connections[at].out.pop_front() {
                    Some(Out::Message(message)) => {
                        trace(|| format!("s{at} <- {message}"));
                        self.connections[at].peer.try_send(&message).await;
                    }
                    Some(Out::Close(code)) => {
                        trace(|| format!("s{at} <- close {code}"));
                        self.connections[at].peer.try_close(code).await;
                        self.end(at, false);
                        break;
                    }
                    None => break,
                }
            }
            if !self.is_calm && self.random.chance(2) {
                trace(|| format!("s{at} cut"));
                self.end(at, false);
            }
        }
        advance(Duration::from_millis(1 + self.random.below(40))).await;
    }

    fn end(&mut self, at: usize, is_session_lost: bool) {
        let one = &mut self.connections[at];
        one.is_over = true;
        one.peer.cut();
        if let Some(token) = one.token.take().filter(|_| !is_session_lost) {
            self.waiting.insert(token, one.is_subscribed);
        }
        one.is_subscribed = false;
    }

    fn greet(&mut self, at: usize, token: Option<String>, positions: &Value) {
        let owner =
            self.connections.iter().position(|one| !one.is_over && one.token.is_some() && one.token == token);
        let forgets = !self.is_calm && self.random.chance(20);
        let was_waiting = token.as_ref().and_then(|token| self.waiting.get(token).copied());
        let is_resumed = !forgets && (owner.is_some() || was_waiting.is_some());
        let was_subscribed =
            owner.map_or(was_waiting == Some(true), |owner| self.connections[owner].is_subscribed);
        self.tokens += 1;
        let next = format!("t{}", self.tokens);
        let (mut subscriptions, mut replay) = (Vec::new(), Vec::new());
        if is_resumed {
            self.waiting.remove(&token.unwrap());
            if let Some(owner) = owner {
                let drops = self.random.chance(50);
                let owner = &mut self.connections[owner];
                (owner.is_subscribed, owner.token) = (false, None);
                if drops {
                    owner.out.clear();
                }
                owner.out.push_back(Out::Close(3013));
            }
            if was_subscribed {
                let (entry, missed) = self.subscribe(positions.get("a"), true);
                subscriptions.push(entry);
                replay = missed;
            }
        }
        let session = json!({ "type": "session", "connection_id": next, "user": "ana", "resumed": is_resumed,
            "resume": { "token": next, "window": 60_000 }, "subscriptions": subscriptions });
        let one = &mut self.connections[at];
        (one.is_greeted, one.token, one.is_subscribed) = (true, Some(next), is_resumed && was_subscribed);
        one.out.extend([session].into_iter().chain(replay).map(Out::Message));
    }

    fn handle_request(&mut self, at: usize, request: &Value) {
        let is_subscribed = self.connections[at].is_subscribed;
        let refused = |error: &str, is_temporary: bool, details: Value| {
            json!({ "type": "error", "id": request["id"], "error_type": error, "message": "", "timestamp": 1,
                "temporary": is_temporary, "details": details })
        };
        let ack = |data: Value| json!({ "type": "ack", "id": request["id"], "data": data });
        let mut answers = Vec::new();
        match request["type"].as_str().unwrap() {
            "resume" => {
                let token = offered_token(&self.connections[at]);
                return self.greet(at, token, &request["positions"]);
            }
            "subscribe_channel" if is_subscribed => {
                answers.push(refused("already_subscribed", false, json!({})));
            }
            "subscribe_channel" if !self.is_calm && self.random.chance(10) => {
                answers.push(refused("unavailable", true, json!({})));
            }
            "subscribe_channel" => {
                let (entry, missed) = self.subscribe(request.get("recover"), false);
                self.connections[at].is_subscribed = true;
                answers.push(ack(entry));
                answers.extend(missed);
            }
            "history" if !self.is_calm && self.random.chance(10) => {
                answers.push(refused("rate_limited", true, json!({ "retry_after": 100 })));
            }
            "history" if !self.is_calm && self.random.chance(10) => {
                answers.push(refused("permission_denied", false, json!({})));
            }
            "history" => match request.get("since").map(|since| self.since(since)) {
                Some(Err(reason)) => {
                    answers.push(refused(
                        "validation_error",
                        false,
                        json!({ "path": "since", "reason": reason }),
                    ));
                }
                found => {
                    let mut messages =
                        found.map_or_else(|| self.log.iter().map(message).collect(), Result::unwrap);
                    messages.truncate(3);
                    let mut data = self.state_entry();
                    data["oldest"] = json!(self.offset + 1 - self.log.len() as u64);
                    data["messages"] = json!(messages);
                    answers.push(ack(data));
                }
            },
            "unsubscribe_channel" if !self.is_calm && self.random.chance(15) => {
                answers.push(refused("rate_limited", true, json!({ "retry_after": 100 })));
            }
            "unsubscribe_channel" if !is_subscribed => {
                answers.push(refused("not_subscribed", false, json!({})));
            }
            "unsubscribe_channel" => {
                let one = &mut self.connections[at];
                one.is_subscribed = false;
                // What waits for the subscription is dropped with it.
                let kinds = ["message", "gap", "subscribed"];
                one.out.retain(
                    |out| !matches!(out, Out::Message(said) if kinds.iter().any(|kind| said["type"] == *kind)),
                );
                answers.push(ack(Value::Null));
            }
            "ping" => answers.push(json!({ "type": "pong", "id": request["id"] })),
            _ => {}
        }
        self.connections[at].out.extend(answers.into_iter().map(Out::Message));
    }

    /// Subscribes the newest connection by the application, whatever its client has requested.
    pub(super) fn subscribe_by_application(&mut self) {
        if !self.random.chance(10) {
            return;
        }
        let mut said = self.state_entry();
        said["type"] = json!("subscribed");
        let is_there = |one: &&mut Connection| !one.is_over && one.is_greeted;
        if let Some(one) = self.connections.iter_mut().rfind(is_there).filter(|one| !one.is_subscribed) {
            one.is_subscribed = true;
            one.out.push_back(Out::Message(said));
        }
    }

    /// Tells the newest connection to move.
    pub(super) fn drain(&mut self) {
        let is_there = |one: &&mut Connection| !one.is_over && one.is_greeted;
        if let Some(one) = self.connections.iter_mut().rfind(is_there) {
            let after = [0, self.random.below(300)];
            one.out
                .push_back(Out::Message(json!({ "type": "reconnect", "after": after, "reason": "drain" })));
        }
    }

    /// Drops some of what waits for a connection, as a slow-consumer policy does.
    pub(super) fn drop_waiting(&mut self) {
        let is_publication = |out: &Out| matches!(out, Out::Message(message) if message["type"] == "message");
        let is_turning = |out: &Out| matches!(out, Out::Message(message) if message["type"] == "subscribed" || message["type"] == "session");
        let epoch = self.epoch();
        let published = &self.published;
        for one in &mut self.connections {
            let Some(from) = one.out.iter().position(is_publication) else { continue };
            if one.is_over || one.out.iter().any(is_turning) {
                continue;
            }
            let Out::Message(first) = &one.out[from] else { continue };
            let entry = &published[first["content"].as_u64().unwrap() as usize];
            if entry.epoch != epoch {
                continue;
            }
            let before = entry.offset - 1;
            let count = one.out.iter().skip(from).take(4).take_while(|out| is_publication(out)).count();
            one.out.drain(from..from + count);
            one.out.insert(
                from,
                Out::Message(json!({ "type": "gap", "channel": "a", "epoch": epoch, "offset": before,
                "missed": count })),
            );
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum EpochChange {
    Kept,
    Lost,
    Silent,
}

fn message(entry: &Entry) -> Value {
    json!({ "type": "message", "channel": "a", "content": entry.content, "timestamp": 1, "offset": entry.offset })
}

fn offered_token(one: &Connection) -> Option<String> {
    one.peer.protocols.iter().find_map(|name| name.strip_prefix("hauyna.resume.")).map(str::to_owned)
}

/// Advances the clock.
pub(super) async fn advance(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

pub(super) fn trace(text: impl Fn() -> String) {
    if std::env::var_os("HAUYNA_SEED").is_some() {
        eprintln!("{}", text());
    }
}
