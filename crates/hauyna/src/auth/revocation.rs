//! Revoked credentials: the `Revocation`, and the bounded list of refused users and tokens. `Hub::revoke`
//! adds to it; it is checked at the handshake, at the opening of a connection and at a `refresh`.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The user or token to revoke, for [`Hub::revoke`](crate::Hub::revoke).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna::Hub;
/// use hauyna::auth::Revocation;
/// use std::time::Duration;
///
/// let hub = Hub::new();
/// hub.revoke(Revocation::token("jti-7")).await; // a stolen token: closed, and refused from now on
/// hub.revoke(Revocation::user("ada")).await; // every device of a user has to sign in again
/// // And this user is refused for an hour:
/// hub.revoke(Revocation::user("eve").lasting(Duration::from_secs(3600))).await;
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is revoked before `Hub::revoke`"]
pub struct Revocation {
    pub(crate) whose: Whose,
    lasting: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    User(Box<str>),
    Token(Box<str>),
}

impl Revocation {
    /// Revokes a user: all connections and sessions end, whatever their token. A client with valid
    /// credentials may connect again at once, unless [`Revocation::lasting`] sets for how long the user is
    /// refused.
    pub fn user(name: impl Into<Box<str>>) -> Self {
        Self { whose: Whose::User(name.into()), lasting: Duration::ZERO }
    }

    /// Revokes one token, by its identifier: `jti` of a JSON web token, the `id` of
    /// [`ApiKeys::named`](crate::auth::ApiKeys::named), or that of
    /// [`Identity::token_id`](crate::Identity::token_id). Its connections and their sessions end, and it is
    /// refused for a day, or for as long as [`Revocation::lasting`] says.
    pub fn token(id: impl Into<Box<str>>) -> Self {
        Self { whose: Whose::Token(id.into()), lasting: Duration::from_secs(24 * 60 * 60) }
    }

    pub(crate) fn lasting_for(&self) -> Duration {
        self.lasting
    }

    /// Sets for how long this user or token is refused. For a token, use the rest of its lifetime.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }
}

/// The revocations that still have an effect.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    entries: Mutex<HashMap<Whose, Entry>>,
    /// Number of revocations so far.
    made: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The number of the revocation; credentials that were checked before it are refused.
    number: u64,
    /// Until when all credentials are refused, on the hub's clock.
    barred: u64,
    /// When the entry may be removed.
    kept: u64,
}

impl Revocations {
    /// Returns the number of revocations so far; to be read before a client is identified.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Adds a revocation, which has effect from now on.
    pub(crate) fn add(&self, revocation: &Revocation, now: u64) {
        let lasting = u64::try_from(revocation.lasting.as_millis()).unwrap_or(u64::MAX);
        let barred = now.saturating_add(lasting);
        let mut entries = self.entries.lock();
        let before = entries.get(&revocation.whose).map(|entry| entry.barred);
        if before.is_none() && entries.len() >= MAX_REVOCATIONS {
            make_room(&mut entries, now);
        }
        let number = self.made.load(Ordering::Relaxed) + 1;
        let barred = barred.max(before.unwrap_or_default());
        let kept = barred.max(now.saturating_add(HANDSHAKE));
        entries.insert(revocation.whose.clone(), Entry { number, barred, kept });
        self.made.store(number, Ordering::Release);
    }

    /// Whether credentials are refused: they were revoked after the moment at which there had been `made`
    /// revocations, or the user or token is refused for a time.
    pub(crate) fn refuses(&self, user: &str, token: Option<&str>, made: u64, now: u64) -> bool {
        if self.made() == 0 {
            return false;
        }
        let entries = self.entries.lock();
        let is_refused =
            |whose: &Whose| entries.get(whose).is_some_and(|entry| entry.number > made || entry.barred > now);
        is_refused(&Whose::User(user.into())) || token.is_some_and(|id| is_refused(&Whose::Token(id.into())))
    }
}

