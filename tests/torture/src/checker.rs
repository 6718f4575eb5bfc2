//! Compares the logs of all clients: each acknowledged publication must have reached every subscriber, once
//! and in order, or the subscriber's application was told of a gap. Pure: lines in, figures out. `run` calls
//! it.

mod journey;
#[cfg(test)]
mod tests;

use crate::log::{Event, Line};
use journey::Journey;
use std::collections::{BTreeMap, HashMap};

/// External events of the run that affect all clients.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Circumstances {
    /// When the server was drained and its successor had taken over, in ms since the Unix epoch. The local
    /// broker ends with the server, so gaps and leaves are correct in this time.
    pub(crate) restart: Option<(u64, u64)>,
    /// How long, in ms, the server shows absent users as present.
    pub(crate) grace: u64,
}

/// Figures of the clients of one language.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) clients: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) got: u64,
    // Violations.
    /// Acknowledged publications that a subscriber did not receive and that no gap covers.
    pub(crate) losses: u64,
    pub(crate) duplicates: u64,
    pub(crate) reorderings: u64,
    /// Leaves of users who were absent for less than the grace time.
    pub(crate) flaps: u64,
    /// Publications whose outcome the application never learned.
    pub(crate) unanswered: u64,
    // Reported to the application.
    /// Number of failed publications by error, at any time.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Number of failed publications outside the time of the restart.
    pub(crate) failed_elsewhere: u64,
    /// Number of gaps by reason, at any time.
    pub(crate) gaps: BTreeMap<String, u64>,
    /// Number of gaps outside the time of the restart.
    pub(crate) gaps_elsewhere: u64,
    /// Number of clients that gave up.
    pub(crate) closed: u64,
    /// Number of connections after the first, and how many of them resumed the session.
    pub(crate) reconnects: u64,
    pub(crate) resumed: u64,
    /// Length of each absence in ms, sorted.
    pub(crate) recoveries: Vec<u64>,
}

/// The result of the check, with the first examples of violations.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) languages: BTreeMap<String, Figures>,
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// Returns the figures of all languages together.
    pub(crate) fn together(&self) -> Figures {
        let mut sum = Figures::default();
        for figures in self.languages.values() {
            sum.add(figures);
        }
        sum.recoveries.sort_unstable();
        sum
    }
}

impl Figures {
    /// Whether a target was missed.
    pub(crate) fn is_violated(&self) -> bool {
        self.losses + self.duplicates + self.reorderings + self.flaps + self.unanswered > 0
    }

    fn add(&mut self, other: &Figures) {
        self.clients += other.clients;
        self.sent += other.sent;
        self.acked += other.acked;
        self.got += other.got;
        self.losses += other.losses;
        self.duplicates += other.duplicates;
        self.reorderings += other.reorderings;
        self.flaps += other.flaps;
        self.unanswered += other.unanswered;
        self.gaps_elsewhere += other.gaps_elsewhere;
        self.failed_elsewhere += other.failed_elsewhere;
        self.closed += other.closed;
        self.reconnects += other.reconnects;
        self.resumed += other.resumed;
        self.recoveries.extend(&other.recoveries);
        for (from, to) in [(&other.failed, &mut self.failed), (&other.gaps, &mut self.gaps)] {
            for (name, count) in from {
                *to.entry(name.clone()).or_default() += count;
            }
        }
    }
}

/// Checks the logs. The lines of each client must be in the order in which they were written.
pub(crate) fn check(logs: &[Vec<Line>], circumstances: Circumstances) -> Verdict {
    let mut clients: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in logs.iter().flatten() {
        clients.entry(&line.client).or_default().push(line);
    }
    let truth = Truth::of(logs);
    let journeys: BTreeMap<&str, Journey> =
        clients.iter().map(|(client, lines)| (*client, Journey::of(lines))).collect();
    let mut verdict = Verdict::default();
    for (client, lines) in &clients {
        let language = client.split('-').next().unwrap_or_default().to_owned();
        let figures = verdict.languages.entry(language).or_default();
        let mut case =
            Case { client, truth: &truth, circumstances, figures, examples: &mut verdict.examples };
        case.count(lines, &journeys);
        case.follow(lines);
    }
    for figures in verdict.languages.values_mut() {
        figures.recoveries.sort_unstable();
    }
    verdict
}

