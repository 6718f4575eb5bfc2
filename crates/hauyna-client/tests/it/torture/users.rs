//! Users sign in one after another while connections are lost and moved: no request of one user is sent as
//! the next one.

use super::model::{Random, advance, trace};
use super::schedule::{each_seed, terms};
use crate::script::{EPOCH, Peer, Script, script, session};
use hauyna_client::{Channel, Client};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

/// One connection of the user that its token names, and the requests on it.
struct Node {
    peer: Peer,
    user: u64,
    requests: VecDeque<Value>,
}

struct Server {
    random: Random,
    script: Script,
    current: Option<Node>,
    /// A connection that has no session yet.
    next: Option<Node>,
    is_subscribed: bool,
    tokens: u64,
    /// The user of the last session.
    user_before: u64,
    requests: u64,
    faults: Vec<String>,
}

impl Server {
    async fn step(&mut self) {
        while let Some(stream) = self.script.attempt() {
            if let Some(peer) = self.script.shake(stream).await {
                let bearer = peer.protocols.iter().find_map(|item| item.strip_prefix("hauyna.bearer.u"));
                let user = bearer.unwrap().parse().unwrap();
                trace(|| format!("attempt of u{user}"));
                self.next = Some(Node { peer, user, requests: VecDeque::new() });
            }
        }
        for node in self.current.iter_mut().chain(&mut self.next) {
            while let Some(message) = node.peer.poll() {
                self.requests += 1;
                let asked_by = ["gen", "content", "metadata"]
                    .into_iter()
                    .find_map(|field| message[field].as_u64().or_else(|| message[field]["gen"].as_u64()));
                trace(|| format!("on u{}: {}", node.user, message));
                if asked_by.is_some_and(|user| user < node.user) {
                    self.faults.push(format!("as u{}: {message}", node.user));
                }
                node.requests.push_back(message);
            }
        }
        self.greet().await;
        while self.random.chance(60) {
            let Some(node) = &mut self.current else { break };
            let Some(request) = node.requests.pop_front() else { break };
            let answer = match request["type"].as_str().unwrap() {
                "ping" => json!({ "type": "pong", "id": request["id"] }),
                "subscribe_channel" => {
                    self.is_subscribed = true;
                    json!({ "type": "ack", "id": request["id"],
                        "data": { "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true } })
                }
                _ => json!({ "type": "ack", "id": request["id"], "data": null }),
            };
            node.peer.try_send(&answer).await;
        }
        advance(Duration::from_millis(self.random.below(15))).await;
    }

    async fn greet(&mut self) {
        let Some(next) = &mut self.next else { return };
        let has_token = next.peer.protocols.iter().any(|name| name.starts_with("hauyna.resume."));
        if has_token && next.requests.front().is_none_or(|first| first["type"] != "resume") {
            return;
        }
        let Some(mut next) = self.next.take() else { return };
        let is_resumed = has_token && self.user_before == next.user && self.random.chance(50);
        if has_token {
            next.requests.pop_front();
        }
        self.tokens += 1;
        self.user_before = next.user;
        let mut session = session(&format!("t{}", self.tokens));
        session["user"] = json!(format!("u{}", next.user));
        session["resumed"] = json!(is_resumed);
        self.is_subscribed &= is_resumed;
        if self.is_subscribed {
            session["subscriptions"] = json!([{ "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true,
                "recovered": true }]);
        }
        trace(|| session.to_string());
        next.peer.try_send(&session).await;
        self.current = Some(next);
    }

    async fn disturb(&mut self) {
        let Some(node) = &mut self.current else { return };
        if self.random.chance(50) {
            let order =
                json!({ "type": "reconnect", "after": [0, self.random.below(100)], "reason": "drain" });
            return node.peer.try_send(&order).await;
        }
        trace(|| "cut".into());
        node.peer.cut();
        self.current = None;
    }
}

fn ask(
    client: &Client,
    room: &Channel<u64>,
    user: u64,
    kind: u64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (client, room) = (client.clone(), room.clone());
    let mut asking = Box::pin(async move {
        let data = json!({ "gen": user });
        match kind {
            0 => _ = room.publish(&user).await,
            1 => _ = client.request::<Value>("note", &data).await,
            2 => _ = client.request::<Value>("note", &data).repeatable().await,
            3 => _ = room.presence().update(&data).await,
            _ => _ = client.update_status("away", &data).await,
        }
    });
    // The call is made now, and not when its task is first polled.
    let _ = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    asking
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let user = Arc::new(AtomicU64::new(0));
    let mut random = Random(seed ^ 0x55);
    let (own, slowness) = (user.clone(), random.below(40));
    let source = move || {
        let own = own.clone();
        async move {
            let before = own.load(Ordering::Relaxed);
            advance(Duration::from_millis(slowness)).await;
            let now = if slowness % 2 == 0 { own.load(Ordering::Relaxed) } else { before };
            Ok::<_, String>(format!("u{now}"))
        }
    };
    let client = builder.seed(seed).retry(terms()).token(source).connect().unwrap();
    let room = client.channel::<u64>("a");
    let own = room.clone();
    tokio::spawn(async move { _ = own.subscribe().await.map(hauyna_client::Subscription::keep) });
    let mut server = Server {
        random: Random(seed),
        script,
        current: None,
        next: None,
        is_subscribed: false,
        tokens: 0,
        requests: 0,
        user_before: 0,
        faults: Vec::new(),
    };
    for _ in 0..120 {
        server.step().await;
        for _ in 0..random.below(4) {
            tokio::spawn(ask(&client, &room, user.load(Ordering::Relaxed), random.below(5)));
        }
        // The user of calls from before the first session is unknown.
        if server.tokens > 0 && random.chance(8) {
            trace(|| "SWITCH".into());
            user.fetch_add(1, Ordering::Relaxed);
        }
        if random.chance(12) {
            server.disturb().await;
        }
    }
    if server.requests < 10 {
        server.faults.push(format!("{} requests", server.requests));
    }
    server.faults.truncate(3);
    server.faults
}

#[test]
fn nothing_of_one_user_is_sent_as_the_next_one() {
    each_seed(schedule);
}