/// Removes entries without effect, and if that is not enough, the one that would end first.
fn make_room(entries: &mut HashMap<Whose, Entry>, now: u64) {
    entries.retain(|_, entry| entry.kept > now);
    if entries.len() < MAX_REVOCATIONS {
        return;
    }
    let first = entries.iter().min_by_key(|(_, entry)| entry.kept).map(|(whose, _)| whose.clone());
    if let Some(whose) = first {
        entries.remove(&whose);
        crate::log::limited("revocations", || {
            tracing::warn!(target: "hauyna::auth", most = MAX_REVOCATIONS, "a revocation gave way to a newer one");
        });
    }
}

/// Maximum number of revocations kept.
const MAX_REVOCATIONS: usize = 65_536;
/// Maximum time from the identification of a client to the opening of its connection, in milliseconds.
const HANDSHAKE: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_identified_before_a_revocation_is_refused_and_who_came_after_is_not() {
        let revocations = Revocations::default();
        let before = revocations.made();
        assert!(!revocations.refuses("ada", None, before, 0));
        revocations.add(&Revocation::user("ada"), 0);
        assert!(revocations.refuses("ada", None, before, 0));
        assert!(!revocations.refuses("ada", None, revocations.made(), 0));
        revocations.add(&Revocation::token("t").lasting(Duration::from_millis(10)), 100);
        for (now, is_refused) in [(100, true), (109, true), (110, false)] {
            assert_eq!(revocations.refuses("eve", Some("t"), revocations.made(), now), is_refused, "{now}");
        }
        assert!(!revocations.refuses("eve", Some("other"), revocations.made(), 100));
        assert!(!revocations.refuses("t", None, revocations.made(), 100), "a user is no token");
    }

    #[test]
    fn a_shorter_revocation_does_not_shorten_a_longer_one() {
        let revocations = Revocations::default();
        revocations.add(&Revocation::user("ada").lasting(Duration::from_secs(10)), 0);
        revocations.add(&Revocation::user("ada"), 0);
        assert!(revocations.refuses("ada", None, revocations.made(), 9_999));
    }

    #[test]
    fn a_revocation_that_is_repeated_keeps_its_place_and_takes_nobodys() {
        let revocations = Revocations::default();
        let lasting = |seconds| move |one: Revocation| one.lasting(Duration::from_secs(seconds));
        revocations.add(&lasting(9_000)(Revocation::user("longest")), 0);
        revocations.add(&Revocation::user("longest"), 0);
        revocations.add(&lasting(100)(Revocation::user("shortest")), 0);
        for number in 0..MAX_REVOCATIONS - 2 {
            revocations.add(&lasting(3_600)(Revocation::token(format!("t{number}"))), 0);
        }
        let is_refused = |user: &str| revocations.refuses(user, None, revocations.made(), 1);
        revocations.add(&lasting(3_600)(Revocation::token("t7")), 0);
        assert!(is_refused("shortest"), "what is revoked again needs no room");
        revocations.add(&lasting(3_600)(Revocation::token("new")), 0);
        assert!(is_refused("longest") && !is_refused("shortest"));
    }

    #[test]
    fn revocations_without_end_cost_bounded_memory_and_the_shortest_gives_way() {
        let revocations = Revocations::default();
        revocations.add(&Revocation::token("long").lasting(Duration::MAX), 0);
        for number in 0..MAX_REVOCATIONS + 10 {
            let id = format!("t{number}");
            revocations.add(&Revocation::token(id).lasting(Duration::from_secs(3600 + number as u64)), 0);
        }
        assert_eq!(revocations.entries.lock().len(), MAX_REVOCATIONS);
        let is_refused = |id: &str| revocations.refuses("ada", Some(id), revocations.made(), 1);
        assert!(is_refused("long") && is_refused(&format!("t{}", MAX_REVOCATIONS + 9)));
        assert!(!is_refused("t0"));
    }
}
