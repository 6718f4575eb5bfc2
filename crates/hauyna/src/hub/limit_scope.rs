//! The places under one limit, counted by user, address or for the whole node. Striped by key, so that
//! handshakes of different clients rarely wait for each other. `limits` takes and releases the places.

use crate::config::{AtLimit, Limit, LimitOptions};
use crate::stripes::{Stripes, is_sparse};
use hauyna_broker::{ConnectionId, UserId};
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// The key under which a limit counts places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum SlotKey {
    Everybody,
    User(UserId),
    V4([u8; 4]),
    /// A network of 64 bits, which is what one customer of a provider gets.
    V6([u8; 8]),
}

impl SlotKey {
    pub(super) fn of(limit: Limit, user: Option<&UserId>, address: Option<IpAddr>) -> Option<Self> {
        match limit {
            Limit::Total => Some(Self::Everybody),
            Limit::PerUser => user.cloned().map(Self::User),
            Limit::PerAddress => address.map(|address| match address.to_canonical() {
                IpAddr::V4(address) => Self::V4(address.octets()),
                IpAddr::V6(address) => {
                    let [a, b, c, d, e, f, g, h, ..] = address.octets();
                    Self::V6([a, b, c, d, e, f, g, h])
                }
            }),
        }
    }
}

/// The places under one limit.
pub(super) struct LimitScope {
    pub(super) bound: LimitOptions,
    pub(super) stripes: Stripes<HashMap<SlotKey, Slots>>,
}

/// The places taken under one key.
pub(super) enum Slots {
    /// Number of places taken, for limits that refuse.
    Count(usize),
    /// Connections by age, which is the order of their identifiers, so that the oldest can be found.
    Ids(BTreeSet<ConnectionId>),
}

/// A limit that has no place left.
pub(super) struct LimitReached;

impl LimitScope {
    pub(super) fn new(bound: LimitOptions, limit: Limit) -> Self {
        let stripes = if limit == Limit::Total { Stripes::single() } else { Stripes::new() };
        Self { bound, stripes }
    }

    pub(super) fn stripe(&self, key: &SlotKey) -> &Mutex<HashMap<SlotKey, Slots>> {
        self.stripes.find(key).0
    }

    /// Returns the policy. A limit of 0 always refuses, because no place can be taken from another
    /// connection.
    pub(super) fn at_limit(&self) -> AtLimit {
        if self.bound.max == 0 { AtLimit::Reject } else { self.bound.at_limit }
    }

    pub(super) fn would_refuse(&self, key: &SlotKey) -> bool {
        let count = self.stripe(key).lock().get(key).map_or(0, Slots::count);
        self.at_limit() == AtLimit::Reject && count >= self.bound.max
    }

    /// Takes a place. Returns the connection that lost its place for it, if any.
    pub(super) fn take(&self, key: SlotKey, id: ConnectionId) -> Result<Option<ConnectionId>, LimitReached> {
        let max = self.bound.max;
        let mut stripe = self.stripe(&key).lock();
        if max == 0 {
            return Err(LimitReached);
        }
        let held = stripe.entry(key).or_insert_with(|| match self.at_limit() {
            AtLimit::Reject => Slots::Count(0),
            AtLimit::CloseOldest => Slots::Ids(BTreeSet::new()),
        });
        match held {
            Slots::Count(count) if *count >= max => Err(LimitReached),
            Slots::Count(count) => {
                *count += 1;
                Ok(None)
            }
            Slots::Ids(ids) => {
                let oldest = if ids.len() >= max { ids.pop_first() } else { None };
                ids.insert(id);
                Ok(oldest)
            }
        }
    }

    pub(super) fn holds(&self, key: &SlotKey, id: ConnectionId) -> bool {
        self.stripe(key).lock().get(key).is_some_and(|held| match held {
            Slots::Count(_) => true,
            Slots::Ids(ids) => ids.contains(&id),
        })
    }

    pub(super) fn give_back(&self, key: &SlotKey, id: ConnectionId) {
        let mut stripe = self.stripe(key).lock();
        let Entry::Occupied(mut entry) = stripe.entry(key.clone()) else { return };
        match entry.get_mut() {
            Slots::Count(count) => *count -= 1,
            Slots::Ids(ids) => {
                ids.remove(&id);
            }
        }
        if entry.get().count() == 0 {
            entry.remove();
            if is_sparse(stripe.capacity(), stripe.len(), 16) {
                stripe.shrink_to_fit();
            }
        }
    }
}

impl Slots {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Ids(ids) => ids.len(),
        }
    }
}
