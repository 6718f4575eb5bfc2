//! Random steps of clients and the application.

use super::log::position;
use super::world::{self, CALM, CHANNELS, GROUP, Line, NUMBERED, RATED, user};
use super::{DEVICES, Entry, ErrorKind, Peer, Position, Run, Sender, Turning, json};
use crate::support::{eventually, retry_terms};
use hauyna::connection::{Encoding, RetryPolicy};
use serde_json::Value;

/// How the application reaches clients.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Channel(&'static str),
    User(u64),
    Group,
    Everybody,
    Connection(u64),
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Now,
    Recovered,
}

impl Run {
    pub(super) async fn step(&mut self) {
        let device = self.random.below(DEVICES);
        let is_reading = self.clients.get(&device).map(|peer| !peer.is_stalled);
        match (is_reading, self.random.below(24)) {
            (None, _) => self.connect(device).await,
            (Some(false), 0..=3) => self.resume(device).await,
            (Some(true), 0) => self.leave(device).await,
            (Some(true), 1..=3) => drop(self.subscribe(device, Begin::Now).await),
            (Some(true), 4..=5) => drop(self.subscribe(device, Begin::Recovered).await),
            (Some(true), 6) => self.recover_and_stall(device).await,
            (Some(true), 7) => self.unsubscribe(device).await,
            (Some(true), 8..=9) => self.publish(device).await,
            (Some(true), 10) => self.private(device).await,
            (Some(true), 11..=12) => self.stall(device),
            (_, 13) => self.cut_subscription(device),
            (_, 14) => self.begin_subscription(device).await,
            (_, 15..=16) => self.turn(),
            (_, 17) if self.is_gentle() => self.turn(),
            (_, 17) => self.set_policy(device),
            (_, 18..=19) => self.say().await,
            _ => self.burst().await,
        }
        self.check_readers().await;
    }

    async fn connect(&mut self, device: u64) {
        self.note(format_args!("{device} connects"));
        let encoding = Encoding::ALL[self.random.below(2) as usize];
        let mut connect = self.world.client(device).encoding(encoding);
        if self.random.below(4) == 0 {
            connect = connect.deflate();
        }
        let mut client = connect.connect().await;
        let session = client.expect("session").await;
        assert_eq!(session["retry"], retry_terms(world::policy_of(device)));
        let connection = self.hub().connections().of_user(user(device)).remove(0);
        self.clients.insert(device, Peer::new(client, connection, Line::of(device), self.number));
    }

    async fn leave(&mut self, device: u64) {
        if !self.check(device).await {
            return;
        }
        self.note(format_args!("{device} leaves"));
        let peer = self.forget(device);
        match self.random.below(2) {
            0 => peer.client.close(1000, "").await,
            _ => peer.client.vanish(),
        }
        self.is_gone(device).await;
    }

    pub(super) async fn is_gone(&self, device: u64) {
        let connections = self.hub().connections();
        eventually("the connection is gone", || connections.of_user(user(device)).is_empty()).await;
    }

    fn stall(&mut self, device: u64) {
        self.note(format_args!("{device} stops reading"));
        self.clients.get_mut(&device).unwrap().is_stalled = true;
    }

    pub(super) async fn resume(&mut self, device: u64) {
        self.note(format_args!("{device} reads on"));
        self.check(device).await;
    }

    // Subscriptions.

    async fn recover_and_stall(&mut self, device: u64) {
        if self.subscribe(device, Begin::Recovered).await.is_some() {
            self.stall(device);
        }
    }