/// The acknowledged publications of all channels, in the order of each channel.
struct Truth<'a> {
    channels: HashMap<&'a str, Vec<Publication<'a>>>,
    /// Index of each publication in its channel.
    indices: HashMap<&'a str, usize>,
    /// When the first driver closed its clients.
    end: u64,
}

struct Publication<'a> {
    id: &'a str,
    epoch: &'a str,
    offset: u64,
}

impl<'a> Truth<'a> {
    fn of(logs: &'a [Vec<Line>]) -> Self {
        let mut epochs: HashMap<(&str, &str), u64> = HashMap::new();
        let mut channels: HashMap<&str, Vec<Publication<'_>>> = HashMap::new();
        let mut end = u64::MAX;
        for line in logs.iter().flatten() {
            match &line.event {
                Event::Acked { channel, id, epoch, offset } => {
                    let began = epochs.entry((channel, epoch)).or_insert(line.at);
                    *began = line.at.min(*began);
                    let publication = Publication { id, epoch, offset: *offset };
                    channels.entry(channel).or_default().push(publication);
                }
                Event::Closing => end = end.min(line.at),
                _ => {}
            }
        }
        let mut indices = HashMap::new();
        for (channel, publications) in &mut channels {
            publications.sort_by_key(|one| (epochs.get(&(*channel, one.epoch)).copied(), one.offset));
            indices.extend(publications.iter().enumerate().map(|(index, one)| (one.id, index)));
        }
        Self { channels, indices, end }
    }
}

/// The check of one client.
struct Case<'a> {
    client: &'a str,
    truth: &'a Truth<'a>,
    circumstances: Circumstances,
    figures: &'a mut Figures,
    examples: &'a mut Vec<String>,
}

impl Case<'_> {
    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            let line = format!("{}: {}", self.client, what());
            self.examples.push(line);
        }
    }

    fn is_restart(&self, at: u64) -> bool {
        self.circumstances.restart.is_some_and(|(began, ended)| (began..=ended).contains(&at))
    }

    /// Counts everything but the messages.
    fn count(&mut self, lines: &[&Line], journeys: &BTreeMap<&str, Journey>) {
        self.figures.clients += 1;
        let mut open: HashMap<&str, u64> = HashMap::new();
        for line in lines {
            match &line.event {
                Event::Sent { id, .. } => {
                    self.figures.sent += 1;
                    open.insert(id, line.at);
                }
                Event::Acked { id, .. } => {
                    self.figures.acked += 1;
                    open.remove(id.as_str());
                }
                Event::Failed { id, error, .. } => {
                    *self.figures.failed.entry(error.clone()).or_default() += 1;
                    self.figures.failed_elsewhere += u64::from(!self.is_restart(line.at));
                    open.remove(id.as_str());
                }
                Event::Gap { reason, .. } => {
                    *self.figures.gaps.entry(reason.clone()).or_default() += 1;
                    self.figures.gaps_elsewhere += u64::from(!self.is_restart(line.at));
                }
                Event::Presence { change, user, channel } if change == "leave" => {
                    let away = journeys.get(user.as_str()).and_then(|journey| journey.away_at(line.at));
                    let is_right = line.at >= self.truth.end
                        || self.is_restart(line.at)
                        || away.is_some_and(|away| away >= self.circumstances.grace);
                    if !is_right {
                        self.figures.flaps += 1;
                        self.example(|| format!("learned at {} that {user} left {channel}", line.at));
                    }
                }
                _ => {}
            }
        }
        self.figures.unanswered += open.len() as u64;
        if let Some((id, at)) = open.iter().next() {
            self.example(|| format!("{id} has no outcome, sent at {at}"));
        }
        if let Some(journey) = journeys.get(self.client) {
            self.figures.closed += journey.closed;
            self.figures.reconnects += journey.reconnects;
            self.figures.resumed += journey.resumed;
            self.figures.recoveries.extend(&journey.recoveries);
        }
    }

    /// Checks the messages of each channel.
    fn follow(&mut self, lines: &[&Line]) {
        let mut readings: BTreeMap<&str, Reading<'_>> = BTreeMap::new();
        for line in lines {
            match &line.event {
                Event::Subscribed { channel } => {
                    readings.entry(channel).or_insert_with(|| Reading::new(self.truth, channel));
                }
                Event::Got { channel, id, .. } => {
                    self.figures.got += 1;
                    let fault =
                        readings.get_mut(channel.as_str()).and_then(|reading| reading.got(self.truth, id));
                    match fault {
                        Some(Fault::Duplicate) => self.figures.duplicates += 1,
                        Some(Fault::Reordered) => self.figures.reorderings += 1,
                        None => continue,
                    }
                    self.example(|| format!("{fault:?} {id} in {channel} at {}", line.at));
                }
                Event::Gap { channel, from, to, .. } => {
                    let Some(reading) = readings.get_mut(channel.as_str()) else { continue };
                    reading.gap_since.get_or_insert(reading.next);
                    if let (Some(from), Some(to)) = (from, to)
                        && from.epoch == to.epoch
                    {
                        reading.cover(&from.epoch, from.offset, to.offset);
                    }
                }
                // An application whose client has closed knows that nothing more arrives.
                Event::State { state, .. } if state == "closed" => {
                    for reading in readings.values_mut() {
                        reading.gap_since.get_or_insert(reading.next);
                    }
                }
                _ => {}
            }
        }
        for (channel, reading) in readings {
            let lost = reading.lost();
            self.figures.losses += lost.len() as u64;
            if let Some(first) = lost.first() {
                let count = lost.len();
                self.example(|| {
                    format!("lost {count} in {channel}, the first {} at {}", first.id, first.offset)
                });
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Duplicate,
    Reordered,
}

/// The messages that one client received in one channel.
struct Reading<'a> {
    publications: &'a [Publication<'a>],
    /// Whether each publication was received or is covered by a gap.
    known: Vec<bool>,
    /// Index after the last received publication.
    next: usize,
    /// Value of `next` when a gap was reported; the gap reaches up to the next message.
    gap_since: Option<usize>,
    /// Received numbers by publisher, the highest last.
    publishers: HashMap<String, Vec<u64>>,
}

