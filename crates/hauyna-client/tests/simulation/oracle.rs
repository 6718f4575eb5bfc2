//! The conditions that every schedule must meet. Pure: it receives what the server has published and what
//! each client has reported.

use crate::client::{Record, Report};
use crate::server::Entry;
use std::collections::{HashMap, HashSet};

/// Counts of events in some schedules, which show that the schedules were worth running.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) received: u64,
    pub(crate) gaps: u64,
    pub(crate) resumed: u64,
    pub(crate) restarts: u64,
    pub(crate) turns: u64,
    pub(crate) virtual_ms: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.received += other.received;
        self.gaps += other.gaps;
        self.resumed += other.resumed;
        self.restarts += other.restarts;
        self.turns += other.turns;
        self.virtual_ms += other.virtual_ms;
    }
}

/// Returns all faults of one schedule.
pub(crate) fn find_faults(published: &[Entry], records: &[Record], has_restarted: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut index = HashMap::new();
    for (at, entry) in published.iter().enumerate() {
        if index.insert(entry.content.as_str(), at).is_some() {
            faults.push(format!("published twice: {entry:?}"));
        }
    }
    for (number, record) in records.iter().enumerate() {
        let fault = |text: String| format!("u{number}: {text}");
        faults.extend(publications(number, published, record, &index).into_iter().map(fault));
        faults.extend(stream(published, record, &index).into_iter().map(fault));
        if !has_restarted {
            let left = record.reports.iter().filter(|reports| matches!(reports, Report::Left(_)));
            faults.extend(left.map(|report| fault(format!("saw somebody leave: {report:?}"))));
        }
    }
    faults
}

/// Checks the publications of a client: those that were acknowledged exist, in the order in which they were
/// made.
fn publications(
    number: usize,
    published: &[Entry],
    record: &Record,
    index: &HashMap<&str, usize>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (content, position) in &record.acknowledged {
        match index.get(content.as_str()) {
            None => faults.push(format!("acknowledged, and not published: {content}")),
            Some(at) if published[*at].position != *position => {
                faults.push(format!("acknowledged at {position:?}: {:?}", published[*at]));
            }
            Some(_) => {}
        }
    }
    let prefix = format!("u{number} ");
    let own: Vec<u64> =
        published.iter().filter_map(|entry| entry.content.strip_prefix(&prefix)?.parse().ok()).collect();
    if !own.is_sorted() {
        faults.push(format!("published out of its order: {own:?}"));
    }
    faults
}

/// Checks the stream of a client: it has everything after the start of its subscription once and in order,
/// except where a gap was reported.
fn stream(published: &[Entry], record: &Record, index: &HashMap<&str, usize>) -> Vec<String> {
    let (mut faults, mut seen) = (Vec::new(), HashSet::new());
    // Index of the next publication, once the position of the client is known.
    let mut next: Option<usize> = None;
    let mut may_skip = true;
    for report in &record.reports {
        match report {
            Report::Subscribed(Some(start)) if next.is_none() => {
                let is_before = |entry: &Entry| {
                    entry.position.is_some_and(|position| {
                        position.epoch == start.epoch && position.offset <= start.offset
                    })
                };
                let at = published.iter().rposition(is_before).map(|at| at + 1);
                next = at.or_else(|| {
                    let is_first =
                        |entry: &Entry| entry.position.is_some_and(|first| first.epoch == start.epoch);
                    published.iter().position(is_first)
                });
                may_skip = next.is_none();
            }
            Report::Subscribed(_) | Report::Left(_) => {}
            Report::Gap(_) => may_skip = true,
            Report::Message { content, offset } => {
                let Some(at) = index.get(content.as_str()).copied() else {
                    faults.push(format!("received, and never published: {content}"));
                    continue;
                };
                if !seen.insert(at) {
                    faults.push(format!("received twice: {content}"));
                }
                if published[at].position.map(|position| position.offset) != *offset {
                    faults.push(format!("received at {offset:?}: {:?}", published[at]));
                }
                let expected = next.unwrap_or(0);
                if at < expected {
                    faults.push(format!("received late: {content}"));
                } else if at > expected && !may_skip {
                    let missing: Vec<_> =
                        published[expected..at].iter().map(|entry| &entry.content).collect();
                    faults.push(format!("lost in silence before {content}: {missing:?}"));
                }
                (next, may_skip) = (Some(at + 1), false);
            }
        }
    }
    if next.unwrap_or(0) < published.len() && !may_skip {
        faults.push(format!("lost in silence at the end, after {next:?} of {}", published.len()));
    }
    faults
}
