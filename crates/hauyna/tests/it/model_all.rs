//! Random sequences of all verbs by several devices of several users, against the naive hub of `reference`.
//! `HAUYNA_SEED` repeats one sequence; `HAUYNA_SEQUENCES` says how many there are in all.

mod checks;

use crate::reference::{BUSY, CROWD, CROWD_LISTED, End, PLAIN, ROOMS, Reference, View, summed};
use crate::support::{Random, eventually, named};
use hauyna::ConnectionState::{Connected, Disconnected, Error, Idle, Own, Reconnecting};
use hauyna::{
    Channels, CloseCode, Connection, Context, Handler, Hub, Presence, Roles, SystemEvent, SystemKind, json,
};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};

pub(crate) const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];
const DEVICES: u64 = 8;
const STEPS: u64 = 100;
const SEQUENCES: u64 = 2000;
const AT_ONCE: usize = 8;
const GROUPS: [&str; 2] = ["editors", "readers"];
const STATUSES: [&str; 3] = ["online", "away", "lunch"];

/// A client, and what it has made of the presence it was told.
struct Peer {
    client: Client,
    connection: Connection,
    views: BTreeMap<String, View>,
}

/// What a lost connection's grace time is in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grace {
    None,
    /// It is waited for.
    Short,
    Endless,
}

struct Run {
    server: TestServer,
    grace: Grace,
    model: Reference,
    clients: BTreeMap<u64, Peer>,
    random: Random,
    online: Arc<Mutex<Vec<(String, bool)>>>,
    steps: Vec<String>,
    seed: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "HAUYNA_SEED={} ({:?}) went wrong after:\n{}",
                self.seed,
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
    cx.presence().untrack();
    Ok(())
}

fn handler() -> Handler {
    named().no_heartbeat().on("track", track).on("untrack", untrack)
}

impl Run {
    fn new(seed: u64) -> Self {
        let grace = [Grace::None, Grace::Endless, Grace::Endless, Grace::None, Grace::Endless];
        let grace = if seed % 10 == 9 { Grace::Short } else { grace[seed as usize % 5] };
        let crowd = Presence::each().each_up_to(1).list_up_to(CROWD_LISTED).tick(Duration::from_millis(10));
        let roles = Roles::new().define("speaker", ["send"]).define("listener", [] as [&str; 0]);
        let hub = Hub::builder()
            .sessions(hauyna::SessionOptions::none())
            .shards(1 << (seed % 3))
            .channels("room:{id}", Channels::new().presence(Presence::each()))
            .channels(CROWD, Channels::new().presence(crowd))
            .channels(PLAIN, Channels::new().history(100, Duration::from_secs(600)))
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
        let server = TestServer::start(hub, handler());
        let (model, clients, random) = (Reference::default(), BTreeMap::new(), Random(seed));
        Self { server, grace, model, clients, random, online, steps: Vec::new(), seed }
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
        let device = self.random.below(DEVICES);
        if !self.clients.contains_key(&device) {
            return self.connect(device).await;
        }
        match self.random.below(24) {
            0 => self.close(device).await,
            1..=5 => self.subscribe(device).await,
            6..=7 => self.unsubscribe(device).await,
            8..=10 => self.publish(device, number).await,
            11 => self.private(device, number).await,
            12..=13 => self.change_group().await,
            14..=15 => self.group(device, number).await,
            16..=17 => self.track(device).await,
            18..=19 => self.update(device).await,
            20 => self.presence(device).await,
            _ => self.set_state(device),
        }
        if self.random.below(3) == 0 && self.clients.contains_key(&device) {
            self.check(device).await;
        }
        if self.random.below(10) == 0 {
            self.questions();
        }
        if self.random.below(25) == 0 {
            self.check_all().await;
        }
    }

    // What clients and the application do.

    async fn connect(&mut self, device: u64) {
        let encoding = self.one(&Encoding::ALL);
        let user = USERS[device as usize % USERS.len()];
        self.note(device, format_args!("connects as {user} with {encoding:?}"));
        let options = self.server.client(&format!("/?user={user}")).patience(Duration::from_secs(6));
        let mut client = options.encoding(encoding).connect().await;
        let session = client.expect("session").await;
        let all = self.hub().connections().of_user(user);
        let connection =
            all.into_iter().find(|one| session["connection_id"] == one.id().to_string()).unwrap();
        self.clients.insert(device, Peer { client, connection, views: BTreeMap::new() });
        self.model.connect(device, user);
    }

    async fn close(&mut self, device: u64) {
        self.check(device).await;
        let way = self.random.below(6);
        self.end(device, way).await;
    }

