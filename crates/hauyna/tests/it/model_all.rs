//! Random sequences of all verbs by several devices of several users, against the minimal hub of `reference`.
//! `HAUYNA_SEED` repeats one sequence; `HAUYNA_SEQUENCES` sets the number of sequences.

mod checks;
mod sessions;

use sessions::{Away, Server, Ticket, World};

use crate::reference::{BUSY, CROWD, End, PLAIN, ROOMS, Reference, View, summed};
use crate::support::{Random, eventually, user_handler};
use hauyna::connection::ConnectionState::{self, Connected, Disconnected, Error, Idle, Reconnecting};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::groups::Roles;
use hauyna::{CloseCode, Connection, Context, Handler, Hub, json};
use hauyna_protocol::Encoding;
use hauyna_test::Client;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

pub(crate) const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];
const DEVICES: u64 = 8;
const STEPS: u64 = 100;
const WITHOUT_SESSIONS: (World, u64, usize) = (World::WithoutSessions, 2000, 8);
const GROUPS: [&str; 2] = ["editors", "readers"];
const STATUSES: [&str; 3] = ["online", "away", "lunch"];
/// Ways in which a connection ends.
const VANISH: u64 = 4;
const RELOAD: u64 = 6;

/// A client, and the presence that it derived from its messages.
struct Peer {
    client: Client,
    connection: Connection,
    views: BTreeMap<String, View>,
    ticket: Ticket,
}

/// How the grace time of a lost connection is treated in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grace {
    None,
    /// The sequence waits for it.
    Short,
    Endless,
}

struct Run {
    world: World,
    server: Server,
    grace: Grace,
    model: Reference,
    clients: BTreeMap<u64, Peer>,
    /// Lost clients by session.
    away: BTreeMap<u64, Away>,
    /// Tokens that were used or expired.
    stale: Vec<String>,
    epochs: BTreeMap<String, Value>,
    began: Instant,
    random: Random,
    online: Arc<Mutex<Vec<(String, bool)>>>,
    steps: Vec<String>,
    seed: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "HAUYNA_SEED={} ({:?}, {:?}) went wrong after:\n{}",
                self.seed,
                self.world,
                self.grace,
                self.steps.join("\n")
            );
        }
    }
}

async fn track(cx: Context, message: Value) -> hauyna::Result {
    cx.presence().track(json!({ "role": message["role"] })).await
}

async fn untrack(cx: Context, _: Value) -> hauyna::Result {
    cx.presence().untrack().await
}

fn handler() -> Handler {
    user_handler().no_heartbeat().on("track", track).on("untrack", untrack)
}

impl Run {
    fn new(seed: u64, world: World) -> Self {
        let grace = [Grace::None, Grace::Endless, Grace::Endless, Grace::None, Grace::Endless];
        let grace = if seed % 10 == 9 { Grace::Short } else { grace[seed as usize % 5] };
        let roles = Roles::new().define("speaker", ["send"]).define("listener", [] as [&str; 0]);
        let hub = world
            .declare(Hub::builder(), seed)
            .shards(1 << (seed % 3))
            .roles("{*any}", roles)
            .allow_transition(Connected, BUSY)
            .allow_transition(BUSY, Connected)
            .presence_grace(match grace {
                Grace::None => Duration::ZERO,
                Grace::Short => Duration::from_millis(20),
                Grace::Endless => Duration::from_secs(3600),
            })
            .build();
        let online = Arc::<Mutex<Vec<_>>>::default();
        if seed.is_multiple_of(2) {
            listen(&hub, &online);
        }
        let model = Reference {
            announces: world.has_sessions(),
            most: world.max_sessions(seed),
            ..Reference::default()
        };
        Self {
            world,
            server: Server::start(world, hub),
            grace,
            model,
            clients: BTreeMap::new(),
            away: BTreeMap::new(),
            stale: Vec::new(),
            epochs: BTreeMap::new(),
            began: Instant::now(),
            random: Random(seed),
            online,
            steps: Vec::new(),
            seed,
        }
    }