    /// Subscribes if that is allowed. Returns `None` if the connection is gone.
    async fn subscribe(&mut self, device: u64, begin: Begin) -> Option<()> {
        let channel = self.one(&CHANNELS).0;
        let places = self.places.get(channel).filter(|_| begin == Begin::Recovered).cloned();
        let since = places.map(|places| self.one(&places[places.len().saturating_sub(DISTANCE)..]));
        let mut request = json!({ "type": "subscribe_channel", "channel": channel });
        if let Some(since) = since {
            request["recover"] = json!({ "epoch": since.epoch.to_string(), "offset": since.offset });
        }
        let was_subscribed = self.clients[&device].logs.get(channel).is_some_and(|log| !log.is_ended);
        let answer = self.ask(device, request).await;
        let Some(answer) = answer else {
            return self.clients.contains_key(&device).then_some(());
        };
        if device != RATED {
            let left = self.subscriptions_left.entry(device).or_insert(world::SUBSCRIPTIONS);
            let Some(less) = left.checked_sub(1) else {
                assert_eq!(answer.unwrap_err()["error_type"], "rate_limited");
                return Some(());
            };
            *left = less;
        }
        if was_subscribed {
            assert_eq!(answer.unwrap_err()["error_type"], "already_subscribed");
            return Some(());
        }
        let answer = answer.unwrap();
        let replayed = self.replay(channel, since, &answer);
        let top = self.join(channel);
        assert_eq!(position(&answer), top);
        self.clients.get_mut(&device).unwrap().subscribe(channel, replayed);
        Some(())
    }

    /// Checks what a client learns about its recovery. Returns what it gets before anything new.
    fn replay(&mut self, channel: &str, since: Option<Position>, answer: &Value) -> Vec<Entry> {
        let outcome = (answer.get("recovered"), answer.get("reason"));
        let Some(since) = since else {
            assert_eq!(outcome, (None, None));
            return Vec::new();
        };
        let missed = self.engine().top(channel).offset.saturating_sub(since.offset);
        let reason = match self.engine().continues(channel, since) {
            false => Some(json!("epoch_changed")),
            true => (missed > world::RECOVERY_LIMIT).then(|| json!("too_many")),
        };
        assert_eq!(outcome, (Some(&json!(reason.is_none())), reason.as_ref()));
        let kept = self.history.get(channel).into_iter().flatten().filter(|entry| match entry {
            Entry::Publication { position: Some(position), .. } => position.offset > since.offset,
            _ => false,
        });
        kept.filter(|_| reason.is_none()).copied().collect()
    }

    /// Records the position of the stream with one more subscriber.
    fn join(&mut self, channel: &'static str) -> Option<Position> {
        let top = world::is_numbered(channel).then(|| self.engine().top(channel))?;
        if self.known_to_subscribers(channel).is_some_and(|known| known.epoch != top.epoch) {
            self.push(channel, Entry::Turn { to: top, is_whole: false }, 0);
        }
        self.known.insert(channel, top);
        self.places.entry(channel).or_default().push(top);
        Some(top)
    }

    async fn unsubscribe(&mut self, device: u64) {
        let channel = self.one(&CHANNELS).0;
        let is_there = self.clients[&device].logs.get(channel).is_some_and(|log| !log.is_ended);
        let request = json!({ "type": "unsubscribe_channel", "channel": channel });
        let Some(answer) = self.ask(device, request).await else { return };
        assert_eq!(answer.is_ok(), is_there, "{answer:?}");
        let peer = self.clients.get_mut(&device).unwrap();
        peer.unreported += peer.logs.remove(channel).map_or(0, |log| log.unreported());
    }

    /// Ends a subscription, as the application does.
    fn cut_subscription(&mut self, device: u64) {
        let subscribed = &self.clients[&device].logs;
        let subscribed: Vec<_> =
            CHANNELS.iter().map(|(name, _)| *name).filter(|name| subscribed.contains_key(*name)).collect();
        if subscribed.is_empty() {
            return;
        }
        let channel = self.one(&subscribed);
        let hub = self.hub().clone();
        let peer = self.clients.get_mut(&device).unwrap();
        let Some(log) = peer.logs.get_mut(channel).filter(|log| !log.is_ended && log.announced.is_none())
        else {
            return;
        };
        if hub.channel(channel).unsubscribe(&peer.connection).is_ok() {
            log.is_ended = true;
            peer.volume.add(0, true);
            self.note(format_args!("{device} is unsubscribed from {channel}"));
        }
    }

