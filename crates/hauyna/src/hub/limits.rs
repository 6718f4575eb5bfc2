//! How many connections there may be: in all, of one user, from one address. A place is taken before an upgrade is
//! answered and given back when the connection is gone, so a limit holds however many handshakes are under way.
//! A limit that is not set costs nothing; one that is costs the same whatever the number of connections.

use super::HubCore;
use crate::channel::UserId;
use crate::connection::{Backlog, CloseReason, ConnectionCore, ConnectionId};
use crate::error::{Error, Reject};
use crate::router::ConnectRequest;
use hauyna_protocol::ErrorType;
use hauyna_protocol::close::CloseCode;
use http::StatusCode;
use parking_lot::Mutex;
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

/// What [`HubBuilder::at_limit`](crate::HubBuilder::at_limit) is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// All connections of this node: [`HubBuilder::max_connections`](crate::HubBuilder::max_connections).
    Total,
    /// Those of one user:
    /// [`HubBuilder::max_connections_per_user`](crate::HubBuilder::max_connections_per_user).
    PerUser,
    /// Those from one address:
    /// [`HubBuilder::max_connections_per_address`](crate::HubBuilder::max_connections_per_address).
    PerAddress,
}

/// What happens to a client that wants to connect when there are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AtLimit {
    /// It is refused: with 503 for the limit of all connections, with 429 for the others. The default.
    #[default]
    Reject,
    /// It takes the place of the oldest, which is closed with 3504 (stay away) and
    /// [`CloseReason::Replaced`].
    CloseOldest,
}

/// One limit of a hub's options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitOptions {
    pub(crate) max: usize,
    pub(crate) at_limit: AtLimit,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self { max: usize::MAX, at_limit: AtLimit::default() }
    }
}

/// Sees that each policy has its limit.
///
/// # Errors
///
/// `Config`, with the method that sets the limit.
pub(super) fn check_policies(bounds: &[LimitOptions; 3]) -> Result<(), Error> {
    for limit in ALL {
        let LimitOptions { max: most, at_limit } = bounds[limit as usize];
        if at_limit == AtLimit::CloseOldest && most == usize::MAX {
            let method = limit.method();
            return Err(Error::config(format!(
                "`at_limit` closes the oldest connection at a limit that is not set: set it with `{method}`"
            )));
        }
    }
    Ok(())
}

/// Who a connection is taken for, where there is a proxy before the server.
pub(crate) type ClientAddress = Box<dyn Fn(&ConnectRequest) -> Option<IpAddr> + Send + Sync>;

/// The places of one hub.
pub(crate) struct Limits {
    /// By [`Limit`]; none where it is not set.
    scopes: [Option<LimitScope>; 3],
    client_address: Option<ClientAddress>,
}

impl Limits {
    pub(crate) fn new(bounds: &[LimitOptions; 3], client_address: Option<ClientAddress>) -> Self {
        let scope = |limit: Limit| {
            let bound = bounds[limit as usize];
            (bound.max != usize::MAX)
                .then(|| LimitScope::new(bound, if limit == Limit::Total { 1 } else { STRIPES }))
        };
        Self { scopes: [Limit::Total, Limit::PerUser, Limit::PerAddress].map(scope), client_address }
    }

    /// The address that a request counts for.
    pub(crate) fn address(&self, request: &ConnectRequest) -> Option<IpAddr> {
        let told = self.client_address.as_ref().and_then(|tell| tell(request));
        told.or(request.peer().map(|peer| peer.ip()))
    }

    pub(crate) fn has_limit_of_address(&self) -> bool {
        self.scope(Limit::PerAddress).is_some()
    }

    /// An early answer, about what is known so far; [`HubCore::take_place`] has the last word.
    pub(crate) fn check(&self, user: Option<&UserId>, address: Option<IpAddr>) -> Result<(), Limit> {
        for limit in ALL {
            if let Some(scope) = self.scope(limit)
                && let Some(key) = SlotKey::of(limit, user, address)
                && scope.would_refuse(&key)
            {
                return Err(limit);
            }
        }
        Ok(())
    }

    /// What a client beyond a limit is told.
    pub(crate) fn refusal(&self, limit: Limit) -> Reject {
        let reject = limit.reject();
        match self.scope(limit) {
            Some(scope) if reject.error == ErrorType::LimitExceeded => {
                reject.with_details(serde_json::json!({ "limit": scope.bound.max }))
            }
            _ => reject,
        }
    }

    fn scope(&self, limit: Limit) -> Option<&LimitScope> {
        self.scopes[limit as usize].as_ref()
    }

    /// Gives back what a connection has.
    pub(crate) fn release(&self, connection: &ConnectionCore) {
        for limit in ALL {
            self.give_back(limit, connection.id(), (connection.user(), connection.connect_info().address()));
        }
    }

    /// Whether another connection has not taken this one's place meanwhile.
    pub(crate) fn holds(&self, connection: &ConnectionCore) -> bool {
        ALL.into_iter().all(|limit| {
            let Some(scope) = self.scope(limit) else { return true };
            let key = SlotKey::of(limit, Some(connection.user()), connection.connect_info().address());
            key.is_none_or(|key| scope.holds(&key, connection.id()))
        })
    }

