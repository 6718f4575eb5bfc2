//! The states that a connection can be in, and which state may follow which: `ConnectionState`, and the hub's
//! table with its counts. `transition` changes the states of connections by this table; this module knows no
//! connections.

use crate::error::Error;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The state of a connection, from [`Connection::state`](super::Connection::state).
///
/// | from | to |
/// |---|---|
/// | `Connected` | `Idle` · `Disconnected` · `Error` |
/// | `Idle` | `Connected` · `Disconnected` · `Error` |
/// | `Disconnected` | `Reconnecting` · `Error` |
/// | `Reconnecting` | `Connected` · `Disconnected` · `Error` |
/// | `Error` | `Reconnecting` · `Disconnected` |
///
/// An application adds transitions, and with them its own states, with
/// [`HubBuilder::allow_transition`](crate::HubBuilder::allow_transition).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// The socket is open, and the client was active recently. Every connection begins in this state.
    Connected,
    /// The socket is open, but nothing was read for twice the heartbeat's interval, or no message came for
    /// [`Handler::idle_after`](crate::Handler::idle_after).
    Idle,
    /// The connection is gone. A handle on a connection that has ended stays in this state.
    Disconnected,
    /// The connection is lost, and its client is expected to return.
    Reconnecting,
    /// The connection failed: the client broke the protocol, `on_open` failed, or nothing could be written in
    /// time.
    Error,
    /// A state that the application defines, by its name.
    Custom(&'static str),
}

impl ConnectionState {
    /// The five states that every hub has.
    pub const ALL: [Self; 5] =
        [Self::Connected, Self::Idle, Self::Disconnected, Self::Reconnecting, Self::Error];

