//! Requests of any size behind a proxy with a limit: some are dropped or late, sessions are forgotten, and
//! clients move. Nothing is refused that the proxy takes, no call waits for ever, and in the end the
//! connection lasts.

use super::model::{Random, advance, trace};
use super::schedule::{each_seed, terms};
use crate::script::{EPOCH, Peer, Script, script, session};
use hauyna_client::protocol::ErrorType;
use hauyna_client::{Channel, Client, Error};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes that a frame has at most besides its text.
const REST: usize = 400;

/// One connection.
struct Node {
    peer: Peer,
    /// The messages that the proxy has advance on.
    requests: VecDeque<Value>,
    /// Steps until the proxy ends the connection, because a message was too large.
    ends_in: Option<u64>,
    /// Steps for which the server waits for `resume`.
    patience: u64,
}

struct Server {
    dice: Random,
    script: Script,
    limit: usize,
    current: Option<Node>,
    next: Option<Node>,
    subscriptions: BTreeSet<String>,
    keys: BTreeMap<String, u64>,
    offset: u64,
    tokens: u64,
    is_calm: bool,
    /// How many connections the proxy has ended.
    ended: usize,
    /// How often each publication was done, by its number.
    done: Arc<Mutex<BTreeMap<u64, usize>>>,
}

fn entry(channel: &Value, offset: u64) -> Value {
    json!({ "channel": channel, "epoch": EPOCH, "offset": offset, "recoverable": true,
        "client_events": { "drawing": 1000 } })
}

impl Server {
    /// Reads what the proxy passes on. Behind a message that is too large, it passes on nothing.
    fn read(dice: &mut Random, limit: usize, node: &mut Node) {
        while let Some(message) = node.peer.poll() {
            if node.ends_in.is_some() {
                continue;
            }
            if message.to_string().len() > limit {
                trace(|| format!("TOO LARGE {} {}", message["type"], message.to_string().len()));
                node.ends_in = Some([0, 1, 5, 60, 600][dice.below(5) as usize]);
            } else {
                node.requests.push_back(message);
            }
        }
    }

    /// Accepts attempts, reads, answers, and ends connections.
    async fn step(&mut self) {
        while let Some(stream) = self.script.attempt() {
            if let Some(peer) = self.script.shake(stream).await {
                let patience = self.dice.below(40);
                self.next = Some(Node { peer, requests: VecDeque::new(), ends_in: None, patience });
            }
        }
        for node in self.current.iter_mut().chain(&mut self.next) {
            Self::read(&mut self.dice, self.limit, node);
        }
        self.greet().await;
        while self.dice.chance(60) {
            let Some(request) = self.current.as_mut().and_then(|node| node.requests.pop_front()) else {
                break;
            };
            let Some(answer) = self.answer(&request) else { continue };
            trace(|| format!("{} -> {}", request["type"], answer["type"]));
            if let Some(node) = &mut self.current {
                node.peer.try_send(&answer).await;
            }
        }
        for slot in [&mut self.current, &mut self.next] {
            let Some(node) = slot else { continue };
            match node.ends_in {
                Some(0) => {
                    self.ended += 1;
                    trace(|| "1009".into());
                    node.peer.try_close(1009).await;
                    *slot = None;
                }
                Some(steps) => node.ends_in = Some(steps - 1),
                None => {}
            }
        }
        if !self.is_calm && self.dice.chance(3) {
            self.disturb().await;
        }
        advance(Duration::from_millis(1 + self.dice.below(20))).await;
    }

    /// Begins the session of the next connection, or resumes the last one.
    async fn greet(&mut self) {
        let Some(next) = &mut self.next else { return };
        let has_token = next.peer.protocols.iter().any(|name| name.starts_with("hauyna.resume."));
        let is_read = next.requests.front().is_some_and(|first| first["type"] == "resume");
        let knows = has_token && self.dice.chance(70);
        if knows && !is_read && next.patience > 0 {
            next.patience -= 1;
            return;
        }
        let Some(mut next) = self.next.take() else { return };
        let mut named = Value::Null;
        if is_read {
            named = next.requests.pop_front().unwrap()["positions"].clone();
        }
        self.tokens += 1;
        let mut session = session(&format!("t{}", self.tokens));
        session["resumed"] = json!(knows);
        if knows {
            let offset = self.offset;
            session["subscriptions"] = self
                .subscriptions
                .iter()
                .map(|name| {
                    let mut entry = entry(&json!(name), offset);
                    let is_named = named[name.as_str()].is_object();
                    entry["recovered"] = json!(is_named);
                    if !is_named {
                        entry["reason"] = json!("unknown_position");
                    }
                    entry
                })
                .collect();
        } else {
            self.subscriptions.clear();
        }
        trace(|| format!("session {knows} {is_read} {}", session["subscriptions"]));
        next.peer.try_send(&session).await;
        if let Some(mut old) = self.current.replace(next)
            && knows
        {
            old.peer.try_close(3013).await;
        }
    }

