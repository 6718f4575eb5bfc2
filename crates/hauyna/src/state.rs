//! The states that a connection can be in, and which state may follow which: `ConnectionState`, and the hub's
//! table with its counts. `transition` changes the states of connections by this table; this module knows no
//! connections.

use crate::error::Error;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
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
#[non_exhaustive]
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
    /// A state that the application defines, from [`ConnectionState::custom`] or from its name by `parse`.
    Custom(StateName),
}

impl ConnectionState {
    /// The five states that every hub has.
    pub const ALL: &'static [Self] =
        &[Self::Connected, Self::Idle, Self::Disconnected, Self::Reconnecting, Self::Error];

    /// Returns the state of the application with a name that the program knows when it is compiled. A name
    /// that is read at run time is parsed: `"busy".parse::<ConnectionState>()?`, which gives one of the five
    /// states of every hub if it has that name.
    ///
    /// # Panics
    ///
    /// The name is not 1 to 32 bytes without control characters, or belongs to one of the five states. In a
    /// `const`, this is an error of the compiler.
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::connection::ConnectionState;
    ///
    /// const BUSY: ConnectionState = ConnectionState::custom("busy");
    /// let from_a_file = String::from("busy");
    /// assert_eq!(from_a_file.parse::<ConnectionState>()?, BUSY);
    /// assert_eq!("idle".parse::<ConnectionState>()?, ConnectionState::Idle);
    /// # Ok::<(), hauyna::Error>(())
    /// ```
    #[must_use]
    pub const fn custom(name: &str) -> Self {
        match StateName::new(name) {
            Some(name) => Self::Custom(name),
            None => panic!("a state has a name of 1 to 32 bytes that is not one of the five of every hub"),
        }
    }

    /// Returns the name as clients read it: `connected`, `idle`, `disconnected`, `reconnecting`, `error`, or
    /// the name of a custom state.
    #[must_use]
    pub const fn name(&self) -> &str {
        match self {
            Self::Connected => "connected",
            Self::Idle => "idle",
            Self::Disconnected => "disconnected",
            Self::Reconnecting => "reconnecting",
            Self::Error => "error",
            Self::Custom(name) => name.as_str(),
        }
    }
}

impl FromStr for ConnectionState {
    type Err = Error;

    /// Returns one of the five states of every hub, or a custom state.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config): the name is not 1 to 32 bytes without control
    /// characters.
    fn from_str(name: &str) -> Result<Self, Error> {
        if let Some(state) = Self::ALL.iter().find(|state| state.name() == name) {
            return Ok(*state);
        }
        StateName::new(name).map(Self::Custom).ok_or_else(|| {
            let name = name.escape_debug();
            Error::config(format!("a state has a name of 1 to {MAX_NAME_BYTES} bytes, not `{name}`"))
        })
    }
}

/// The name of a state that the application defines. It is stored inline, so that states can be copied,
/// matched as constants and read from a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateName {
    len: u8,
    /// The name, then zeros.
    bytes: [u8; MAX_NAME_BYTES],
}

impl StateName {
    /// Returns nothing if the name is invalid or that of one of the states of every hub.
    const fn new(name: &str) -> Option<Self> {
        let name = name.as_bytes();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || has_control(name) || is_taken(name) {
            return None;
        }
        let mut bytes = [0; MAX_NAME_BYTES];
        bytes.split_at_mut(name.len()).0.copy_from_slice(name);
        #[expect(clippy::cast_possible_truncation, reason = "there are at most 32 bytes")]
        let len = name.len() as u8;
        Some(Self { len, bytes })
    }

    /// Returns the name as text.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the bytes are those of a `str`")]
    pub const fn as_str(&self) -> &str {
        match str::from_utf8(self.bytes.split_at(self.len as usize).0) {
            Ok(name) => name,
            Err(_) => panic!("invariant: the bytes are those of a str"),
        }
    }
}

