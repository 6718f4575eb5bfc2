//! The Rust clients, in one process with one thread: connects, publishes, and logs what each application
//! receives. Like `driver.mjs`, it gets its orders as lines on its standard input.

use crate::child::{self, orders};
use crate::log::{Event, Line, Place};
use crate::run::now;
use anyhow::Result;
use hauyna_client::protocol::{Position, PresenceKind};
use hauyna_client::{Channel, Client, Error, Gap, State, StreamError};
use hauyna_test::Random;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// The options of every driver.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    url: String,
    #[arg(long)]
    language: String,
    #[arg(long)]
    clients: u32,
    #[arg(long)]
    channels: u32,
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    log: PathBuf,
}

/// Content of a publication.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    id: String,
    text: String,
}

/// Starts the clients and follows orders.
///
/// # Errors
///
/// Returns an error if the log cannot be written, or a client cannot connect.
pub(crate) async fn drive(options: Options) -> Result<()> {
    let journal = Arc::new(Journal::new(&options.log)?);
    let mut players = Vec::new();
    for number in 0..options.clients {
        players.push(Player::new(number, &options, &journal)?);
    }
    for player in &players {
        player.begin(&journal).await?;
    }
    let players = Arc::new(players);
    println!("ready");
    let mut publishing: Option<JoinHandle<()>> = None;
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        match order.as_str() {
            "go" => {
                let (players, journal) = (Arc::clone(&players), Arc::clone(&journal));
                publishing = Some(tokio::spawn(publish(players, journal, options.rate, options.seed)));
            }
            "stop" => {
                if let Some(publishing) = publishing.take() {
                    publishing.abort();
                }
                settle(&players, &journal).await;
                println!("stopped");
            }
            "end" => {
                for player in players.iter() {
                    journal.write(&player.name, Event::Closing);
                }
                journal.close()?;
                for player in players.iter() {
                    player.client.close().await;
                }
                println!("cpu {:.2}", child::cpu_seconds());
            }
            _ => anyhow::bail!("unknown order {order}"),
        }
    }
    Ok(())
}

/// One client and its application.
struct Player {
    name: Arc<str>,
    client: Client,
    channels: Vec<Channel<Content>>,
    sent: Mutex<u64>,
}

impl Player {
    fn new(number: u32, options: &Options, journal: &Arc<Journal>) -> Result<Self> {
        let name: Arc<str> = format!("{}-{number}", options.language).into();
        let builder = Client::builder(&format!("{}?user={name}", options.url));
        let client = if number.is_multiple_of(2) { builder } else { builder.message_pack() }.connect()?;
        let second = (number + 1 + number / options.channels) % options.channels;
        let numbers = BTreeSet::from([number % options.channels, second]);
        let channels = numbers.iter().map(|number| client.channel(&format!("room:{number}"))).collect();
        let player = Self { name, client, channels, sent: Mutex::new(0) };
        player.listen(journal);
        Ok(player)
    }

    /// Logs what the application receives, each stream in its order.
    fn listen(&self, journal: &Arc<Journal>) {
        let (client, name, log) = (self.client.clone(), self.name.clone(), journal.clone());
        let mut states = self.client.states();
        tokio::spawn(async move {
            while let Some(state) = states.next().await {
                log.heard();
                let resumed = client.session().is_some_and(|session| session.resumed);
                let (state, reason) = match state {
                    Ok(State::Connecting) => ("connecting", String::new()),
                    Ok(State::Connected) => ("connected", String::new()),
                    Ok(State::Reconnecting { .. }) => ("reconnecting", String::new()),
                    Ok(State::Closed(closed)) => ("closed", closed.to_string()),
                    other => ("unknown", format!("{other:?}")),
                };
                log.write(&name, Event::State { state: state.to_owned(), resumed, reason });
            }
        });
        for channel in &self.channels {
            self.listen_in(channel, journal);
        }
    }

