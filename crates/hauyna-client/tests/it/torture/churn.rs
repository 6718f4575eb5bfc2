//! Channels are subscribed to and given up quickly, on a server that refuses some requests because of the
//! rate and loses connections. At the end, it has exactly the wanted subscriptions, and has received hardly
//! any request to end one that it did not have.

use super::model::{Random, advance, trace};
use super::schedule::{each_seed, terms};
use crate::script::{EPOCH, Peer, Script, script, session};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

struct Server {
    random: Random,
    script: Script,
    peer: Option<Peer>,
    is_greeted: bool,
    subscriptions: BTreeSet<String>,
    requests: VecDeque<Value>,
    tokens: u64,
    is_calm: bool,
    in_vain: usize,
}

fn entry(channel: &Value) -> Value {
    json!({ "channel": channel, "epoch": EPOCH, "offset": 1, "recoverable": true })
}

impl Server {
    async fn step(&mut self) {
        while let Some(stream) = self.script.attempt() {
            if let Some(peer) = self.script.shake(stream).await {
                (self.peer, self.is_greeted) = (Some(peer), false);
                self.requests.clear();
            }
        }
        while let Some(message) = self.peer.as_mut().and_then(Peer::poll) {
            self.requests.push_back(message);
        }
        let is_new = self.peer.as_ref().is_some_and(|peer| {
            !self.is_greeted && !peer.protocols.iter().any(|name| name.starts_with("hauyna.resume."))
        });
        if is_new {
            self.greet(false).await;
        }
        while self.random.chance(70) {
            let Some(request) = self.requests.pop_front() else { break };
            let answer = self.answer(&request).await;
            trace(|| format!("{request} -> {answer}"));
            // The answer may be lost with its connection.
            if let Some(peer) = self.peer.as_mut().filter(|_| answer != Value::Null) {
                peer.try_send(&answer).await;
            }
        }
        if !self.is_calm && self.random.chance(4) {
            trace(|| "cut".into());
            if let Some(mut peer) = self.peer.take() {
                peer.cut();
            }
        }
        advance(Duration::from_millis(1 + self.random.below(20))).await;
    }

    async fn greet(&mut self, is_resumed: bool) {
        self.is_greeted = true;
        self.tokens += 1;
        let mut session = session(&format!("t{}", self.tokens));
        session["resumed"] = json!(is_resumed);
        if is_resumed {
            let entries = self.subscriptions.iter().map(|name| entry(&json!(name)));
            session["subscriptions"] = entries.collect();
        } else {
            self.subscriptions.clear();
        }
        trace(|| session.to_string());
        if let Some(peer) = &mut self.peer {
            peer.try_send(&session).await;
        }
    }

    async fn answer(&mut self, request: &Value) -> Value {
        let kind = request["type"].as_str().unwrap();
        let channel = request["channel"].as_str().unwrap_or_default();
        let refused = |error: &str| {
            json!({ "type": "error", "id": request["id"], "error_type": error, "message": "", "timestamp": 1,
                "temporary": error == "rate_limited", "details": { "retry_after": 60 } })
        };
        let ack = |data: Value| json!({ "type": "ack", "id": request["id"], "data": data });
        match kind {
            "resume" => {
                let is_resumed = self.random.chance(70);
                self.greet(is_resumed).await;
                Value::Null
            }
            "ping" => json!({ "type": "pong", "id": request["id"] }),
            _ if !self.is_calm && self.random.chance(35) => refused("rate_limited"),
            "subscribe_channel" if self.subscriptions.insert(channel.to_owned()) => {
                ack(entry(&request["channel"]))
            }
            "subscribe_channel" => refused("already_subscribed"),
            "unsubscribe_channel" if self.subscriptions.remove(channel) => ack(Value::Null),
            "unsubscribe_channel" => {
                self.in_vain += 1;
                refused("not_subscribed")
            }
            "history" => {
                ack(json!({ "channel": channel, "epoch": EPOCH, "offset": 1, "oldest": 2, "messages": [] }))
            }
            other => panic!("{other}"),
        }
    }
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let client = builder.seed(seed).retry(terms()).connect().unwrap();
    let rooms: Vec<_> = (0..4).map(|n| client.channel::<u64>(&format!("room:{n}"))).collect();
    let mut server = Server {
        random: Random(seed),
        script,
        peer: None,
        is_greeted: false,
        subscriptions: BTreeSet::new(),
        requests: VecDeque::new(),
        tokens: 0,
        is_calm: false,
        in_vain: 0,
    };
    let mut wanted = BTreeSet::new();
    for _ in 0..150 {
        server.step().await;
        for room in &rooms {
            if !server.random.chance(15) {
                continue;
            }
            let (room_clone, name) = (room.clone(), room.name().to_owned());
            trace(|| format!("{} {name}", if wanted.contains(&name) { "END" } else { "WANT" }));
            if wanted.remove(&name) {
                tokio::spawn(async move { room_clone.unsubscribe().await });
            } else {
                wanted.insert(name);
                tokio::spawn(
                    async move { room_clone.subscribe().await.map(hauyna_client::Subscription::keep) },
                );
            }
        }
    }
    server.is_calm = true;
    for _ in 0..300 {
        server.step().await;
    }
    let mut faults = Vec::new();
    if server.subscriptions != wanted {
        faults.push(format!("wanted {wanted:?}, but {:?}", server.subscriptions));
    }
    if server.in_vain > 10 {
        faults.push(format!("{} ends in vain", server.in_vain));
    }
    faults
}

#[test]
fn the_server_ends_up_with_the_wanted_subscriptions() {
    each_seed(schedule);
}