    fn give_back(&self, limit: Limit, id: ConnectionId, (user, address): (&UserId, Option<IpAddr>)) {
        if let Some(scope) = self.scope(limit)
            && let Some(key) = SlotKey::of(limit, Some(user), address)
        {
            scope.give_back(&key, id);
        }
    }
}

impl HubCore {
    /// Takes a place under every limit, where needed that of the oldest connection.
    pub(crate) fn take_place(
        self: &Arc<Self>,
        user: &UserId,
        address: Option<IpAddr>,
    ) -> Result<Place, Limit> {
        let id = ConnectionId::new(self.registry.next_id());
        let mut place = Place { hub: self.clone(), id, user: user.clone(), address, taken: [false; 3] };
        // Those that may refuse come first: nobody has to go for a client that is refused.
        for at_limit in [AtLimit::Reject, AtLimit::CloseOldest] {
            for limit in ALL {
                let Some(scope) = self.limits.scope(limit).filter(|scope| scope.at_limit() == at_limit)
                else {
                    continue;
                };
                let Some(key) = SlotKey::of(limit, Some(user), address) else { continue };
                let outdone = scope.take(key, id).map_err(|LimitReached| limit)?;
                place.taken[limit as usize] = true;
                // One that is not there yet finds out when it is opened.
                if let Some(oldest) = outdone.and_then(|oldest| self.registry.by_id(oldest)) {
                    self.limits.release_all(&oldest);
                    let text = "replaced by a newer connection";
                    oldest.close(CloseCode::CONNECTION_LIMIT, text, CloseReason::Replaced, Backlog::Write);
                }
            }
        }
        Ok(place)
    }
}

impl Limits {
    /// A connection that has lost one place gives up the others that newer ones may take, so that nobody else
    /// has to go for the same newcomer.
    fn release_all(&self, connection: &ConnectionCore) {
        for limit in ALL {
            if self.scope(limit).is_some_and(|scope| scope.at_limit() == AtLimit::CloseOldest) {
                self.give_back(
                    limit,
                    connection.id(),
                    (connection.user(), connection.connect_info().address()),
                );
            }
        }
    }
}

impl Limit {
    /// The method of the builder that sets it.
    fn method(self) -> &'static str {
        match self {
            Self::Total => "max_connections",
            Self::PerUser => "max_connections_per_user",
            Self::PerAddress => "max_connections_per_address",
        }
    }

    /// What a client is told.
    fn reject(self) -> Reject {
        let (kind, status, text) = match self {
            Self::Total => (
                ErrorType::Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "the server has as many connections as it may",
            ),
            Self::PerUser => (
                ErrorType::LimitExceeded,
                StatusCode::TOO_MANY_REQUESTS,
                "this user has as many connections as one may",
            ),
            Self::PerAddress => (
                ErrorType::LimitExceeded,
                StatusCode::TOO_MANY_REQUESTS,
                "this address has as many connections as one may",
            ),
        };
        Reject::new(kind, status, text)
    }
}

/// The places that a handshake has taken; dropped, it gives them back.
pub(crate) struct Place {
    hub: Arc<HubCore>,
    id: ConnectionId,
    user: UserId,
    address: Option<IpAddr>,
    taken: [bool; 3],
}

impl Place {
    /// The identifier of the connection that will have it.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The places are the connection's from now on: [`Limits::release`] gives them back.
    pub(crate) fn keep(mut self) {
        self.taken = [false; 3];
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for limit in ALL {
            if self.taken[limit as usize] {
                self.hub.limits.give_back(limit, self.id, (&self.user, self.address));
            }
        }
    }
}

/// Whom a place is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum SlotKey {
    Everybody,
    User(UserId),
    V4([u8; 4]),
    /// A network of 64 bits, which is what one subscriber has.
    V6([u8; 8]),
}

