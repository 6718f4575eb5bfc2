//! What clients must have received, and what the server must report, after the verbs of `model_all`.

use super::{GROUPS, Grace, Run, USERS, wait_until};
use crate::reference::{BUSY, CROWD, PLAIN, ROOMS, known_part, lane_of_events};
use crate::support::now;
use hauyna::connection::ConnectionState::{Connected, Disconnected, Error, Idle, Reconnecting};
use hauyna::presence::Criteria;
use hauyna::{Connection, json};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Run {
    /// Takes one message: the next expected one in its lane, or presence of the crowd.
    fn accept(&mut self, device: u64, message: Value) {
        let own = self.clients.get_mut(&device).unwrap();
        let kind = message["type"].as_str().unwrap();
        let lane = ["channel", "room"].iter().find_map(|field| message[*field].as_str());
        let lane = lane.unwrap_or(if kind == "connection_state" { "state" } else { kind });
        let lane = if kind == "client_event" { lane_of_events(lane) } else { lane.to_owned() };
        if let (Some(offset), "message") = (message["offset"].as_u64(), kind) {
            own.ticket.positions.insert(lane.clone(), offset);
        }
        if kind.starts_with("presence_") || kind == "occupancy" {
            let view =
                own.views.get_mut(&lane).unwrap_or_else(|| panic!("{device} is not connected: {message}"));
            view.apply(&message);
            if lane == CROWD {
                return;
            }
        }
        let expected = &mut self.model.devices.get_mut(&device).unwrap().expected;
        let place = expected.iter().position(|(other, _)| *other == lane);
        let place = place.unwrap_or_else(|| panic!("unexpected message for {device}: {message}"));
        let (_, expected) = expected.remove(place).unwrap();
        assert_eq!(known_part(message), expected, "{device}");
    }

    /// Checks that the client got everything that the reference expects, in order per lane, and nothing else.
    pub(super) async fn check(&mut self, device: u64) {
        self.model.hear(device);
        let client = &mut self.clients.get_mut(&device).unwrap().client;
        client.send(json!({ "type": "ping", "id": "check" })).await;
        let mut has_ponged = false;
        while !has_ponged || !self.model.devices[&device].expected.is_empty() {
            let message = self.clients.get_mut(&device).unwrap().client.next().await;
            match message["type"] == "pong" {
                true => has_ponged = true,
                false => self.accept(device, message),
            }
        }
        for room in ROOMS {
            let view = self.clients[&device].views.get(room);
            assert!(view.is_none_or(|view| view.is_of(&self.model, room)), "{device} in {room}: {view:?}");
        }
    }

    /// Checks all clients, including what clients in the crowd learn later.
    pub(super) async fn check_all(&mut self) {
        for device in self.clients.keys().copied().collect::<Vec<_>>() {
            self.check(device).await;
            while self.clients[&device].views.get(CROWD).is_some_and(|view| !view.is_of(&self.model, CROWD)) {
                let next = self.clients.get_mut(&device).unwrap().client.next();
                let Ok(message) = tokio::time::timeout(Duration::from_secs(5), next).await else {
                    let (view, model) = (&self.clients[&device].views[CROWD], self.model.list(CROWD));
                    panic!("the crowd of {device} is {view:?}, expected {model:?}");
                };
                self.accept(device, message);
            }
        }
    }

    pub(super) fn rosters_are_right(&self) -> bool {
        let presence = self.hub().presence();
        let is_right = |channel: &str| {
            let room = self.model.rooms.get(channel);
            let users =
                room.map(|room| room.users.iter().map(|(user, places)| ((*user).to_owned(), places.len())));
            let listed = now(presence.list_in_channel(channel)).into_iter();
            let listed = listed.map(|entry| (entry.user.to_string(), entry.connections.len()));
            listed.eq(users.into_iter().flatten())
        };
        let stats = self.hub().stats();
        (stats.channels, stats.subscriptions) == self.model.counts()
            && now(presence.count()) == self.model.users(|_| true).len()
            && ROOMS.iter().chain([&CROWD]).all(|channel| is_right(channel))
    }

    /// Checks that the server reports what the reference says.
    pub(super) async fn questions(&self) {
        // A resuming client gets its session message slightly before it owns all of the session.
        wait_until("the members and counts match the reference", || self.rosters_are_right()).await;
        let (presence, model) = (self.hub().presence(), &self.model);
        let by = |criteria: Criteria| {
            let list = now(presence.list_by(&criteria));
            assert_eq!(list.len(), now(presence.count_by(&criteria)));
            let mut users: Vec<_> = list.into_iter().map(|entry| entry.user.to_string()).collect();
            users.sort();
            users
        };
        for user in USERS {
            assert_eq!(presence.is_present(user).await, model.is_present(user), "{user}");
            let entry = presence.get(user).await;
            let metadata = entry.map(|entry| (entry.status.to_string(), entry.metadata));
            let expected = model.is_present(user).then(|| (model.status(user), model.profile(user).into()));
            assert_eq!(metadata, expected, "{user}");
        }
        let subscribers: BTreeSet<_> = model
            .devices
            .values()
            .filter(|one| one.channels.contains_key(PLAIN))
            .map(|one| one.user)
            .collect();
        let in_plain = presence.in_channel(PLAIN).await.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(in_plain, model.users(|user| subscribers.contains(user)));
        assert_eq!(by(Criteria::new()), model.users(|_| true));
        assert_eq!(by(Criteria::new().status("away")), model.users(|user| model.status(user) == "away"));
        let role = |user: &str| model.profile(user).get("role") == Some(&json!(1));
        assert_eq!(by(Criteria::new().with("role", 1)), model.users(role));
        let members =
            |user: &str| model.groups.get(GROUPS[0]).is_some_and(|members| members.contains_key(user));
        let room = |user: &str| model.rooms.get(ROOMS[0]).is_some_and(|room| room.users.contains_key(user));
        let criteria = Criteria::new().in_group(GROUPS[0]).in_channel(ROOMS[0]);
        assert_eq!(by(criteria), model.users(|user| members(user) && room(user)));
        let stats = presence.stats().await;
        assert_eq!(stats.users, model.users(|_| true).len());
        assert_eq!(
            stats.connections,
            presence.list().await.iter().map(|entry| entry.connections.len()).sum::<usize>()
        );
        let stats = self.hub().stats();
        assert_eq!((stats.connections, stats.closed), (model.devices.len(), model.closed));
        assert_eq!((stats.sessions, stats.resumed), (model.waiting.len(), model.resumed));
        assert_eq!((stats.sessions_ended, stats.sessions_evicted), (model.ended, model.evicted));
        for state in [Connected, Idle, BUSY, Error, Reconnecting, Disconnected] {
            let found: BTreeSet<_> =
                self.hub().connections().in_state(state).iter().map(Connection::id).collect();
            let expected = model.in_state(state);
            let lost = if state == Reconnecting { model.waiting.len() } else { 0 };
            assert_eq!(stats.states.of(state), expected.len() + lost, "{state}");
            assert_eq!(found, expected.iter().map(|one| self.clients[one].connection.id()).collect());
        }
        for group in GROUPS {
            let members = model.groups.get(group).cloned().unwrap_or_default();
            let groups = self.hub().groups();
            let listed: BTreeMap<_, _> = groups
                .members(group)
                .await
                .into_iter()
                .map(|user| (user.to_string(), now(groups.role(&user, group))))
                .collect();
            assert_eq!(
                listed,
                members.iter().map(|(user, role)| ((*user).to_owned(), role.map(str::to_owned))).collect()
            );
        }
    }

    /// Ends all connections; lost clients resume and then close. Checks that nothing is left.
    pub(super) async fn finish(&mut self) {
        self.check_all().await;
        self.questions().await;
        if self.world.has_sessions() && self.grace == Grace::None && self.seed.is_multiple_of(3) {
            return self.drain().await;
        }
        for device in self.clients.keys().copied().collect::<Vec<_>>() {
            self.end(device, 0).await;
        }
        self.end_sessions().await;
        while let Some((user, rooms)) = self.model.missed() {
            let device = USERS.iter().position(|one| *one == user).unwrap() as u64;
            self.connect(device).await;
            for room in rooms {
                self.enter(device, room, json!({ "at": 1 })).await;
            }
            self.ask(device, json!({ "type": "track", "role": 0 })).await.unwrap();
            self.model.track(device, &json!({ "role": 0 }));
            self.check(device).await;
            self.end(device, 0).await;
        }
        self.questions().await;
        assert_eq!(self.model.counts(), (0, 0));
        assert_eq!(self.hub().presence().count().await, 0);
        if self.seed.is_multiple_of(2) {
            let online: Vec<_> =
                self.model.online.iter().map(|(user, is)| ((*user).to_owned(), *is)).collect();
            wait_until("listeners hear of all", || self.online.lock().len() >= online.len()).await;
            assert_eq!(*self.online.lock(), online);
        }
    }
}