    fn hub(&self) -> &Hub {
        self.server.hub()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len() as u64) as usize]
    }

    fn note(&mut self, device: u64, what: impl std::fmt::Display) {
        self.steps.push(format!("{device} {what}"));
    }

    async fn step(&mut self, number: u64) {
        self.end_due_sessions().await;
        let device = self.random.below(DEVICES);
        if !self.clients.contains_key(&device) {
            return self.connect_absent(device).await;
        }
        match self.random.below(if self.world.has_sessions() { 34 } else { 24 }) {
            0 => self.close(device).await,
            1..=5 => self.subscribe(device).await,
            6..=7 => self.unsubscribe(device).await,
            8..=9 => self.publish(device, number).await,
            10 => self.client_event(device, number).await,
            11 => self.private(device, number).await,
            12..=13 => self.change_group().await,
            14..=15 => self.group(device, number).await,
            16..=17 => self.track(device).await,
            18 => self.update(device).await,
            19 => self.describe(device).await,
            20 => self.presence(device).await,
            21..=23 => self.set_state(device),
            24..=27 => self.end(device, VANISH).await,
            28..=29 => self.take_over(device).await,
            30 => self.send_away().await,
            31..=32 => self.cut_subscription().await,
            _ => self.pass().await,
        }
        if self.random.below(3) == 0 && self.clients.contains_key(&device) {
            self.check(device).await;
        }
        if self.random.below(10) == 0 {
            self.questions().await;
        }
        if self.random.below(25) == 0 {
            self.check_all().await;
        }
    }

    // Steps of clients and of the application.

    async fn connect(&mut self, device: u64) {
        let mut client = self.dial(device, None).await;
        self.model.connect(device, USERS[device as usize % USERS.len()]);
        let session = client.expect("session").await;
        self.record_session(device, client, &session);
    }

    async fn dial(&mut self, device: u64, token: Option<&str>) -> Client {
        let encoding = self.one(&Encoding::ALL);
        let user = USERS[device as usize % USERS.len()];
        self.note(device, format_args!("connects as {user} with {encoding:?} and {token:?}"));
        let target = format!("/?user={user}");
        let options = self.server.client(&target).timeout(Duration::from_secs(6)).encoding(encoding);
        match token {
            None => options.connect().await,
            Some(token) if self.random.below(2) == 0 => {
                options.protocol(&format!("hauyna.resume.{token}")).connect().await
            }
            Some(token) => {
                let target = format!("{target}&resume={token}");
                let options = self.server.client(&target).timeout(Duration::from_secs(6));
                options.encoding(encoding).connect().await
            }
        }
    }

    /// Records that the client got its session message.
    fn record_session(&mut self, device: u64, client: Client, session: &Value) {
        let all = self.hub().connections().of_user(USERS[device as usize % USERS.len()]);
        let connection =
            all.into_iter().find(|one| session["connection_id"] == one.id().to_string()).unwrap();
        let ticket = self.ticket(session);
        self.clients.insert(device, Peer { client, connection, views: BTreeMap::new(), ticket });
    }

    async fn close(&mut self, device: u64) {
        self.check(device).await;
        let way = self.random.below(if self.world.has_sessions() { 7 } else { 6 });
        self.end(device, way).await;
    }

    async fn end(&mut self, device: u64, way: u64) {
        self.avoid_equal_expiry().await;
        self.note(device, format_args!("ends, way {way}"));
        let Peer { mut client, connection, ticket, .. } = self.clients.remove(&device).unwrap();
        match way {
            0 => client.close(1000, "").await,
            1 => client.close(4000, "").await,
            2 | 3 => {
                let code = [3503, 4000][way as usize - 2];
                connection.close(CloseCode(code), "");
                assert_eq!(client.expect_close().await.0, code);
                client.send_close(code, "").await;
                client.expect_end().await;
            }
            RELOAD => client.close(1001, "").await,
            _ => client.vanish(),
        }
        match way {
            1 | 3 | 4 | 5 if self.world.has_sessions() => self.wait(device, ticket, connection),
            1 | 3..=RELOAD => {
                let end = match self.grace {
                    Grace::None => End::Gone,
                    Grace::Short => End::Late,
                    Grace::Endless => End::Lost,
                };
                self.model.end(device, end);
            }
            _ => self.model.end(device, End::Gone),
        }
        self.closed().await;
    }

    /// Waits until the expected number of connections has closed with all consequences.
    async fn closed(&self) {
        let (closed, waiting) = (self.model.closed, self.model.waiting.len());
        wait_until("the connections have closed", || {
            let stats = self.hub().stats();
            (stats.closed, stats.sessions) == (closed, waiting)
        })
        .await;
        wait_until("the grace time is over", || self.rosters_are_right()).await;
    }

    async fn ask(&mut self, device: u64, request: Value) -> Result<Value, Value> {
        self.note(device, &request);
        self.model.hear(device);
        self.clients.get_mut(&device).unwrap().client.request(request).await
    }

    async fn subscribe(&mut self, device: u64) {
        let channel = self.one(&[PLAIN, ROOMS[0], ROOMS[1], CROWD, CROWD]);
        let metadata =
            [json!(null), json!({ "at": 1 }), json!({ "at": 2 })][self.random.below(3) as usize].clone();
        self.enter(device, channel, metadata).await;
    }

    async fn enter(&mut self, device: u64, channel: &'static str, metadata: Value) {
        let request = json!({ "type": "subscribe_channel", "channel": channel, "metadata": metadata });
        let answer = self.ask(device, request).await;
        let is_new = self.model.subscribe(device, channel, &metadata);
        assert_eq!(answer.is_ok(), is_new, "{answer:?}");
        if is_new {
            self.set_position(device, channel, &answer.unwrap());
            self.clients.get_mut(&device).unwrap().views.insert(channel.to_owned(), View::default());
        } else {
            assert_eq!(answer.unwrap_err()["error_type"], "already_subscribed");
        }
    }

    async fn unsubscribe(&mut self, device: u64) {
        let channel = self.one(&[PLAIN, ROOMS[0], ROOMS[1], CROWD]);
        self.check(device).await;
        let answer = self.ask(device, json!({ "type": "unsubscribe_channel", "channel": channel })).await;
        assert_eq!(answer.is_ok(), self.model.unsubscribe(device, channel), "{answer:?}");
        // The changes gathered for the crowd may have been sent just before the answer.
        self.clients.get_mut(&device).unwrap().views.retain(|name, _| name != channel || name == CROWD);
        self.check(device).await;
        let own = self.clients.get_mut(&device).unwrap();
        own.views.remove(channel);
        own.ticket.positions.remove(channel);
    }

    async fn publish(&mut self, device: u64, number: u64) {
        let channel = self.one(&[PLAIN, PLAIN, ROOMS[0], CROWD]);
        if self.random.below(3) == 0 {
            self.note(device, format_args!("is not asked: the application publishes in {channel}"));
            let message = json!({ "type": "message", "content": number });
            self.hub().channel(channel).broadcast(message).await.unwrap();
            return self.model.publish(channel, None, number);
        }
        let mut request = json!({ "type": "channel_message", "channel": channel, "content": number });
        let is_echoed = self.random.below(3) > 0;
        if !is_echoed {
            request["echo"] = false.into();
        }
        let answer = self.ask(device, request).await;
        let own = &self.model.devices[&device];
        let (may, user) = (own.channels.contains_key(channel), own.user);
        assert_eq!(answer.is_ok(), may, "{answer:?}");
        if may {
            match is_echoed {
                true => self.model.publish(channel, Some(user), number),
                false => self.model.publish_silently(device, channel, number),
            }
            assert!(channel != PLAIN || answer.unwrap()["offset"] == self.model.top(PLAIN));
        }
    }

    async fn client_event(&mut self, device: u64, number: u64) {
        let channel = self.one(&[PLAIN, ROOMS[0], CROWD]);
        // A client that recovers would get none.
        let subscribed = self.model.devices.iter().filter(|(_, one)| one.channels.contains_key(channel));
        for other in subscribed.map(|(other, _)| *other).collect::<Vec<_>>() {
            self.check(other).await;
        }
        let event = json!({ "type": "client_event", "channel": channel, "event": "cursor", "data": number });
        let answer = self.ask(device, event).await;
        assert_eq!(answer.is_ok(), self.model.client_event(device, channel, number), "{answer:?}");
    }

    async fn private(&mut self, device: u64, number: u64) {
        let (from, to) = (self.model.devices[&device].user, self.one(&USERS));
        if self.random.below(3) == 0 {
            self.note(device, format_args!("is not asked: the application writes to {to}"));
            self.hub().user(to).send(number).await.unwrap();
            return self.model.private(None, to, number);
        }
        self.ask(device, json!({ "type": "private", "to": to, "message": number })).await.unwrap();
        self.model.private(Some(from), to, number);
    }

    async fn change_group(&mut self) {
        let (user, group) = (self.one(&USERS), self.one(&GROUPS));
        let groups = self.hub().groups();
        let role = self.one(&[None, Some("speaker"), Some("speaker"), Some("listener")]);
        if self.random.below(3) > 0 {
            self.steps.push(format!("{user} is added to {group} as {role:?}"));
            let changed = match role {
                None => groups.add(user, group).await,
                Some(role) => groups.add_with_role(user, group, role).await,
            };
            return assert_eq!(changed.unwrap(), self.model.add(user, group, role));
        }
        for device in self.model.of(user).collect::<Vec<_>>() {
            self.check(device).await; // what waits ends with the membership
        }
        self.steps.push(format!("{user} is removed from {group}"));
        let was_there = self.model.groups.entry(group).or_default().remove(user).is_some();
        assert_eq!(groups.remove(user, group).await, was_there);
    }

    async fn group(&mut self, device: u64, number: u64) {
        let group = self.one(&GROUPS);
        if self.random.below(3) == 0 {
            self.note(device, format_args!("is not asked: the application writes to {group}"));
            self.hub().groups().send(group, number).await.unwrap();
            self.model.group(None, group, number);
            return;
        }
        let answer = self.ask(device, json!({ "type": "group", "room": group, "message": number })).await;
        let user = self.model.devices[&device].user;
        assert_eq!(answer.is_ok(), self.model.group(Some(user), group, number), "{answer:?}");
    }

    async fn track(&mut self, device: u64) {
        let role = self.random.below(2);
        if self.random.below(3) == 0 {
            self.ask(device, json!({ "type": "untrack" })).await.unwrap();
            return self.model.untrack(device);
        }
        self.ask(device, json!({ "type": "track", "role": role })).await.unwrap();
        self.model.track(device, &json!({ "role": role }));
    }

    async fn update(&mut self, device: u64) {
        let (status, user) = (self.one(&STATUSES), self.model.devices[&device].user);
        let done = match self.random.below(3) {
            0 => {
                self.note(device, format_args!("is not asked: the application sets {status}"));
                self.hub().presence().of(user).set_status(status).await.is_ok()
            }
            _ => self.ask(device, json!({ "type": "update_status", "status": status })).await.is_ok(),
        };
        assert_eq!(done, self.model.update(user, &json!({ "status": status })));
    }

    /// Updates what one connection says about itself.
    async fn describe(&mut self, device: u64) {
        let channel = self.one(&[PLAIN, ROOMS[0], ROOMS[1], CROWD]);
        let metadata = json!({ "at": 1 + self.random.below(3) });
        let request = json!({ "type": "update_presence", "channel": channel, "metadata": metadata });
        let answer = self.ask(device, request).await.map(drop);
        let expected = self.model.describe(device, channel, &metadata);
        assert_eq!(answer.map_err(|error| error["error_type"].clone()), expected.map_err(Value::from));
    }

    async fn presence(&mut self, device: u64) {
        let channel = self.one(&[PLAIN, ROOMS[0], CROWD]);
        let answer = self.ask(device, json!({ "type": "presence", "channel": channel })).await;
        let is_there = self.model.devices[&device].channels.contains_key(channel);
        match answer {
            Err(error) if is_there => {
                assert_eq!((error["error_type"].as_str(), channel), (Some("validation_error"), PLAIN));
            }
            Err(error) => assert_eq!(error["error_type"], "not_subscribed"),
            Ok(page) => {
                assert!(is_there && page.get("next").is_none());
                let state = json!({ "type": "presence_state", "channel": channel, "count": page["count"],
                    "users": summed(&page["users"]), "offset": page["offset"] });
                assert_eq!(Some(state), self.model.list(channel));
            }
        }
    }

    fn set_state(&mut self, device: u64) {
        let states = [
            Connected,
            Idle,
            Idle,
            BUSY,
            Error,
            Reconnecting,
            Disconnected,
            ConnectionState::custom("unknown"),
        ];
        let state = self.one(&states);
        self.note(device, format_args!("is put into {state}"));
        let result = self.clients[&device].connection.set_state(state);
        assert_eq!(result.is_ok(), self.model.set_state(device, state), "{result:?}");
    }
}

