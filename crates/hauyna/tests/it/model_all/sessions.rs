//! Clients with sessions in the model: they lose their connection and reconnect in time, too late, with a
//! wrong token, or while their old sockets still live. Runs in memory, where time can be advanced, and over
//! sockets, where no time passes.

use super::{Peer, Run, USERS, VANISH, handler, part, wait_until};
use crate::reference::{Asked, CROWD, CROWD_LISTED, PLAIN, REPLAYED, ROOMS, View, Waiting, kept_of};
use crate::support::now;
use hauyna::auth::Revocation;
use hauyna::channel::ClientEvents;
use hauyna::{ChannelOptions, CloseCode, Connection, Drain, Hub, HubBuilder, Presence, SessionOptions, json};
use hauyna_test::{Client, Connect, MemoryServer, TestServer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};

/// Where a sequence runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum World {
    /// Over sockets, without sessions.
    WithoutSessions,
    /// Over sockets, with sessions that outlast the sequence.
    Sockets,
    /// In memory with a test clock, with sessions.
    Memory,
}

pub(super) enum Server {
    Sockets(TestServer),
    Memory(MemoryServer),
}

/// What a client needs to resume.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket {
    token: String,
    /// The offset of the last received publication, by channel.
    pub(super) positions: BTreeMap<String, u64>,
}

/// A lost client.
pub(super) struct Away {
    device: u64,
    ticket: Ticket,
    /// The lost connection.
    old: Connection,
}

impl World {
    pub(super) fn has_sessions(self) -> bool {
        self != Self::WithoutSessions
    }

    pub(super) fn options(self, seed: u64) -> SessionOptions {
        match self {
            Self::WithoutSessions => SessionOptions::none(),
            _ => SessionOptions::new().window(WINDOW).max_sessions(self.max_sessions(seed)),
        }
    }

    pub(super) fn max_sessions(self, seed: u64) -> usize {
        match self {
            Self::WithoutSessions => 0,
            _ if seed.is_multiple_of(3) => 2,
            _ => 65_536,
        }
    }

    /// Declares the channels of a hub.
    pub(super) fn declare(self, hub: HubBuilder, seed: u64) -> HubBuilder {
        let channels = || ChannelOptions::new().client_events(ClientEvents::new().event("cursor", 1000));
        let rooms = channels().presence(Presence::each());
        let crowd = Presence::each().each_up_to(1).list_up_to(CROWD_LISTED).tick(Duration::from_millis(10));
        let crowd = channels().presence(crowd);
        let hub = hub.sessions(self.options(seed));
        if self == Self::WithoutSessions {
            let plain = channels().history(100, Duration::from_secs(600));
            return hub.channels("room:{id}", rooms).channels(CROWD, crowd).channels(PLAIN, plain);
        }
        let keep = |channels: ChannelOptions, channel| channels.history(kept_of(channel) as u32, DAY);
        hub.channels("room:{id}", rooms.no_history().announce_subscribers())
            .channels(CROWD, keep(crowd, CROWD))
            .channels(PLAIN, keep(channels().announce_subscribers(), PLAIN))
            .recovery_limit(REPLAYED as u32)
    }
}

impl Server {
    pub(super) fn start(world: World, hub: Hub) -> Self {
        match world {
            World::Memory => Self::Memory(MemoryServer::start(hub, handler())),
            _ => Self::Sockets(TestServer::start(hub, handler())),
        }
    }

    pub(super) fn hub(&self) -> &Hub {
        match self {
            Self::Sockets(server) => server.hub(),
            Self::Memory(server) => server.hub(),
        }
    }

    pub(super) fn client(&self, target: &str) -> Connect {
        match self {
            Self::Sockets(server) => server.client(target),
            Self::Memory(server) => server.client(target),
        }
    }
}

impl Run {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    pub(super) fn ticket(&self, session: &Value) -> Ticket {
        let terms = &session["resume"];
        let window = self.world.has_sessions().then_some(WINDOW.as_millis() as u64);
        assert_eq!(terms["window"].as_u64(), window, "{session}");
        Ticket { token: terms["token"].as_str().unwrap_or_default().to_owned(), ..Ticket::default() }
    }