    async fn disturb(&mut self) {
        let how = self.dice.below(4);
        if let Some(node) = &mut self.current {
            match how {
                0 => node.peer.cut(),
                1 => node.peer.try_close(3001).await,
                2 => {
                    let size = self.dice.below(2 * self.limit as u64);
                    let question = json!({ "type": "request", "id": "q", "event": "dump", "data": size });
                    return node.peer.try_send(&question).await;
                }
                _ => {
                    let order =
                        json!({ "type": "reconnect", "after": [0, self.dice.below(300)], "reason": "drain" });
                    return node.peer.try_send(&order).await;
                }
            }
            self.current = None;
        }
    }

    fn answer(&mut self, request: &Value) -> Option<Value> {
        let channel = request["channel"].as_str().unwrap_or_default().to_owned();
        let ack = |data: Value| Some(json!({ "type": "ack", "id": request["id"], "data": data }));
        let refused = |error: &str| {
            Some(json!({ "type": "error", "id": request["id"], "error_type": error, "message": "",
                "timestamp": 1, "temporary": false }))
        };
        match request["type"].as_str().unwrap() {
            "ping" => Some(json!({ "type": "pong", "id": request["id"] })),
            "history" => ack(json!({ "channel": channel, "epoch": EPOCH, "offset": self.offset,
                "oldest": self.offset + 1, "messages": [] })),
            "subscribe_channel" if self.subscriptions.insert(channel.clone()) => {
                ack(entry(&request["channel"], self.offset))
            }
            "subscribe_channel" => refused("already_subscribed"),
            "unsubscribe_channel" if self.subscriptions.remove(&channel) => ack(Value::Null),
            "unsubscribe_channel" => refused("not_subscribed"),
            "private" => {
                let key = request["key"].as_str().unwrap().to_owned();
                if !self.keys.contains_key(&key) {
                    self.offset += 1;
                    self.keys.insert(key, self.offset);
                    let number = request["message"]["n"].as_u64().unwrap();
                    *self.done.lock().unwrap().entry(number).or_default() += 1;
                }
                Some(json!({ "type": "ack", "id": request["id"] }))
            }
            "look" if self.dice.chance(60) => ack(Value::Null),
            _ => None,
        }
    }
}

type Faults = Arc<Mutex<Vec<String>>>;

/// The client, and the calls of its application.
struct Application {
    client: Client,
    rooms: Vec<Channel<Value>>,
    calls: JoinSet<()>,
    faults: Faults,
    done: Arc<Mutex<BTreeMap<u64, usize>>>,
    count: u64,
    limit: usize,
}

impl Application {
    fn note(faults: &Faults, limit: usize, what: &str, bytes: usize, error: &Error) {
        let is_too_large = error.error_type() == Some(ErrorType::PayloadTooLarge);
        trace(|| format!("{what} {bytes}: {error}"));
        if is_too_large && bytes + REST < limit {
            faults.lock().unwrap().push(format!("{what} of {bytes} bytes was refused, limit {limit}"));
        }
    }

    /// Does one of the things that an application does, with a message of any size.
    fn act(&mut self, dice: &mut Random) {
        let limit = self.limit as u64;
        let bytes = match dice.chance(70) {
            true => dice.below(limit - REST as u64),
            false => limit + dice.below(6_000),
        };
        let text = "y".repeat(usize::try_from(bytes).unwrap());
        self.count += 1;
        match dice.below(5) {
            0 | 1 => self.publish(&text, patience(dice)),
            2 => self.request(&text, dice),
            3 => self.subscribe(text, dice.chance(70).then(|| Duration::from_millis(dice.below(200)))),
            _ => {
                let room = &self.rooms[dice.below(self.rooms.len() as u64) as usize];
                room.send("drawing", &text).unwrap_or_default(); // Without a subscription it is dropped.
            }
        }
    }

    fn publish(&mut self, text: &str, patience: Duration) {
        let (limit, number, bytes) = (self.limit, self.count, text.len());
        let (faults, done) = (self.faults.clone(), self.done.clone());
        let message = json!({ "n": number, "text": text });
        let call = self.client.send_to_user("bob", &message).timeout(patience);
        self.calls.spawn(async move {
            let answer = call.await;
            let times = done.lock().unwrap().get(&number).copied().unwrap_or(0);
            if let Err(error) = &answer {
                Self::note(&faults, limit, "a publication", bytes, error);
                if times > 0 && !matches!(error, Error::Timeout | Error::OutcomeUnknown) {
                    faults.lock().unwrap().push(format!("done, but {error}"));
                }
            }
            if times > 1 || (answer.is_ok() && times == 0) {
                faults.lock().unwrap().push(format!("done {times} times: {answer:?}"));
            }
        });
    }