impl SlotKey {
    fn of(limit: Limit, user: Option<&UserId>, address: Option<IpAddr>) -> Option<Self> {
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
struct LimitScope {
    bound: LimitOptions,
    /// `RandomState`: the names come from clients.
    hasher: RandomState,
    parts: Box<[Mutex<HashMap<SlotKey, Slots>>]>,
}

/// The places of one key.
enum Slots {
    Count(usize),
    /// By age, which is the order of identifiers, for the oldest to be found.
    Ids(BTreeSet<ConnectionId>),
}

struct LimitReached;

impl LimitScope {
    fn new(bound: LimitOptions, parts: usize) -> Self {
        let parts = (0..parts).map(|_| Mutex::default()).collect();
        Self { bound, hasher: RandomState::new(), parts }
    }

    fn stripe(&self, key: &SlotKey) -> &Mutex<HashMap<SlotKey, Slots>> {
        #[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
        let index = self.hasher.hash_one(key) as usize % self.parts.len();
        &self.parts[index]
    }

    /// Where nobody may connect at all, no place of another's helps.
    fn at_limit(&self) -> AtLimit {
        if self.bound.max == 0 { AtLimit::Reject } else { self.bound.at_limit }
    }

    fn would_refuse(&self, key: &SlotKey) -> bool {
        let count = self.stripe(key).lock().get(key).map_or(0, Slots::count);
        self.at_limit() == AtLimit::Reject && count >= self.bound.max
    }

    /// Takes a place; gives whose it was, where it was somebody's.
    fn take(&self, key: SlotKey, id: ConnectionId) -> Result<Option<ConnectionId>, LimitReached> {
        let most = self.bound.max;
        let mut part = self.stripe(&key).lock();
        if most == 0 {
            return Err(LimitReached);
        }
        let held = part.entry(key).or_insert_with(|| match self.at_limit() {
            AtLimit::Reject => Slots::Count(0),
            AtLimit::CloseOldest => Slots::Ids(BTreeSet::new()),
        });
        match held {
            Slots::Count(count) if *count >= most => Err(LimitReached),
            Slots::Count(count) => {
                *count += 1;
                Ok(None)
            }
            Slots::Ids(ids) => {
                let oldest = if ids.len() >= most { ids.pop_first() } else { None };
                ids.insert(id);
                Ok(oldest)
            }
        }
    }

    fn holds(&self, key: &SlotKey, id: ConnectionId) -> bool {
        self.stripe(key).lock().get(key).is_some_and(|held| match held {
            Slots::Count(_) => true,
            Slots::Ids(ids) => ids.contains(&id),
        })
    }

    fn give_back(&self, key: &SlotKey, id: ConnectionId) {
        let mut part = self.stripe(key).lock();
        let Entry::Occupied(mut entry) = part.entry(key.clone()) else { return };
        match entry.get_mut() {
            Slots::Count(count) => *count -= 1,
            Slots::Ids(ids) => {
                ids.remove(&id);
            }
        }
        if entry.get().count() == 0 {
            entry.remove();
            if part.capacity() > 8 * (part.len() + 16) {
                part.shrink_to_fit();
            }
        }
    }
}

impl Slots {
    fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Ids(ids) => ids.len(),
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = self.scopes.each_ref().map(|scope| scope.as_ref().map(|scope| scope.bound));
        f.debug_struct("Limits").field("bounds", &bounds).finish_non_exhaustive()
    }
}

/// The narrow ones first: who goes for one of them makes room under the others, too.
const ALL: [Limit; 3] = [Limit::PerUser, Limit::PerAddress, Limit::Total];
const STRIPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(most: usize, at_limit: AtLimit) -> Arc<HubCore> {
        crate::Hub::builder()
            .max_connections_per_address(most)
            .at_limit(Limit::PerAddress, at_limit)
            .build()
            .0
    }

    fn user() -> UserId {
        UserId::new("u").unwrap()
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn places_are_counted_by_address_and_by_network_of_64_bits() {
        let hub = hub(1, AtLimit::Reject);
        let take = |text| hub.take_place(&user(), address(text));
        let held =
            ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"].map(|text| take(text).ok());
        assert!(held.iter().all(Option::is_some));
        for text in ["192.0.2.1", "::ffff:192.0.2.2", "2001:db8:0:1:ffff::2", "2001:db8:0:2::"] {
            assert_eq!(take(text).err(), Some(Limit::PerAddress), "{text}");
        }
        assert!(hub.take_place(&user(), None).is_ok(), "nothing is known, nothing is counted");
        drop(held);
        assert!(take("192.0.2.1").is_ok());
        let scope = hub.limits.scope(Limit::PerAddress).unwrap();
        assert!(scope.parts.iter().all(|part| part.lock().is_empty()), "everything was given back");
    }

    #[test]
    fn the_oldest_handshake_loses_its_place_and_gives_it_back_only_once() {
        let hub = hub(2, AtLimit::CloseOldest);
        let take = || hub.take_place(&user(), address("192.0.2.1")).ok().unwrap();
        let places = [take(), take(), take(), take()];
        let key = SlotKey::of(Limit::PerAddress, None, address("192.0.2.1")).unwrap();
        let scope = hub.limits.scope(Limit::PerAddress).unwrap();
        let holds = places.each_ref().map(|place| scope.holds(&key, place.id));
        assert_eq!(holds, [false, false, true, true]);
        let [first, second, third, fourth] = places;
        drop((first, second));
        assert_eq!(scope.stripe(&key).lock()[&key].count(), 2);
        drop((third, fourth));
        assert!(scope.stripe(&key).lock().is_empty());
    }

    #[test]
    fn a_limit_of_nobody_is_a_limit_whatever_its_policy() {
        for at_limit in [AtLimit::Reject, AtLimit::CloseOldest] {
            let hub = hub(0, at_limit);
            assert_eq!(hub.take_place(&user(), address("::1")).err(), Some(Limit::PerAddress));
            assert_eq!(hub.limits.check(None, address("::1")), Err(Limit::PerAddress));
        }
    }
}