    /// Subscribes a client, as the application does.
    async fn begin_subscription(&mut self, device: u64) {
        let channel = self.one(&CHANNELS).0;
        let peer = &self.clients[&device];
        let subscribed = self.hub().channel(channel);
        if peer.logs.contains_key(channel) {
            return;
        }
        if let Err(error) = subscribed.subscribe(&peer.connection, ()).await {
            assert!(error.kind() == ErrorKind::Closed && peer.may_be_closed(), "{error}");
            return;
        }
        self.note(format_args!("{device} is subscribed to {channel}"));
        let top = self.join(channel);
        let peer = self.clients.get_mut(&device).unwrap();
        peer.subscribe(channel, Vec::new()).announced = Some(top);
        peer.volume.add(0, true);
    }

    /// Continues a stream under another epoch, with or without a report of the broker.
    fn turn(&mut self) {
        let channel = self.one(&CHANNELS[..NUMBERED]).0;
        let is_announced = self.random.below(2) == 0;
        let turning = match (self.random.below(2), is_announced) {
            (0, _) => Turning::Whole,
            (_, true) => Turning::Lost(self.random.below(3) * 7),
            (_, false) => Turning::Lost(0),
        };
        self.note(format_args!("{channel} turns: {turning:?}, announced: {is_announced}"));
        let top = self.engine().turn(channel, turning);
        if matches!(turning, Turning::Lost(_)) {
            self.history.remove(channel);
        }
        if !is_announced {
            for log in self.clients.values_mut().filter_map(|peer| peer.logs.get_mut(channel)) {
                log.unannounced.push(top.epoch);
            }
            return;
        }
        self.engine().announce(channel, turning);
        if let Some(known) = self.known_to_subscribers(channel) {
            let is_whole = turning == Turning::Whole && known.offset == top.offset;
            self.push(channel, Entry::Turn { to: top, is_whole }, 0);
            self.known.insert(channel, top);
        }
    }

    fn set_policy(&mut self, device: u64) {
        let policy =
            self.one(&[RetryPolicy::default(), RetryPolicy::aggressive(), RetryPolicy::conservative()]);
        let peer = self.clients.get_mut(&device).unwrap();
        if let Err(error) = peer.connection.set_retry_policy(policy) {
            return assert!(error.kind() == ErrorKind::Closed && peer.may_be_closed(), "{error}");
        }
        let mut message = retry_terms(policy);
        message["type"] = json!("retry_policy");
        peer.policies.push_back(message);
        peer.volume.add(0, true);
        self.note(format_args!("{device} is told to come back as {policy:?}"));
    }

    // Messages.

    fn content(&mut self, padding: usize) -> (u64, Value) {
        self.number += 1;
        (self.number, json!({ "n": self.number, "p": "x".repeat(padding) }))
    }

    async fn publish(&mut self, device: u64) {
        let subscribed = &self.clients[&device].logs;
        let mut channels = CHANNELS.iter().map(|(name, _)| *name);
        // Mostly in the calm channel, so that its rate is reached.
        let (calm, any) = (Some(CALM), channels.find(|name| subscribed.contains_key(*name)));
        let wanted = if self.random.below(2) == 0 { calm } else { any };
        let Some(channel) = wanted.filter(|name| self.clients[&device].logs.contains_key(*name)) else {
            return;
        };
        let (number, content) = self.content(10);
        let request = json!({ "type": "channel_message", "channel": channel, "content": content });
        let Some(answer) = self.ask(device, request).await else { return };
        if let Err(error) = &answer
            && error["error_type"] == "not_subscribed"
        {
            assert!(!self.clients[&device].logs.contains_key(channel), "{error}");
            return;
        }
        if channel == CALM {
            let Some(less) = self.calm_left.checked_sub(1) else {
                assert_eq!(answer.unwrap_err()["error_type"], "rate_limited");
                return;
            };
            self.calm_left = less;
        }
        let answer = answer.unwrap();
        self.counts.published += 1;
        self.published(channel, number, Sender::Client, 10);
        let top = world::is_numbered(channel).then(|| self.engine().top(channel));
        assert_eq!(position(&answer), top, "{answer}");
    }