    /// Records the position of a client in a channel.
    pub(super) fn set_position(&mut self, device: u64, channel: &str, place: &Value) {
        let Some(offset) = place["offset"].as_u64() else { return };
        let epoch = self.epochs.entry(channel.to_owned()).or_insert_with(|| place["epoch"].clone());
        assert_eq!(*epoch, place["epoch"], "{channel} has kept its history");
        self.clients.get_mut(&device).unwrap().ticket.positions.insert(channel.to_owned(), offset);
    }

    // How clients are lost and resume.

    /// Records that the device is lost and its session waits.
    pub(super) fn wait(&mut self, device: u64, ticket: Ticket, old: Connection) {
        let session = self.model.lose(device, self.now() + WINDOW.as_millis() as u64);
        self.away.insert(session, Away { device, ticket, old });
    }

    /// Connects a device that is not connected.
    pub(super) async fn connect_absent(&mut self, device: u64) {
        let sessions = self.away.iter().filter(|(_, away)| away.device == device);
        let sessions: Vec<u64> = sessions.map(|(session, _)| *session).collect();
        let way = if self.world.has_sessions() { self.random.below(8) } else { 0 };
        match (sessions.is_empty(), way) {
            (_, 0) | (true, 1..=5) => self.connect(device).await,
            (_, 1) | (true, _) => self.connect_with_wrong_token(device).await,
            (false, _) => {
                let session = self.one(&sessions);
                let away = self.away.remove(&session).unwrap();
                if self.model.waiting.contains_key(&session) {
                    return self.resume(session, away, None).await;
                }
                self.connect_with_useless_token(device, away.ticket.token.clone()).await;
                self.stale.push(away.ticket.token);
            }
        }
    }

    async fn connect_with_wrong_token(&mut self, device: u64) {
        let is_other = |other: u64| (other % USERS.len() as u64) != device % USERS.len() as u64;
        let away = self.away.values().filter(|away| is_other(away.device)).map(|away| &away.ticket);
        let here = self.clients.iter().filter(|(other, _)| is_other(**other)).map(|(_, peer)| &peer.ticket);
        let others: Vec<_> = away.chain(here).map(|ticket| ticket.token.clone()).collect();
        let tokens = match self.random.below(3) {
            0 => vec!["A".repeat(32), "x".to_owned()],
            1 => self.stale.clone(),
            _ => others,
        };
        match tokens.is_empty() {
            true => self.connect(device).await,
            false => {
                let token = tokens[self.random.below(tokens.len() as u64) as usize].clone();
                self.connect_with_useless_token(device, token).await;
            }
        }
    }

    /// Connects with a useless token.
    async fn connect_with_useless_token(&mut self, device: u64, token: String) {
        let mut client = self.dial(device, Some(&token)).await;
        self.model.connect(device, USERS[device as usize % USERS.len()]);
        let says_position = self.random.below(2) == 0;
        if says_position {
            let positions = json!({ PLAIN: { "epoch": "ASNFZ4mrze8", "offset": 0 } });
            client.send(json!({ "type": "resume", "id": "back", "positions": positions })).await;
        }
        let session = client.expect("session").await;
        assert_eq!((&session["resumed"], session.get("subscriptions")), (&json!(false), None));
        if says_position {
            client.answer(&json!("back")).await.unwrap();
        }
        self.record_session(device, client, &session);
    }

    /// Reconnects the client while its old socket still lives.
    pub(super) async fn take_over(&mut self, device: u64) {
        self.avoid_equal_expiry().await;
        self.note(device, "takes over");
        let Peer { client, ticket, connection: old, .. } = self.clients.remove(&device).unwrap();
        let session = self.model.lose(device, self.now() + WINDOW.as_millis() as u64);
        self.resume(session, Away { device, ticket, old }, Some(client)).await;
    }