/// Whether UTF-8 text has a control character, of those with one byte and those with two.
const fn has_control(text: &[u8]) -> bool {
    let mut index = 0;
    while index < text.len() {
        let is_second = index > 0 && text[index - 1] == 0xc2 && text[index] <= 0x9f;
        if text[index].is_ascii_control() || is_second {
            return true;
        }
        index += 1;
    }
    false
}

/// Whether one of the states of every hub has this name.
const fn is_taken(name: &[u8]) -> bool {
    let mut state = 0;
    while state < ConnectionState::ALL.len() {
        let taken = ConnectionState::ALL[state].name().as_bytes();
        let mut index = 0;
        while index < taken.len() && index < name.len() && taken[index] == name[index] {
            index += 1;
        }
        if index == taken.len() && index == name.len() {
            return true;
        }
        state += 1;
    }
    false
}

impl fmt::Debug for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    /// There are too many states.
    pub(crate) fn new(added: &[(ConnectionState, ConnectionState)]) -> Result<Self, Error> {
        let mut all = ConnectionState::ALL.to_vec();
        for state in added.iter().flat_map(|(from, to)| [*from, *to]) {
            if !all.contains(&state) {
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
/// Bytes of the name of a state, at most. They are part of every `ConnectionState`, and so of every `Error`.
const MAX_NAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: ConnectionState = ConnectionState::custom("busy");

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
                if states.allows(states.index(*from).unwrap(), states.index(*to).unwrap()) {
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
        let states = States::new(&[(Connected, BUSY), (BUSY, Idle), (Failed, Connected)]).unwrap();
        let busy = states.index(BUSY).unwrap();
        assert_eq!((busy, states.state(busy)), (Index(5), BUSY));
        assert!(states.allows(Index::CONNECTED, busy) && states.allows(busy, Index::IDLE));
        assert!(!states.allows(busy, Index::CONNECTED) && !states.allows(Index::IDLE, busy));
        assert!(states.allows(Index::ERROR, Index::CONNECTED));
        assert_eq!(states.index(ConnectionState::custom("other")), None);
        let named = |number: usize| format!("s{number}").parse().unwrap();
        let many: Vec<_> = (0..60).map(|number| (Connected, named(number))).collect();
        assert!(States::new(&many[..59]).is_ok() && States::new(&many).is_err());
    }

    #[test]
    fn names_of_states_are_parsed_and_bad_ones_are_refused() {
        for state in ConnectionState::ALL {
            assert_eq!(state.name().parse::<ConnectionState>().unwrap(), *state);
            assert!(StateName::new(state.name()).is_none());
        }
        for name in ["busy", "idle2", "idl", "é", "\u{a0}", "\u{1f980}", &"x".repeat(32)] {
            let state: ConnectionState = name.parse().unwrap();
            assert_eq!((state.name(), &*state.to_string()), (name, name));
            assert_eq!(format!("{state:?}"), format!("Custom({name:?})"));
            assert_eq!((state == BUSY, matches!(state, BUSY)), (name == "busy", name == "busy"));
        }
        for name in ["", "a\nb", "\u{7f}", "a\u{80}", "\u{9f}", &"x".repeat(33)] {
            assert!(name.parse::<ConnectionState>().is_err(), "{name:?}");
        }
    }

    #[test]
    #[should_panic(expected = "a name of 1 to 32 bytes")]
    fn a_custom_state_cannot_have_the_name_of_another() {
        let _ = ConnectionState::custom("idle");
    }

    #[test]
    fn what_is_in_no_other_state_is_connected() {
        let states = States::new(&[(Connected, BUSY)]).unwrap();
        states.count_in(Index::IDLE);
        states.count_in(Index(5));
        let counts = states.counts(7);
        assert_eq!((counts.of(Connected), counts.of(Idle), counts.of(BUSY)), (5, 1, 1));
        let json = serde_json::to_value(&counts).unwrap();
        assert_eq!((&json["connected"], &json["busy"], &json["error"]), (&5.into(), &1.into(), &0.into()));
    }
}
