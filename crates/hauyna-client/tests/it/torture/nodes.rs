//! Channels are subscribed to and given up quickly while the client moves between nodes, some of which know
//! its session. At the end, the server has the wanted subscriptions, and every call is answered. Hardly any
//! refusal is the client's fault, for which a strict server would close the connection.

use super::model::{Random, advance, trace};
use super::schedule::{each_seed, terms};
use crate::script::{EPOCH, Peer, Script, script, session};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::task::JoinSet;

/// One connection, and the requests that the client has sent on it.
struct Node {
    peer: Peer,
    requests: VecDeque<Value>,
}

struct Server {
    random: Random,
    script: Script,
    current: Option<Node>,
    /// A connection that has no session yet.
    next: Option<Node>,
    subscriptions: BTreeSet<String>,
    tokens: u64,
    is_calm: bool,
    /// Refusals that are the client's own fault.
    faults: usize,
}

fn entry(channel: &Value) -> Value {
    json!({ "channel": channel, "epoch": EPOCH, "offset": 1, "recoverable": true })
}

impl Node {
    fn read(&mut self) {
        while let Some(message) = self.peer.poll() {
            self.requests.push_back(message);
        }
    }
}

impl Server {
    async fn step(&mut self) {
        while let Some(stream) = self.script.attempt() {
            if let Some(peer) = self.script.shake(stream).await {
                trace(|| "attempt".into());
                self.next = Some(Node { peer, requests: VecDeque::new() });
            }
        }
        self.current.iter_mut().chain(&mut self.next).for_each(Node::read);
        self.greet().await;
        self.serve(70).await;
        if !self.is_calm && self.random.chance(6) {
            self.disturb().await;
        }
        advance(Duration::from_millis(1 + self.random.below(20))).await;
    }

    /// Answers the requests of the current connection one after the other.
    async fn serve(&mut self, chance: u64) {
        while self.random.chance(chance) {
            let Some(request) = self.current.as_mut().and_then(|node| node.requests.pop_front()) else {
                break;
            };
            let answer = self.answer(&request);
            trace(|| format!("{request} -> {answer}"));
            // The answer may be lost with its connection.
            if let Some(node) = &mut self.current {
                node.peer.try_send(&answer).await;
            }
        }
    }

    /// Lets the next connection resume the session, or starts another one.
    async fn greet(&mut self) {
        let Some(next) = &mut self.next else { return };
        let has_token = next.peer.protocols.iter().any(|name| name.starts_with("hauyna.resume."));
        if has_token && next.requests.front().is_none_or(|first| first["type"] != "resume") {
            return;
        }
        self.serve(50).await;
        let Some(mut next) = self.next.take() else { return };
        let is_resumed = has_token && self.random.chance(70);
        if has_token {
            next.requests.pop_front();
        }
        self.tokens += 1;
        let mut session = session(&format!("t{}", self.tokens));
        session["resumed"] = json!(is_resumed);
        match is_resumed {
            true => {
                session["subscriptions"] =
                    self.subscriptions.iter().map(|name| entry(&json!(name))).collect();
            }
            false => self.subscriptions.clear(),
        }
        trace(|| session.to_string());
        next.peer.try_send(&session).await;
        if let Some(mut old) = self.current.replace(next)
            && is_resumed
        {
            old.peer.try_close(3013).await;
        }
    }

    async fn disturb(&mut self) {
        let Some(node) = &mut self.current else { return };
        let how = self.random.below(4);
        trace(|| format!("disturbed: {how}"));
        match how {
            0 => node.peer.cut(),
            1 => node.peer.try_close(3001).await,
            _ => {
                let order =
                    json!({ "type": "reconnect", "after": [0, self.random.below(300)], "reason": "drain" });
                node.peer.try_send(&order).await;
                return;
            }
        }
        self.current = None;
    }

    fn answer(&mut self, request: &Value) -> Value {
        let channel = request["channel"].as_str().unwrap_or_default();
        let refused = |error: &str| {
            json!({ "type": "error", "id": request["id"], "error_type": error, "message": "", "timestamp": 1,
                "temporary": error == "rate_limited", "details": { "retry_after": 60 } })
        };
        let ack = |data: Value| json!({ "type": "ack", "id": request["id"], "data": data });
        match request["type"].as_str().unwrap() {
            "ping" => json!({ "type": "pong", "id": request["id"] }),
            "history" => {
                ack(json!({ "channel": channel, "epoch": EPOCH, "offset": 1, "oldest": 2, "messages": [] }))
            }
            "subscribe_channel" if !self.is_calm && self.random.chance(40) => refused("rate_limited"),
            "subscribe_channel" if self.subscriptions.insert(channel.to_owned()) => {
                ack(entry(&request["channel"]))
            }
            "unsubscribe_channel" if self.subscriptions.remove(channel) => ack(Value::Null),
            kind => {
                trace(|| format!("FAULT {kind}"));
                self.faults += 1;
                refused(if kind == "subscribe_channel" { "already_subscribed" } else { "not_subscribed" })
            }
        }
    }
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let client = builder.seed(seed).retry(terms()).connect().unwrap();
    let rooms: Vec<_> = (0..24).map(|n| client.channel::<u64>(&format!("room:{n}"))).collect();
    let mut server = Server {
        random: Random(seed),
        script,
        current: None,
        next: None,
        subscriptions: BTreeSet::new(),
        tokens: 0,
        is_calm: false,
        faults: 0,
    };
    let (mut wanted, mut calls) = (BTreeSet::new(), JoinSet::new());
    for _ in 0..150 {
        server.step().await;
        for room in &rooms {
            if !server.random.chance(15) {
                continue;
            }
            let (room_clone, name) = (room.clone(), room.name().to_owned());
            trace(|| format!("{} {name}", if wanted.contains(&name) { "END" } else { "WANT" }));
            if wanted.remove(&name) {
                calls.spawn(async move { _ = room_clone.unsubscribe().await });
            } else {
                wanted.insert(name);
                calls.spawn(async move {
                    _ = room_clone.subscribe().await.map(hauyna_client::Subscription::keep);
                });
            }
        }
    }
    server.is_calm = true;
    for _ in 0..600 {
        server.step().await;
    }
    let mut faults = Vec::new();
    if server.subscriptions != wanted {
        faults.push(format!("wanted {wanted:?}, but {:?}", server.subscriptions));
    }
    while calls.try_join_next().is_some() {}
    if !calls.is_empty() {
        faults.push(format!("{} calls have no answer", calls.len()));
    }
    if server.faults > 0 {
        faults.push(format!("{} requests in vain", server.faults));
    }
    faults
}

#[test]
fn moves_between_nodes_keep_subscriptions_and_answer_every_call() {
    each_seed(schedule);
}