    async fn resume(&mut self, session: u64, away: Away, old: Option<Client>) {
        let Away { device, ticket, old: lost } = away;
        let mut client = self.dial(device, Some(&ticket.token)).await;
        let waiting = self.model.claim(device, session);
        let there = self.model.devices.len();
        wait_until("the connections are registered", || self.hub().connections().count() == there).await;
        let was_live = old.is_some();
        if let Some(mut old) = old {
            assert_eq!(old.expect_close().await.0, 3013, "the old socket of {device}");
            old.vanish();
        }
        match self.random.below(12) {
            0 => {
                self.note(device, "is lost before it says where it stands");
                client.vanish();
                self.model.release_claim(device, (session, waiting));
                self.away.insert(session, Away { device, ticket, old: lost });
                self.closed().await;
            }
            1 if !was_live => {
                self.note(device, "has a socket that dies before it says where it stands");
                self.model.release_claim(device, (session, waiting));
                Box::pin(self.resume(session, Away { device, ticket, old: lost }, Some(client))).await;
            }
            2 => {
                let away = Away { device, ticket, old: lost };
                self.lose_new_token(client, (session, waiting), away).await;
            }
            11 if self.is_alone(device) => {
                self.lose_rights_before_resume(client, device, (session, waiting)).await;
            }
            3 if self.world == World::Memory && !was_live => {
                self.note(device, "does not say where it stands");
                self.expect_resumed(client, (session, waiting), (device, ticket, BTreeMap::new())).await;
            }
            4 => {
                self.note(device, "says something else first");
                client.send(json!({ "type": "ping", "id": "first" })).await;
                self.expect_resumed(client, (session, waiting), (device, ticket, BTreeMap::new())).await;
                self.clients.get_mut(&device).unwrap().client.answer(&json!("first")).await.unwrap();
            }
            way => {
                if way < 7 {
                    self.send_before_session(device).await;
                }
                let asked = self.say(&mut client, &ticket, way.is_multiple_of(2)).await;
                self.expect_resumed(client, (session, waiting), (device, ticket, asked)).await;
                if way.is_multiple_of(2) {
                    let client = &mut self.clients.get_mut(&device).unwrap().client;
                    assert_eq!(client.expect("ack").await["id"], "back");
                }
            }
        }
    }

    /// Sends positions, not for every channel and not always correct ones.
    async fn say(&mut self, client: &mut Client, ticket: &Ticket, wants_answer: bool) -> Asking {
        let (mut asked, mut positions) = (Asking::new(), json!({}));
        for (channel, offset) in &ticket.positions {
            let (epoch, what) = match self.random.below(8) {
                0 => continue,
                1 => (json!("ASNFZ4mrze8"), Asked::OtherEpoch),
                _ => (self.epochs[channel].clone(), Asked::After(*offset)),
            };
            positions[channel] = json!({ "epoch": epoch, "offset": offset });
            asked.insert(channel.clone(), what);
        }
        let mut message = json!({ "type": "resume", "positions": positions });
        if wants_answer {
            message["id"] = "back".into();
        }
        self.steps.push(format!("{message}"));
        client.send(message).await;
        asked
    }

    /// Sends to a client that has no session message yet; it must arrive after that.
    async fn send_before_session(&mut self, device: u64) {
        let number = 1000 + self.steps.len() as u64;
        let user = self.model.devices[&device].user;
        self.note(device, "is written to meanwhile");
        self.hub().user(user).send(number).await.unwrap();
        self.model.private(None, user, number);
        for channel in [PLAIN, CROWD] {
            let message = json!({ "type": "message", "content": number });
            self.hub().channel(channel).broadcast(message).await.unwrap();
            self.model.publish(channel, None, number);
        }
    }

    /// The server has resumed the session, but the client does not get its new token: the old one works once
    /// more.
    async fn lose_new_token(&mut self, mut client: Client, session: (u64, Waiting), away: Away) {
        let Away { device, ticket, .. } = away;
        self.note(device, "does not get the answer");
        let asked = self.say(&mut client, &ticket, false).await;
        self.model.go_on(device, session, &asked);
        let resumed = self.model.resumed;
        wait_until("the session is resumed", || self.hub().stats().resumed == resumed).await;
        let all = self.hub().connections().of_user(self.model.devices[&device].user);
        // Identifiers grow; several may have been created in one millisecond.
        let connection = all.into_iter().max_by_key(Connection::id).unwrap();
        self.clients.insert(device, Peer { client, connection, views: BTreeMap::new(), ticket });
        match self.random.below(2) {
            0 => self.end(device, VANISH).await,
            _ => Box::pin(self.take_over(device)).await,
        }
    }

