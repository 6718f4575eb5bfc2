//! Random sequences with clients that stop reading, bursts by every verb, changing epochs, rates and retry
//! policies, against a model that knows what every client must receive or miss with a gap. `HAUYNA_SEED`
//! repeats one sequence; `HAUYNA_SEQUENCES` sets the number of sequences.

mod checks;
mod clients;
mod log;
mod steps;
mod world;

use crate::turning::{Engine, Turning};
use clients::Peer;
use log::{Entry, Sender};
use world::World;

use crate::support::Random;
use hauyna::error::ErrorKind;
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{Hub, Position, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const STEPS: u64 = 80;
const SEQUENCES: u64 = 120;
const DEVICES: u64 = 6;

/// What the hub reports to its listeners.
#[derive(Debug, Default)]
struct ListenerCounts {
    slow: AtomicU64,
    gaps: AtomicU64,
}

/// The expected counters of the hub.
#[derive(Debug, Default)]
struct Counts {
    published: u64,
    refused: u64,
    slow: u64,
    gaps: u64,
    missed: u64,
    /// Publications that may have been dropped: the client disconnected before it learned of them.
    unreported: u64,
}

struct Run {
    world: World,
    clients: BTreeMap<u64, Peer>,
    /// The last positions of each channel with subscribers, as the hub knows them.
    known: BTreeMap<&'static str, Position>,
    /// The publications that each stream keeps.
    history: BTreeMap<&'static str, Vec<Entry>>,
    /// Positions that clients had, from which they may recover.
    places: BTreeMap<&'static str, Vec<Position>>,
    /// Requests and subscriptions that a device may still make.
    left: BTreeMap<u64, u64>,
    subscriptions_left: BTreeMap<u64, u64>,
    calm_left: u64,
    number: u64,
    counts: Counts,
    reported: Arc<ListenerCounts>,
    random: Random,
    steps: Vec<String>,
    seed: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HAUYNA_SEED={} went wrong after:\n{}", self.seed, self.steps.join("\n"));
        }
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let reported = listen(world.hub());
        Self {
            world,
            clients: BTreeMap::new(),
            known: BTreeMap::new(),
            history: BTreeMap::new(),
            places: BTreeMap::new(),
            left: BTreeMap::new(),
            subscriptions_left: BTreeMap::new(),
            calm_left: world::CALM_RATE,
            number: 0,
            counts: Counts::default(),
            reported,
            random: Random(seed),
            steps: Vec::new(),
            seed,
        }
    }

    fn hub(&self) -> &Hub {
        self.world.hub()
    }

    fn engine(&self) -> &Engine {
        self.world.engine()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len() as u64) as usize]
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        self.steps.push(what.to_string());
    }

    // What the model knows about publications.

    /// Records a publication of the hub in a channel.
    fn published(&mut self, channel: &'static str, number: u64, sender: Sender, bytes: usize) {
        let position = world::is_numbered(channel).then(|| self.engine().top(channel));
        if let Some(position) = position {
            self.follow(channel, position);
            self.places.entry(channel).or_default().push(position);
        }
        let entry = Entry::Publication { number, position, sender };
        self.history.entry(channel).or_default().push(entry);
        self.push(channel, entry, bytes);
    }

    /// Records that the hub notices a change of the epoch with the next publication.
    fn follow(&mut self, channel: &'static str, position: Position) {
        if let Some(known) = self.known_to_subscribers(channel)
            && known.epoch != position.epoch
        {
            let is_whole = known.offset > 0 && known.offset + 1 == position.offset;
            let to = Position { offset: position.offset - 1, ..position };
            self.push(channel, Entry::Turn { to, is_whole }, 0);
        }
        self.known.insert(channel, position);
    }

    /// Returns what the hub knows about the stream, which it forgets with the last subscriber.
    fn known_to_subscribers(&mut self, channel: &'static str) -> Option<Position> {
        if !self.clients.values().any(|peer| peer.logs.contains_key(channel)) {
            self.known.remove(channel);
        }
        self.known.get(channel).copied()
    }

    fn push(&mut self, channel: &str, entry: Entry, bytes: usize) {
        let is_disconnecting = world::disconnects(channel) || matches!(entry, Entry::Turn { .. });
        for peer in self.clients.values_mut() {
            if let Some(log) = peer.logs.get_mut(channel).filter(|log| !log.is_ended) {
                log.push(entry);
                peer.volume.add(bytes, is_disconnecting);
            }
        }
    }

    fn push_direct(&mut self, to: impl Fn(u64) -> bool, number: u64, sender: Sender, bytes: usize) {
        for (_, peer) in self.clients.iter_mut().filter(|(device, _)| to(**device)) {
            peer.direct.push(Entry::Publication { number, position: None, sender });
            peer.volume.add(bytes, true);
        }
    }
}

fn listen(hub: &Hub) -> Arc<ListenerCounts> {
    let reported = Arc::<ListenerCounts>::default();
    let own = reported.clone();
    hub.events().on_system([SystemKind::SlowConsumer, SystemKind::MessagesDropped], move |_, event| {
        match event {
            SystemEvent::SlowConsumer { .. } => own.slow.fetch_add(1, Ordering::Relaxed),
            SystemEvent::MessagesDropped { .. } => own.gaps.fetch_add(1, Ordering::Relaxed),
            other => panic!("{other:?}"),
        };
        async { Ok(()) }
    });
    reported
}

async fn sequence(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.step().await;
    }
    run.finish().await;
}

/// Runs one part of the sequences.
async fn part(number: u64, parts: u64) {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let sequences = variable("HAUYNA_SEQUENCES").unwrap_or(SEQUENCES);
    let only: Option<u64> = variable("HAUYNA_SEED");
    let seeds = (number..sequences).step_by(parts as usize).filter(|_| only.is_none()).chain(only);
    for seed in seeds {
        sequence(seed).await;
    }
}

#[tokio::test]
async fn every_loss_of_a_client_is_reported_in_the_first_half() {
    part(0, 2).await;
}

#[tokio::test]
async fn every_loss_of_a_client_is_reported_in_the_second_half() {
    part(1, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_loss_of_a_client_is_reported_on_two_threads() {
    part(0, 4).await;
}
