//! Credentials that are taken away before their end: the verb, and the bounded list of what is refused and for how
//! long. Filled by `Hub::revoke`; asked at the handshake, at the opening of a connection and at a `refresh`.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whose rights are taken away, for [`Hub::revoke`](crate::Hub::revoke).
///
/// # Examples
///
/// ```
/// use hauyna::Hub;
/// use hauyna::auth::Revocation;
/// use std::time::Duration;
///
/// let hub = Hub::new();
/// hub.revoke(Revocation::token("jti-7")); // a stolen token: closed, and refused from now on
/// hub.revoke(Revocation::user("ada")); // every device of a user has to sign in anew
/// hub.revoke(Revocation::user("eve").lasting(Duration::from_secs(3600))); // and nobody comes in as this one
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
    /// Of a user: all connections and sessions end, whatever token they came with. Whoever has good credentials may
    /// come in anew at once, unless [`Revocation::lasting`] says for how long nobody does.
    pub fn user(name: impl Into<Box<str>>) -> Self {
        Self { whose: Whose::User(name.into()), lasting: Duration::ZERO }
    }

    /// Of one token, by its identifier: `jti` of a JSON web token, what [`ApiKeys::named`](crate::auth::ApiKeys::named) was
    /// given, or what [`Identity::token_id`](crate::Identity::token_id) says. Its connections and their sessions end, and it is
    /// refused for a day, or for as long as [`Revocation::lasting`] says.
    pub fn token(id: impl Into<Box<str>>) -> Self {
        Self { whose: Whose::Token(id.into()), lasting: Duration::from_secs(24 * 60 * 60) }
    }

    /// Sets for how long nobody is let in as this user or with this token: for a token, what is left of its life.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }
}

/// What was revoked, as far as anybody still has to know.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    entries: Mutex<HashMap<Whose, Entry>>,
    /// How many there have been.
    made: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Which revocation it was; whoever was identified before it is refused.
    number: u64,
    /// On the hub's clock. Until then everybody is refused.
    barred: u64,
    /// When it may be forgotten.
    kept: u64,
}

impl Revocations {
    /// How many there have been: to be read before anybody is identified.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// From now on it is refused.
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

    /// Whether credentials were revoked after the moment at which so many `made` revocations had been, or are barred.
    pub(crate) fn refuses(&self, (user, token): (&str, Option<&str>), made: u64, now: u64) -> bool {
        if self.made() == 0 {
            return false;
        }
        let entries = self.entries.lock();
        let is_refused =
            |whose: &Whose| entries.get(whose).is_some_and(|entry| entry.number > made || entry.barred > now);
        is_refused(&Whose::User(user.into())) || token.is_some_and(|id| is_refused(&Whose::Token(id.into())))
    }
}

/// Forgets what is over, and where that is not enough what would be over first.
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

/// Revocations that are kept.
const MAX_REVOCATIONS: usize = 65_536;
/// Milliseconds from the identification of a client to the opening of its connection, at most.
const HANDSHAKE: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_identified_before_a_revocation_is_refused_and_who_came_after_is_not() {
        let revocations = Revocations::default();
        let (ada, token) = (("ada", None), ("eve", Some("t")));
        let before = revocations.made();
        assert!(!revocations.refuses(ada, before, 0));
        revocations.add(&Revocation::user("ada"), 0);
        assert!(revocations.refuses(ada, before, 0));
        assert!(!revocations.refuses(ada, revocations.made(), 0));
        revocations.add(&Revocation::token("t").lasting(Duration::from_millis(10)), 100);
        for (now, is_refused) in [(100, true), (109, true), (110, false)] {
            assert_eq!(revocations.refuses(token, revocations.made(), now), is_refused, "{now}");
        }
        assert!(!revocations.refuses(("eve", Some("other")), revocations.made(), 100));
        assert!(!revocations.refuses(("t", None), revocations.made(), 100), "a user is no token");
    }

    #[test]
    fn a_shorter_revocation_does_not_shorten_a_longer_one() {
        let revocations = Revocations::default();
        revocations.add(&Revocation::user("ada").lasting(Duration::from_secs(10)), 0);
        revocations.add(&Revocation::user("ada"), 0);
        assert!(revocations.refuses(("ada", None), revocations.made(), 9_999));
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
        let is_refused = |user: &str| revocations.refuses((user, None), revocations.made(), 1);
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
        let is_refused = |id: &str| revocations.refuses(("ada", Some(id)), revocations.made(), 1);
        assert!(is_refused("long") && is_refused(&format!("t{}", MAX_REVOCATIONS + 9)));
        assert!(!is_refused("t0"));
    }
}