impl<'a> Reading<'a> {
    fn new(truth: &'a Truth<'a>, channel: &str) -> Self {
        let publications = truth.channels.get(channel).map(Vec::as_slice).unwrap_or_default();
        let known = vec![false; publications.len()];
        Self { publications, known, next: 0, gap_since: None, publishers: HashMap::new() }
    }

    fn got(&mut self, truth: &Truth<'_>, id: &str) -> Option<Fault> {
        let (publisher, number) = id.rsplit_once(':').unwrap_or((id, "0"));
        let numbers = self.publishers.entry(publisher.to_owned()).or_default();
        let number = number.parse().unwrap_or_default();
        if numbers.contains(&number) {
            return Some(Fault::Duplicate);
        }
        let follows = numbers.last().is_none_or(|last| *last < number);
        let index = if follows { numbers.len() } else { 0 };
        numbers.insert(index, number);
        // A publication that was never acknowledged has no index.
        let index = truth.indices.get(id).copied();
        let is_ahead = index.is_none_or(|index| index >= self.next);
        if let Some(index) = index {
            if let Some(since) = self.gap_since.take().filter(|_| is_ahead) {
                self.known[since..index].fill(true);
            }
            self.known[index] = true;
            self.next = self.next.max(index + 1);
        }
        (!follows || !is_ahead).then_some(Fault::Reordered)
    }

    fn cover(&mut self, epoch: &str, after: u64, to: u64) {
        for (known, publication) in self.known.iter_mut().zip(self.publications) {
            *known |= publication.epoch == epoch && publication.offset > after && publication.offset <= to;
        }
    }

    fn lost(mut self) -> Vec<&'a Publication<'a>> {
        if let Some(since) = self.gap_since {
            self.known[since..].fill(true);
        }
        self.publications.iter().zip(self.known).filter(|(_, known)| !known).map(|(one, _)| one).collect()
    }
}

const EXAMPLES: usize = 12;