    async fn end(&mut self, device: u64, way: u64) {
        self.note(device, format_args!("ends, way {way}"));
        let Peer { mut client, connection, .. } = self.clients.remove(&device).unwrap();
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
            _ => client.vanish(),
        }
        let end = match way {
            1 | 3 | 4 | 5 if self.grace == Grace::Endless => End::Lost,
            _ => End::Gone,
        };
        self.model.end(device, end);
        let closed = self.model.closed;
        settled("it is closed", || self.hub().stats().closed == closed).await;
        settled("the grace time is over", || self.rosters_are_right()).await;
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
        // What was gathered in the crowd may have been told just before the answer.
        self.clients.get_mut(&device).unwrap().views.retain(|name, _| name != channel || name == CROWD);
        self.check(device).await;
        self.clients.get_mut(&device).unwrap().views.remove(channel);
    }

    async fn publish(&mut self, device: u64, number: u64) {
        let channel = self.one(&[PLAIN, PLAIN, ROOMS[0], CROWD]);
        if self.random.below(3) == 0 {
            self.note(device, format_args!("is not asked: the application publishes in {channel}"));
            let message = json!({ "type": "message", "content": number });
            self.hub().channel(channel).broadcast(message).await.unwrap();
            return self.model.publish(channel, None, number);
        }
        let request = json!({ "type": "channel_message", "channel": channel, "content": number });
        let answer = self.ask(device, request).await;
        let own = &self.model.devices[&device];
        let (may, user) = (own.channels.contains(channel), own.user);
        assert_eq!(answer.is_ok(), may, "{answer:?}");
        if may {
            self.model.publish(channel, Some(user), number);
            assert!(channel != PLAIN || answer.unwrap()["offset"] == self.model.top);
        }
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
                None => groups.add(user, group),
                Some(role) => groups.add_with_role(user, group, role),
            };
            return assert_eq!(changed.unwrap(), self.model.add(user, group, role));
        }
        for device in self.model.of(user).collect::<Vec<_>>() {
            self.check(device).await; // what waits goes with the membership
        }
        self.steps.push(format!("{user} is removed from {group}"));
        let was_there = self.model.groups.entry(group).or_default().remove(user).is_some();
        assert_eq!(groups.remove(user, group), was_there);
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

    async fn presence(&mut self, device: u64) {
        let channel = self.one(&[PLAIN, ROOMS[0], CROWD]);
        let answer = self.ask(device, json!({ "type": "presence", "channel": channel })).await;
        let is_there = self.model.devices[&device].channels.contains(channel);
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
        let states = [Connected, Idle, Idle, BUSY, Error, Reconnecting, Disconnected, Own("unknown")];
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
            SystemEvent::UserOnline { user } => online.lock().push((user.to_string(), true)),
            SystemEvent::UserOffline { user } => online.lock().push((user.to_string(), false)),
            _ => {}
        }
        async { Ok(()) }
    });
}

/// Looks again after the other tasks had their turns, and then as `eventually` does.
async fn settled(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..50 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    eventually(what, is_so).await;
}

async fn sequence(seed: u64) {
    let mut run = Run::new(seed);
    for number in 0..STEPS {
        run.step(number).await;
    }
    run.finish().await;
}

/// Every fourth sequence, several at a time, because they wait for what is told now and then.
async fn part(number: u64) {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let sequences = variable("HAUYNA_SEQUENCES").unwrap_or(SEQUENCES);
    let only: Option<u64> = variable("HAUYNA_SEED");
    let mut seeds = (number..sequences).step_by(4).filter(|_| only.is_none()).chain(only);
    let mut running = JoinSet::new();
    seeds.by_ref().take(AT_ONCE).for_each(|seed| drop(running.spawn_local(sequence(seed))));
    let mut count = 0;
    while let Some(ended) = running.join_next().await {
        ended.expect("no divergence");
        count += 1;
        if let Some(seed) = seeds.next() {
            running.spawn_local(sequence(seed));
        }
    }
    eprintln!("{count} sequences of {STEPS} steps, no divergence");
}

#[tokio::test]
async fn all_verbs_do_what_a_naive_hub_would_in_the_first_quarter_of_the_sequences() {
    LocalSet::new().run_until(part(0)).await;
}

#[tokio::test]
async fn all_verbs_do_what_a_naive_hub_would_in_the_second_quarter_of_the_sequences() {
    LocalSet::new().run_until(part(1)).await;
}

#[tokio::test]
async fn all_verbs_do_what_a_naive_hub_would_in_the_third_quarter_of_the_sequences() {
    LocalSet::new().run_until(part(2)).await;
}

#[tokio::test]
async fn all_verbs_do_what_a_naive_hub_would_in_the_last_quarter_of_the_sequences() {
    LocalSet::new().run_until(part(3)).await;
}