    async fn private(&mut self, device: u64) {
        let to = self.random.below(DEVICES);
        let (number, content) = self.content(10);
        let request = json!({ "type": "private", "to": user(to), "message": content });
        let Some(answer) = self.ask(device, request).await else { return };
        answer.unwrap();
        self.counts.published += 1;
        self.push_direct(|other| other == to, number, Sender::Client, 10);
    }

    /// Sends one message of the application.
    async fn say(&mut self) {
        let verb = self.verb();
        self.note(format_args!("the application says something by {verb:?}"));
        self.send(verb, 50).await;
    }

    /// Sends many messages of the application, by a few methods in turn.
    async fn burst(&mut self) {
        let verbs: Vec<_> = (0..=self.random.below(4)).map(|_| self.verb()).collect();
        let (count, padding) = match self.random.below(3) {
            0 => (10 + self.random.below(10), 4000),
            1 => (30 + self.random.below(30), 1000),
            _ => (60 + self.random.below(120), 50),
        };
        self.note(format_args!("a burst of {count} messages of {padding} bytes by {verbs:?}"));
        for _ in 0..count {
            let verb = self.one(&verbs);
            self.send(verb, padding).await;
        }
    }

    fn is_gentle(&self) -> bool {
        self.seed % 4 < 2
    }

    fn verb(&mut self) -> Verb {
        let device = self.random.below(DEVICES);
        // If nothing closes them, clients that do not read live long enough to miss much.
        if self.is_gentle() && self.random.below(20) > 0 {
            let (kept, brief) = (&CHANNELS[1..NUMBERED], &CHANNELS[NUMBERED + 1..]);
            return Verb::Channel(if self.random.below(3) > 0 {
                self.one(kept).0
            } else {
                self.one(brief).0
            });
        }
        match self.random.below(12) {
            0 => Verb::User(device),
            1 => Verb::Group,
            2 => Verb::Everybody,
            3 => Verb::Connection(device),
            _ => Verb::Channel(self.one(&CHANNELS).0),
        }
    }

    async fn send(&mut self, verb: Verb, padding: usize) {
        let (number, content) = self.content(padding);
        let (hub, application) = (self.hub().clone(), Sender::Application);
        match verb {
            Verb::Channel(channel) => {
                let publishing = hub.channel(channel).publish(content);
                match self.random.below(5) {
                    0 => publishing.await.unwrap(),
                    key => publishing.conflate(&key.to_string()).await.unwrap(),
                };
                self.published(channel, number, application, padding);
            }
            Verb::User(device) => {
                hub.user(user(device)).send(content).await.unwrap();
                self.push_direct(|other| other == device, number, application, padding);
            }
            Verb::Group => {
                hub.groups().send(GROUP, content).await.unwrap();
                self.push_direct(world::is_member, number, application, padding);
            }
            Verb::Everybody => {
                hub.connections().broadcast(content).await.unwrap();
                self.push_direct(|_| true, number, application, padding);
            }
            Verb::Connection(device) => return self.send_to_connection(device, (number, content), padding),
        }
        self.counts.published += 1;
    }

    fn send_to_connection(&mut self, device: u64, (number, content): (u64, Value), padding: usize) {
        let Some(peer) = self.clients.get(&device) else { return };
        let own = json!({ "type": "own", "content": content });
        match peer.connection.send(own) {
            Ok(()) => self.push_direct(|other| other == device, number, Sender::Application, padding),
            Err(error) if error.kind() == ErrorKind::Closed => {
                // This one may be the message that did not fit.
                let peer = self.clients.get_mut(&device).unwrap();
                peer.volume.add(padding, true);
                assert!(peer.may_be_closed(), "{error}");
            }
            Err(error) => assert!(self.world.is_memory(), "{error}"),
        }
    }
}

/// Number of latest positions from which clients recover.
const DISTANCE: usize = 250;