    fn request(&mut self, text: &str, dice: &mut Random) {
        let (limit, faults, bytes) = (self.limit, self.faults.clone(), text.len());
        let call = self.client.request::<()>("look", &json!({ "text": text })).timeout(patience(dice));
        let call = if dice.chance(50) { call.repeatable() } else { call };
        let dropped_after = dice.chance(30).then(|| Duration::from_millis(dice.below(300)));
        self.calls.spawn(async move {
            let answer = match dropped_after {
                Some(after) => tokio::time::timeout(after, call.into_future()).await.unwrap_or(Ok(())),
                None => call.await,
            };
            if let Err(error) = answer {
                Self::note(&faults, limit, "a request", bytes, &error);
            }
        });
    }

    /// Subscribes, and gives it up at once or before the answer.
    fn subscribe(&mut self, text: String, dropped_after: Option<Duration>) {
        let (limit, faults, bytes) = (self.limit, self.faults.clone(), text.len());
        let other = self.client.channel::<Value>(&format!("other {}", self.count));
        self.calls.spawn(async move {
            let metadata = json!({ "text": text });
            let subscribing = other.subscribe().metadata(&metadata).into_future();
            let time = dropped_after.unwrap_or(Duration::MAX);
            match tokio::time::timeout(time, subscribing).await {
                Ok(Ok(_)) if bytes > limit => faults.lock().unwrap().push("a large one advance".into()),
                Ok(Ok(subscription)) => _ = subscription.unsubscribe().await,
                Ok(Err(error)) => Self::note(&faults, limit, "a subscription", bytes, &error),
                Err(_) => {}
            }
        });
    }
}

fn patience(dice: &mut Random) -> Duration {
    Duration::from_millis([50, 1_000, 6_000][dice.below(3) as usize])
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let dump = |size: usize| async move { Ok::<_, String>("z".repeat(size)) };
    let ttl = Duration::from_secs(600);
    let client = builder.seed(seed).retry(terms()).ttl(ttl).on_request("dump", dump).connect().unwrap();
    let mut dice = Random(seed);
    let limit = 1_000 + dice.below(4_000) as usize;
    let long = 100 + dice.below(150) as usize;
    let rooms: Vec<_> = (0..3 + dice.below(12))
        .map(|n| client.channel::<Value>(&format!("{n}-{}", "x".repeat(long))))
        .collect();
    let (done, faults) = (Arc::default(), Faults::default());
    let mut server = Server {
        dice: Random(seed + 1_000_000),
        script,
        limit,
        current: None,
        next: None,
        subscriptions: BTreeSet::new(),
        keys: BTreeMap::new(),
        offset: 0,
        tokens: 0,
        is_calm: false,
        ended: 0,
        done: Arc::clone(&done),
    };
    let mut application = Application {
        client,
        rooms: rooms.clone(),
        calls: JoinSet::new(),
        faults: faults.clone(),
        done,
        count: 0,
        limit,
    };
    for room in &rooms {
        let (room, faults) = (room.clone(), faults.clone());
        application.calls.spawn(async move {
            match room.subscribe().await {
                Ok(subscription) => subscription.keep(),
                Err(error) => Application::note(&faults, limit, "a small subscription", 0, &error),
            }
        });
    }
    for _ in 0..200 {
        server.step().await;
        if dice.chance(20) {
            application.act(&mut dice);
        }
    }
    server.is_calm = true;
    for _ in 0..6_000 {
        server.step().await;
    }
    let ended = server.ended;
    for _ in 0..3_000 {
        server.step().await;
    }
    trace(|| format!("ended {ended}"));
    if server.ended > ended {
        faults.lock().unwrap().push("the connections end again and again".into());
    }
    while application.calls.try_join_next().is_some() {}
    if !application.calls.is_empty() {
        faults.lock().unwrap().push(format!("{} calls have no answer", application.calls.len()));
    }
    let names: BTreeSet<_> = rooms.iter().map(|room| room.name().to_owned()).collect();
    if server.subscriptions != names {
        let found = server.subscriptions.len();
        faults.lock().unwrap().push(format!("{found} subscriptions of {}", names.len()));
    }
    Arc::try_unwrap(faults)
        .map_or_else(|faults| faults.lock().unwrap().clone(), |own| own.into_inner().unwrap())
}

#[test]
fn a_proxy_with_a_limit_has_nothing_refused_that_it_takes() {
    each_seed(schedule);
}