fn listen(hub: &Hub, online: &Arc<Mutex<Vec<(String, bool)>>>) {
    let online = online.clone();
    hub.events().on_system([SystemKind::UserOnline, SystemKind::UserOffline], move |_, event| {
        match event {
            SystemEvent::UserOnline { user, .. } => online.lock().push((user.to_string(), true)),
            SystemEvent::UserOffline { user, .. } => online.lock().push((user.to_string(), false)),
            _ => {}
        }
        async { Ok(()) }
    });
}

/// Checks again after other tasks ran, and then as `eventually` does.
async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..50 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    eventually(what, is_so).await;
}

async fn sequence(seed: u64, world: World) {
    let mut run = Run::new(seed, world);
    for number in 0..STEPS {
        run.step(number).await;
    }
    run.finish().await;
}

/// Runs one part of the sequences, several at a time where possible, because they sometimes wait.
async fn part((number, parts): (usize, usize), (world, sequences, at_once): (World, u64, usize)) {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let sequences = variable("HAUYNA_SEQUENCES").unwrap_or(sequences);
    let only: Option<u64> = variable("HAUYNA_SEED");
    let mut seeds = (0..sequences).skip(number).step_by(parts).filter(|_| only.is_none()).chain(only);
    let mut running = JoinSet::new();
    seeds.by_ref().take(at_once).for_each(|seed| drop(running.spawn_local(sequence(seed, world))));
    let mut count = 0;
    while let Some(ended) = running.join_next().await {
        ended.expect("no divergence");
        count += 1;
        if let Some(seed) = seeds.next() {
            running.spawn_local(sequence(seed, world));
        }
    }
    eprintln!("{count} sequences of {STEPS} steps, no divergence");
}

#[tokio::test]
async fn all_verbs_match_a_naive_hub_in_the_first_quarter() {
    LocalSet::new().run_until(part((0, 4), WITHOUT_SESSIONS)).await;
}

#[tokio::test]
async fn all_verbs_match_a_naive_hub_in_the_second_quarter() {
    LocalSet::new().run_until(part((1, 4), WITHOUT_SESSIONS)).await;
}

#[tokio::test]
async fn all_verbs_match_a_naive_hub_in_the_third_quarter() {
    LocalSet::new().run_until(part((2, 4), WITHOUT_SESSIONS)).await;
}

#[tokio::test]
async fn all_verbs_match_a_naive_hub_in_the_last_quarter() {
    LocalSet::new().run_until(part((3, 4), WITHOUT_SESSIONS)).await;
}
