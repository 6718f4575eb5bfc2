//! Limits of the number of connections: in all, of one user, from one address. A handshake takes a place
//! before the upgrade is answered, and the place is released when the connection is gone, so a limit holds
//! however many handshakes are under way. A limit that is not set costs nothing; the cost of a limit that is
//! set does not depend on the number of connections. `router` takes the places, closing a connection releases
//! them.

use super::HubCore;
use super::limit_scope::{LimitReached, LimitScope, SlotKey};
use crate::close::CloseReason;
use crate::cluster::UserShare;
use crate::config::{AtLimit, Limit, LimitOptions};
use crate::connection::ConnectionCore;
use crate::error::Reject;
use crate::outbox::Backlog;
use crate::request::ConnectRequest;
use hauyna_broker::{ConnectionId, UserId};
use hauyna_protocol::ErrorType;
use hauyna_protocol::close::CloseCode;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Returns the address of the client, where there is a proxy before the server.
pub(super) type ClientAddress = Box<dyn Fn(&ConnectRequest) -> Option<IpAddr> + Send + Sync>;

/// The limits of one hub and the places taken under them.
pub(crate) struct Limits {
    /// The limits, indexed by [`Limit`]; `None` where a limit is not set.
    scopes: [Option<LimitScope>; 3],
    client_address: Option<ClientAddress>,
}

impl Limits {
    pub(super) fn new(bounds: &[LimitOptions; 3], client_address: Option<ClientAddress>) -> Self {
        let scope = |limit: Limit| {
            let bound = bounds[limit as usize];
            (bound.max != usize::MAX).then(|| LimitScope::new(bound, limit))
        };
        Self { scopes: [Limit::Total, Limit::PerUser, Limit::PerAddress].map(scope), client_address }
    }

    /// Returns the address that a request counts for.
    pub(crate) fn address(&self, request: &ConnectRequest) -> Option<IpAddr> {
        let client = self.client_address.as_ref().and_then(|address_of| address_of(request));
        client.or(request.peer().map(|peer| peer.ip()))
    }

    pub(crate) fn has_limit_of_address(&self) -> bool {
        self.scope(Limit::PerAddress).is_some()
    }

    /// Checks the limits early, with the user and address known so far; [`HubCore::take_place`] decides.
    pub(crate) fn check(&self, user: Option<&UserId>, address: Option<IpAddr>) -> Result<(), Limit> {
        for limit in Limit::ALL {
            if let Some(scope) = self.scope(limit)
                && let Some(key) = SlotKey::of(limit, user, address)
                && scope.would_refuse(&key)
            {
                return Err(limit);
            }
        }
        Ok(())
    }

    /// Returns the refusal for a client beyond a limit.
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

    /// Releases the places of a connection.
    pub(crate) fn release(&self, connection: &Arc<ConnectionCore>) {
        for limit in Limit::ALL {
            self.give_back(limit, connection.id(), ClientKey::of(connection));
        }
    }

    /// Whether the connection still has its places, so that no newer connection has taken one of them.
    pub(crate) fn holds(&self, connection: &Arc<ConnectionCore>) -> bool {
        Limit::ALL.into_iter().all(|limit| {
            let Some(scope) = self.scope(limit) else { return true };
            let key = SlotKey::of(limit, Some(connection.user()), connection.connect_info().address());
            key.is_none_or(|key| scope.holds(&key, connection.id()))
        })
    }

    fn give_back(&self, limit: Limit, id: ConnectionId, client: ClientKey<'_>) {
        if let Some(scope) = self.scope(limit)
            && let Some(key) = SlotKey::of(limit, Some(client.user), client.address)
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
        let id = self.registry.next_id(self.node());
        let mut place =
            Place { hub: self.clone(), id, user: user.clone(), address, taken: [false; 3], share: None };
        // Limits that may refuse come first: no connection is closed for a client that is refused.
        for at_limit in [AtLimit::Reject, AtLimit::CloseOldest] {
            for limit in Limit::ALL {
                let Some(scope) = self.limits.scope(limit).filter(|scope| scope.at_limit() == at_limit)
                else {
                    continue;
                };
                let Some(key) = SlotKey::of(limit, Some(user), address) else { continue };
                let evicted = scope.take(key, id).map_err(|LimitReached| limit)?;
                place.taken[limit as usize] = true;
                // A connection that is not registered yet notices when it is opened.
                if let Some(oldest) = evicted.and_then(|oldest| self.registry.by_id(oldest)) {
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
    /// Releases the other places of a connection that has lost one, where newer connections may take them, so
    /// that no further connection is closed for the same newcomer.
    fn release_all(&self, connection: &Arc<ConnectionCore>) {
        for limit in Limit::ALL {
            if self.scope(limit).is_some_and(|scope| scope.at_limit() == AtLimit::CloseOldest) {
                self.give_back(limit, connection.id(), ClientKey::of(connection));
            }
        }
    }
}

/// The places that a handshake has taken; it releases them when dropped.
pub(crate) struct Place {
    hub: Arc<HubCore>,
    id: ConnectionId,
    user: UserId,
    address: Option<IpAddr>,
    taken: [bool; 3],
    /// The share in the channel of the user, in a cluster.
    share: Option<UserShare>,
}

impl Place {
    /// Adds the share in the channel of the user.
    pub(crate) fn with_share(mut self, share: Option<UserShare>) -> Self {
        self.share = share;
        self
    }

    /// Returns the identifier that the connection will have.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Hands the places over to the connection: from now on [`Limits::release`] releases them, and
    /// [`HubCore::release_user`] the share.
    pub(crate) fn keep(mut self) {
        self.taken = [false; 3];
        if let Some(share) = self.share.take() {
            share.keep();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for limit in Limit::ALL {
            if self.taken[limit as usize] {
                self.hub.limits.give_back(
                    limit,
                    self.id,
                    ClientKey { user: &self.user, address: self.address },
                );
            }
        }
    }
}

/// The user and the address that a place is counted for.
#[derive(Clone, Copy)]
struct ClientKey<'a> {
    user: &'a UserId,
    address: Option<IpAddr>,
}

impl<'a> ClientKey<'a> {
    fn of(connection: &'a Arc<ConnectionCore>) -> Self {
        Self { user: connection.user(), address: connection.connect_info().address() }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = self.scopes.each_ref().map(|scope| scope.as_ref().map(|scope| scope.bound));
        f.debug_struct("Limits").field("bounds", &bounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(max: usize, at_limit: AtLimit) -> Arc<HubCore> {
        crate::Hub::builder().max_connections_per_address(max).at_limit(Limit::PerAddress, at_limit).build().0
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
        assert!(scope.stripes.iter().all(|stripe| stripe.lock().is_empty()), "everything was given back");
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