    /// Returns the name as clients read it: `connected`, `idle`, `disconnected`, `reconnecting`, `error`, or
    /// the name of a custom state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Idle => "idle",
            Self::Disconnected => "disconnected",
            Self::Reconnecting => "reconnecting",
            Self::Error => "error",
            Self::Custom(name) => name,
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ConnectionState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The index of a state in its hub's table. A connection stores this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Index(pub(super) u8);

impl Index {
    pub(super) const CONNECTED: Self = Self(0);
    pub(super) const IDLE: Self = Self(1);
    pub(super) const DISCONNECTED: Self = Self(2);
    pub(super) const RECONNECTING: Self = Self(3);
    pub(super) const ERROR: Self = Self(4);
}

/// The states of one hub: which state may follow which, and how many connections are in each.
#[derive(Debug)]
pub(crate) struct States {
    all: Box<[ConnectionState]>,
    /// A bit for each state that may follow, by the index of the current state.
    allowed: Box<[u64]>,
    /// Connections by the index of their state. `Connected` is not counted, as it is the most common one: it
    /// is the total without the others.
    counts: Box<[AtomicUsize]>,
}

impl States {
    /// Returns the table of every hub with the transitions that the application adds.
    ///
    /// # Errors
    ///
    /// The name of a state is invalid, or there are too many states.
    pub(crate) fn new(added: &[(ConnectionState, ConnectionState)]) -> Result<Self, Error> {
        let mut all = ConnectionState::ALL.to_vec();
        for state in added.iter().flat_map(|(from, to)| [*from, *to]) {
            if !all.contains(&state) {
                check(state.name())?;
                all.push(state);
            }
        }
        if all.len() > MAX_STATES {
            return Err(Error::config(format!("there are more than {MAX_STATES} connection states")));
        }
        let mut states = Self {
            allowed: vec![0; all.len()].into(),
            counts: all.iter().map(|_| AtomicUsize::new(0)).collect(),
            all: all.into(),
        };
        for (from, to) in DEFAULT_TRANSITIONS.iter().chain(added) {
            if let (Some(from), Some(to)) = (states.index(*from), states.index(*to)) {
                states.allowed[usize::from(from.0)] |= 1 << to.0;
            }
        }
        Ok(states)
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are at most 64")]
    pub(super) fn index(&self, state: ConnectionState) -> Option<Index> {
        self.all.iter().position(|one| *one == state).map(|index| Index(index as u8))
    }

    pub(super) fn state(&self, index: Index) -> ConnectionState {
        self.all[usize::from(index.0)]
    }

    pub(super) fn allows(&self, from: Index, to: Index) -> bool {
        self.allowed[usize::from(from.0)] & (1 << to.0) != 0
    }

    pub(super) fn count_in(&self, state: Index) {
        if state != Index::CONNECTED {
            self.counts[usize::from(state.0)].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_out(&self, state: Index) {
        if state != Index::CONNECTED {
            self.counts[usize::from(state.0)].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns how many of `connections` are in each state.
    pub(crate) fn counts(&self, connections: usize) -> StateCounts {
        let mut counts: Vec<_> = self
            .all
            .iter()
            .zip(&self.counts)
            .map(|(state, count)| (*state, count.load(Ordering::Relaxed)))
            .collect();
        let others = counts[1..].iter().map(|(_, count)| count).sum();
        counts[0].1 = connections.saturating_sub(others);
        StateCounts(counts.into())
    }
}

/// The number of live connections in each state, from [`Stats::states`](crate::inspect::Stats::states).
/// Serializes as a map from names to numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateCounts(Box<[(ConnectionState, usize)]>);

impl StateCounts {
    /// Returns the number of connections in a state; 0 for a state that the hub does not know.
    pub fn of(&self, state: ConnectionState) -> usize {
        self.iter().find(|(one, _)| *one == state).map_or(0, |(_, count)| count)
    }

    /// Returns all states of the hub with their counts, custom states last.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionState, usize)> + '_ {
        self.0.iter().copied()
    }
}

impl Serialize for StateCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

fn check(name: &str) -> Result<(), Error> {
    let is_taken = ConnectionState::ALL.iter().any(|state| state.name() == name);
    if is_taken || name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Error::config(format!("`{}` is not a valid name for a state", name.escape_debug())));
    }
    Ok(())
}

use ConnectionState::{Connected, Disconnected, Error as Failed, Idle, Reconnecting};

/// The transitions that every hub allows.
const DEFAULT_TRANSITIONS: [(ConnectionState, ConnectionState); 13] = [
    (Connected, Idle),
    (Connected, Disconnected),
    (Connected, Failed),
    (Idle, Connected),
    (Idle, Disconnected),
    (Idle, Failed),
    (Disconnected, Reconnecting),
    (Disconnected, Failed),
    (Reconnecting, Connected),
    (Reconnecting, Disconnected),
    (Reconnecting, Failed),
    (Failed, Reconnecting),
    (Failed, Disconnected),
];

/// One for each bit of a `u64`.
const MAX_STATES: usize = 64;
/// Bytes of the name of a state, at most.
const MAX_NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionState::Custom;

    #[test]
    fn the_table_is_that_of_the_documentation_and_nothing_else() {
        let states = States::new(&[]).unwrap();
        let page = include_str!("state.rs");
        let mut documented = Vec::new();
        for row in page.lines().filter_map(|line| line.strip_prefix("/// | `")) {
            let (from, to) = row.split_once("` | ").unwrap();
            for to in to.trim_end_matches(" |").split(" · ") {
                documented.push(format!("{from}>{}", to.trim_matches('`')));
            }
        }
        let mut allowed = Vec::new();
        for from in ConnectionState::ALL {
            for to in ConnectionState::ALL {
                if states.allows(states.index(from).unwrap(), states.index(to).unwrap()) {
                    allowed.push(format!("{from:?}>{to:?}"));
                }
            }
        }
        documented.sort();
        allowed.sort();
        assert_eq!(documented, allowed);
    }

    #[test]
    fn own_states_and_transitions_are_added_and_bad_names_are_refused() {
        let states =
            States::new(&[(Connected, Custom("busy")), (Custom("busy"), Idle), (Failed, Connected)]).unwrap();
        let busy = states.index(Custom("busy")).unwrap();
        assert_eq!((busy, states.state(busy)), (Index(5), Custom("busy")));
        assert!(states.allows(Index::CONNECTED, busy) && states.allows(busy, Index::IDLE));
        assert!(!states.allows(busy, Index::CONNECTED) && !states.allows(Index::IDLE, busy));
        assert!(states.allows(Index::ERROR, Index::CONNECTED));
        assert_eq!(states.index(Custom("other")), None);
        for name in ["", "idle", "a\nb", &"x".repeat(65)] {
            let name: &'static str = name.to_owned().leak();
            assert!(States::new(&[(Connected, Custom(name))]).is_err(), "{name:?}");
        }
        let many: Vec<_> = (0..60).map(|number| (Connected, Custom(format!("s{number}").leak()))).collect();
        assert!(States::new(&many[..59]).is_ok() && States::new(&many).is_err());
    }

    #[test]
    fn what_is_in_no_other_state_is_connected() {
        let states = States::new(&[(Connected, Custom("busy"))]).unwrap();
        states.count_in(Index::IDLE);
        states.count_in(Index(5));
        let counts = states.counts(7);
        assert_eq!((counts.of(Connected), counts.of(Idle), counts.of(Custom("busy"))), (5, 1, 1));
        let json = serde_json::to_value(&counts).unwrap();
        assert_eq!((&json["connected"], &json["busy"], &json["error"]), (&5.into(), &1.into(), &0.into()));
    }
}
