//! Holds the logs of all clients against each other: what was acknowledged must have reached every subscriber, once
//! and in order, or its application was told of a gap. Pure: lines in, figures out.

mod journey;
#[cfg(test)]
mod tests;

use crate::log::{Event, Line};
use journey::Journey;
use std::collections::{BTreeMap, HashMap};

/// What happened to all clients from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Circumstances {
    /// When the server was drained and its successor had taken over, in ms since the Unix epoch. A local broker
    /// does not outlive it: gaps and leaves are right then.
    pub(crate) restart: Option<(u64, u64)>,
    /// How long, in ms, the server shows users who are away as present.
    pub(crate) grace: u64,
}

/// What the clients of one language saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) clients: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) got: u64,
    // Violations.
    /// Acknowledged publications that a subscriber neither got nor was told a gap over.
    pub(crate) losses: u64,
    pub(crate) duplicates: u64,
    pub(crate) reorderings: u64,
    /// Leaves that were told of users who were away for less than the grace time.
    pub(crate) flaps: u64,
    /// Publications of which the application never heard again.
    pub(crate) unanswered: u64,
    // Told.
    /// Publications that failed, by error, in the time of the restart and outside of it.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) failed_elsewhere: u64,
    /// Gaps by reason, in the time of the restart and outside of it.
    pub(crate) gaps: BTreeMap<String, u64>,
    pub(crate) gaps_elsewhere: u64,
    /// Clients that gave up.
    pub(crate) closed: u64,
    /// Connections after the first, and how many of them resumed the session.
    pub(crate) reconnects: u64,
    pub(crate) resumed: u64,
    /// How long each took, in ms, sorted.
    pub(crate) recoveries: Vec<u64>,
}

/// What is wrong, and the first few cases of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) languages: BTreeMap<String, Figures>,
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// The figures of all languages together.
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

/// Checks the logs: each is in the order in which it was written, that of each client in it.
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

/// The acknowledged publications of every channel, in the order of the channel.
struct Truth<'a> {
    channels: HashMap<&'a str, Vec<Publication<'a>>>,
    /// Where a publication stands in its channel.
    places: HashMap<&'a str, usize>,
    /// When the first client was closed by its driver.
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
        let mut places = HashMap::new();
        for (channel, publications) in &mut channels {
            publications.sort_by_key(|one| (epochs.get(&(*channel, one.epoch)).copied(), one.offset));
            places.extend(publications.iter().enumerate().map(|(place, one)| (one.id, place)));
        }
        Self { channels, places, end }
    }
}

/// One client's part of the check.
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

    /// Everything but the messages.
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
                        self.example(|| format!("was told at {} that {user} left {channel}", line.at));
                    }
                }
                _ => {}
            }
        }
        self.figures.unanswered += open.len() as u64;
        if let Some((id, at)) = open.iter().next() {
            self.example(|| format!("never heard of {id} again, sent at {at}"));
        }
        if let Some(journey) = journeys.get(self.client) {
            self.figures.closed += journey.closed;
            self.figures.reconnects += journey.reconnects;
            self.figures.resumed += journey.resumed;
            self.figures.recoveries.extend(&journey.recoveries);
        }
    }

    /// The messages of each channel.
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
                // Who was told that it is over knows that nothing more comes.
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

/// What one client has seen of one channel.
struct Reading<'a> {
    publications: &'a [Publication<'a>],
    /// Of each, whether it was got, or told to be missing.
    known: Vec<bool>,
    /// Behind the last that was got.
    next: usize,
    /// A gap was told when this one was next; it reaches up to the next message.
    gap_since: Option<usize>,
    /// By publisher: the numbers that came, the highest last.
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
        let place = if follows { numbers.len() } else { 0 };
        numbers.insert(place, number);
        // One that was never acknowledged has no place.
        let place = truth.places.get(id).copied();
        let is_ahead = place.is_none_or(|place| place >= self.next);
        if let Some(place) = place {
            if let Some(since) = self.gap_since.take().filter(|_| is_ahead) {
                self.known[since..place].fill(true);
            }
            self.known[place] = true;
            self.next = self.next.max(place + 1);
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