    fn listen_in(&self, channel: &Channel<Content>, journal: &Arc<Journal>) {
        let (channel_name, name, log) = (channel.name().to_owned(), self.name.clone(), journal.clone());
        let mut messages = channel.messages();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                log.heard();
                let channel = channel_name.clone();
                log.write(&name, event_of(channel, message));
            }
        });
        let (channel_name, name, log) = (channel.name().to_owned(), self.name.clone(), journal.clone());
        let mut updates = channel.presence_updates();
        tokio::spawn(async move {
            while let Some(Ok(update)) = updates.next().await {
                let change = match update.kind {
                    PresenceKind::Join => "join",
                    PresenceKind::Leave => "leave",
                    PresenceKind::Update => continue,
                };
                let (channel, change) = (channel_name.clone(), change.to_owned());
                log.write(&name, Event::Presence { channel, change, user: update.user });
            }
        });
    }

    async fn begin(&self, journal: &Journal) -> Result<()> {
        for channel in &self.channels {
            channel.subscribe().await?.keep();
            journal.write(&self.name, Event::Subscribed { channel: channel.name().to_owned() });
        }
        Ok(())
    }

    fn publish(&self, channel: &Channel<Content>, journal: &Arc<Journal>) {
        let id = {
            let mut sent = self.sent.lock();
            *sent += 1;
            format!("{}:{sent}", self.name)
        };
        let (channel_name, name, journal) = (channel.name().to_owned(), self.name.clone(), journal.clone());
        journal.write(&name, Event::Sent { channel: channel_name.clone(), id: id.clone() });
        journal.open(1);
        let text = "some words as people write them in a room".to_owned();
        let published = channel.publish(&Content { id: id.clone(), text });
        // On one thread, tasks start in the order in which they were spawned, so this is the order of
        // sending.
        tokio::spawn(async move {
            let event = match published.await {
                Ok(Some(Position { epoch, offset })) => {
                    Event::Acked { channel: channel_name, id, epoch: epoch.to_string(), offset }
                }
                Ok(None) => Event::Failed { channel: channel_name, id, error: "no position".to_owned() },
                Err(error) => Event::Failed { channel: channel_name, id, error: kind(&error) },
            };
            journal.write(&name, event);
            journal.heard();
            journal.open(-1);
        });
    }
}

/// Publishes at a rate, each time through a random client.
async fn publish(players: Arc<Vec<Player>>, journal: Arc<Journal>, rate: u32, seed: u64) {
    let mut random = Random(seed);
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let mut pick = |count: usize| usize::try_from(random.below(count.max(1) as u64)).unwrap_or_default();
        let Some(player) = players.get(pick(players.len())) else { return };
        let Some(channel) = player.channels.get(pick(player.channels.len())) else { return };
        player.publish(channel, &journal);
    }
}

/// Waits until all clients are connected, all publications have an outcome, and nothing more arrives.
async fn settle(players: &[Player], journal: &Journal) {
    let mut looks = interval(Duration::from_millis(100));
    loop {
        looks.tick().await;
        let is_connected = players.iter().all(|player| player.client.state() == State::Connected);
        if is_connected && journal.is_quiet() {
            return;
        }
    }
}

fn event_of(channel: String, message: Result<hauyna_client::Publication<Content>, StreamError>) -> Event {
    let gap = |reason: String| Event::Gap { channel: channel.clone(), reason, from: None, to: None };
    match message {
        Ok(message) => {
            Event::Got { channel, id: message.content.id, offset: message.offset.unwrap_or_default() }
        }
        Err(StreamError::Gap(Gap { reason, from, to, .. })) => {
            let position =
                |position: Position| Place { epoch: position.epoch.to_string(), offset: position.offset };
            let (from, to) = (from.map(position), to.map(position));
            Event::Gap { channel, reason: reason.as_str().to_owned(), from, to }
        }
        Err(StreamError::Missed(_)) => gap("read too slowly".to_owned()),
        Err(error) => gap(error.to_string()),
    }
}

fn kind(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => format!("refused: {}", refusal.error_type),
        Error::OutcomeUnknown => "outcome_unknown".to_owned(),
        Error::Timeout => "timeout".to_owned(),
        Error::Expired => "expired".to_owned(),
        Error::Closed(_) => "closed".to_owned(),
        other => other.to_string(),
    }
}

/// The log of all clients, and their activity.
struct Journal {
    file: Mutex<Option<BufWriter<File>>>,
    activity: Mutex<(u64, i64)>,
}

impl Journal {
    fn new(path: &std::path::Path) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Self { file: Mutex::new(Some(file)), activity: Mutex::new((now(), 0)) })
    }

    fn write(&self, client: &str, event: Event) {
        if let Some(file) = self.file.lock().as_mut() {
            let line = Line { at: now(), client: client.to_owned(), event };
            let written = serde_json::to_writer(&mut *file, &line).map_err(std::io::Error::from);
            if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
                eprintln!("cannot log: {error}");
            }
        }
    }

    /// Records that something arrived.
    fn heard(&self) {
        self.activity.lock().0 = now();
    }

    /// Adds to the number of publications that wait for their outcome.
    fn open(&self, more: i64) {
        self.activity.lock().1 += more;
    }

    fn is_quiet(&self) -> bool {
        let (last, open) = *self.activity.lock();
        open == 0 && now().saturating_sub(last) >= QUIET
    }

    fn close(&self) -> Result<()> {
        if let Some(mut file) = self.file.lock().take() {
            file.flush()?;
        }
        Ok(())
    }
}

/// Silence in ms after which nothing more arrives: longer than the delay of a fault that has ended.
const QUIET: u64 = 3000;