    /// Checks the session message of the client.
    async fn expect_resumed(
        &mut self,
        mut client: Client,
        session: (u64, Waiting),
        (device, ticket, asked): (u64, Ticket, Asking),
    ) {
        let expected = self.model.go_on(device, session, &asked);
        let expect_resumed = client.expect("session").await;
        let user = self.model.devices[&device].user;
        assert_eq!((&expect_resumed["resumed"], &expect_resumed["user"]), (&json!(true), &json!(user)));
        assert_ne!(expect_resumed["resume"]["token"], ticket.token);
        self.record_session(device, client, &expect_resumed);
        let mut entries = BTreeMap::new();
        for mut entry in expect_resumed["subscriptions"].as_array().cloned().unwrap_or_default() {
            let channel = entry["channel"].as_str().unwrap().to_owned();
            self.set_position(device, &channel, &entry);
            entry.as_object_mut().unwrap().remove("epoch");
            let own = self.clients.get_mut(&device).unwrap();
            if entry["recovered"] == true {
                own.ticket.positions.insert(channel.clone(), ticket.positions[&channel]);
            }
            own.views.insert(channel.clone(), View::default());
            entries.insert(channel, entry);
        }
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(channel, entry)| (channel.to_owned(), entry)).collect();
        assert_eq!(entries, expected, "the subscriptions of {device}");
        let client = &mut self.clients.get_mut(&device).unwrap().client;
        client.send(json!({ "type": "ping", "id": "heard" })).await;
        client.answer(&json!("heard")).await.unwrap();
        self.stale.push(ticket.token);
    }

    // How sessions end.

    /// Disconnects a user together with all waiting sessions.
    pub(super) async fn send_away(&mut self) {
        let user = self.one(&USERS);
        if self.model.waiting_of(user).count() > 1 {
            return; // the order in which they would end is not defined
        }
        let devices: Vec<_> = self.model.of(user).collect();
        for device in &devices {
            self.check(*device).await;
        }
        let code = self.revoke_or_disconnect(user);
        self.end_sessions_of(user);
        for device in devices {
            let Peer { mut client, .. } = self.clients.remove(&device).unwrap();
            assert_eq!(client.expect_close().await.0, code);
            client.send_close(code, "").await;
            client.expect_end().await;
            self.model.end(device, crate::reference::End::Gone);
            self.closed().await;
        }
    }

    /// Takes the rights of a user away by one of two methods. Returns the close code.
    fn revoke_or_disconnect(&mut self, user: &str) -> u16 {
        if self.random.below(2) == 0 {
            self.steps.push(format!("{user} is sent away"));
            now(self.hub().user(user).disconnect(CloseCode(3503), ""));
            return 3503;
        }
        self.steps.push(format!("{user} is revoked"));
        now(self.hub().revoke(Revocation::user(user)));
        3505
    }

    /// Whether the device is the only one of its user: the order in which several would end is not defined.
    fn is_alone(&self, device: u64) -> bool {
        let user = self.model.devices[&device].user;
        self.model.of(user).count() == 1 && self.model.waiting_of(user).count() == 0
    }

    /// Takes the rights of a client away that is about to resume its session.
    async fn lose_rights_before_resume(&mut self, mut client: Client, device: u64, session: (u64, Waiting)) {
        let code = self.revoke_or_disconnect(self.model.devices[&device].user);
        assert_eq!(client.expect_close().await.0, code);
        client.send_close(code, "").await;
        client.expect_end().await;
        self.model.end_claimed(device, session);
        self.closed().await;
    }

    /// Ends a subscription of a lost client, as the application does.
    pub(super) async fn cut_subscription(&mut self) {
        let waiting: Vec<u64> = self.model.waiting.keys().copied().collect();
        if waiting.is_empty() {
            return self.pass().await;
        }
        let session = self.one(&waiting);
        let channel = self.one(&[PLAIN, ROOMS[0], ROOMS[1], CROWD]);
        self.steps.push(format!("the session {session} loses {channel}"));
        let ended = self.hub().channel(channel).unsubscribe(&self.away[&session].old);
        assert_eq!(ended.is_ok(), self.model.cut(session, channel), "{ended:?}");
        if ended.is_ok() {
            self.away.get_mut(&session).unwrap().ticket.positions.remove(channel);
        }
    }

    /// Drains the hub while some clients are being lost: nothing is left, and nobody is forgotten.
    pub(super) async fn drain(&mut self) {
        self.steps.push("the hub is drained".to_owned());
        let there = self.clients.len();
        let sessions = self.model.waiting.len();
        let mut reading = JoinSet::new();
        for (index, (_, Peer { mut client, .. })) in std::mem::take(&mut self.clients).into_iter().enumerate()
        {
            if index % 2 == 0 {
                client.vanish();
            } else {
                reading.spawn_local(async move {
                    let (code, _) = client.expect_close().await;
                    client.send_close(code, "").await;
                    client.expect_end().await;
                    code
                });
            }
        }
        self.hub().drain(Drain::over(Duration::from_millis(20))).await.unwrap();
        while let Some(code) = reading.join_next().await {
            assert_eq!(code.unwrap(), 3001);
        }
        let stats = self.hub().stats();
        assert_eq!((stats.connections, stats.sessions, stats.channels, stats.subscriptions), (0, 0, 0, 0));
        assert_eq!(stats.closed, self.model.closed + there as u64);
        // Some of the clients that were being lost had a session for a while.
        let ended = self.model.ended + sessions as u64;
        assert!((ended..=ended + there as u64).contains(&stats.sessions_ended), "{stats:?}");
        assert_eq!(self.hub().presence().count().await, 0);
    }

    fn end_sessions_of(&mut self, user: &str) {
        let sessions = self.model.waiting.iter().filter(|(_, waiting)| waiting.user == user);
        for session in sessions.map(|(session, _)| *session).collect::<Vec<_>>() {
            self.model.end_session(session);
        }
    }

    /// Advances the time.
    pub(super) async fn pass(&mut self) {
        if self.world == World::Memory {
            let time = self.one(&[1, 20, 40, 61]);
            self.turn(Duration::from_secs(time)).await;
        }
    }

    /// Ends beforehand what would end during a step.
    pub(super) async fn end_due_sessions(&mut self) {
        if self.world == World::Memory {
            let soon = |run: &Self| {
                let first = run.model.waiting.values().map(|waiting| waiting.ends).min()?;
                (first < run.now() + STEP.as_millis() as u64).then(|| first.saturating_sub(run.now()))
            };
            while let Some(time) = soon(self) {
                self.turn(Duration::from_millis(time)).await;
            }
        }
    }

    /// Waits so that no two sessions end at the same moment: their order would not be defined.
    pub(super) async fn avoid_equal_expiry(&self) {
        let ends = |run: &Self| run.now() + WINDOW.as_millis() as u64;
        while self.world == World::Memory && self.model.waiting.values().any(|one| one.ends == ends(self)) {
            hauyna_test::settle().await;
        }
    }

    async fn turn(&mut self, time: Duration) {
        hauyna_test::advance(time).await;
        while self.model.waiting.values().any(|waiting| waiting.ends.abs_diff(self.now()) < 3) {
            hauyna_test::settle().await;
        }
        self.steps.push(format!("it is {} ms", self.now()));
        self.model.pass(self.now());
    }

    /// Ends all sessions.
    pub(super) async fn end_sessions(&mut self) {
        if self.world == World::Memory {
            self.turn(2 * WINDOW).await;
        }
        for user in USERS {
            self.hub().user(user).disconnect(CloseCode(3503), "").await;
            self.end_sessions_of(user);
        }
        assert!(self.model.waiting.is_empty());
        self.closed().await;
    }
}

type Asking = BTreeMap<String, Asked>;

const WINDOW: Duration = Duration::from_secs(60);
/// Maximum time that a step takes.
const STEP: Duration = Duration::from_secs(12);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const SOCKETS: (World, u64, usize) = (World::Sockets, 500, 8);
/// One after another: they share the same clock.
const MEMORY: (World, u64, usize) = (World::Memory, 500, 1);

#[tokio::test(start_paused = true)]
async fn sessions_match_a_naive_hub_with_paused_time() {
    LocalSet::new().run_until(part((0, 1), MEMORY)).await;
}

#[tokio::test]
async fn sessions_match_a_naive_hub_over_sockets() {
    LocalSet::new().run_until(part((0, 1), SOCKETS)).await;
}
