//! Rate limits whose channel or connection is gone, so that coming back does not reset them. Bounded in
//! number: full ones are removed, and beyond the bound those that would be full first. `channel` uses it for
//! the rate of a channel, `dispatch::admission` for the limits of a connection.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The remainders of one kind of limit, by name and by the connection that used the limit.
pub(crate) struct UsedLimits<T> {
    remainders: Mutex<Remainders<T>>,
    /// Number of remainders, for callers who only want to know whether there are any.
    count: AtomicUsize,
    max: usize,
}

/// The name, the time when the limit is full again, and the number of the connection that used it.
type Key = (Arc<str>, Instant, u64);

struct Remainders<T> {
    /// Within a name the last one is full last.
    by_name: BTreeMap<Key, T>,
    by_end: BTreeSet<(Instant, u64, Arc<str>)>,
}

impl<T> Default for UsedLimits<T> {
    fn default() -> Self {
        Self::new(MAX_REMAINDERS)
    }
}

impl<T> UsedLimits<T> {
    fn new(max: usize) -> Self {
        let remainders = Remainders { by_name: BTreeMap::new(), by_end: BTreeSet::new() };
        Self { remainders: Mutex::new(remainders), count: AtomicUsize::new(0), max }
    }

    /// Keeps the remainder of `spender` under a name, until it is full again.
    pub(crate) fn keep(&self, name: &str, spender: u64, remainder: T, full_after: Duration) {
        let now = Instant::now();
        let (name, full_at): (Arc<str>, _) = (name.into(), now + full_after.min(MAX_KEPT));
        let mut remainders = self.remainders.lock();
        remainders.by_end.insert((full_at, spender, name.clone()));
        remainders.by_name.insert((name.clone(), full_at, spender), remainder);
        remainders.remove_full(now, self.max);
        let of_name = remainders.of_name(&name, now);
        if of_name.len() > MAX_PER_NAME
            && let Some(fullest) = of_name.first()
        {
            remainders.remove(fullest);
        }
        self.count.store(remainders.by_end.len(), Ordering::Relaxed);
    }

    /// Whether there are no remainders at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Takes the remainder under a name: that of `spender`, or else the smallest one.
    pub(crate) fn take(&self, name: &str, spender: u64) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut remainders = self.remainders.lock();
        remainders.remove_full(now, self.max);
        let of_name = remainders.of_name(name, now);
        let found = of_name.iter().find(|(.., other)| *other == spender).or_else(|| of_name.last());
        let remainder = found.and_then(|key| remainders.remove(key));
        self.count.store(remainders.by_end.len(), Ordering::Relaxed);
        remainder
    }
}

impl<T> Remainders<T> {
    /// Returns the keys of a name that are not full `now`, the emptiest last.
    fn of_name(&self, name: &str, now: Instant) -> Vec<Key> {
        let some = self.by_name.range((Arc::from(name), now, 0)..);
        some.map(|(key, _)| key).take_while(|key| *key.0 == *name).cloned().collect()
    }

    fn remove(&mut self, key: &Key) -> Option<T> {
        let (name, full_at, spender) = key;
        self.by_end.remove(&(*full_at, *spender, name.clone()));
        self.by_name.remove(key)
    }

    /// Removes remainders that are full again, and beyond `max` those that would be full first.
    fn remove_full(&mut self, now: Instant, max: usize) {
        while let Some((full_at, spender, name)) = self.by_end.first().cloned()
            && (full_at <= now || self.by_end.len() > max)
        {
            self.remove(&(name, full_at, spender));
        }
    }
}

impl<T> fmt::Debug for UsedLimits<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedLimits").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Maximum number of remainders of one channel pattern or handler.
const MAX_REMAINDERS: usize = 65_536;
/// Maximum number of remainders of one name: more connections of a user at once have more limits, too.
const MAX_PER_NAME: usize = 16;
/// The longest time that a remainder is kept: a year.
const MAX_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_remainder_is_given_back_once_and_not_after_it_is_whole() {
        let spent = UsedLimits::new(8);
        spent.keep("a", 1, "remainder", HOUR);
        assert_eq!(spent.take("b", 1), None);
        assert_eq!(spent.take("a", 1), Some("remainder"));
        assert_eq!(spent.take("a", 1), None);
        spent.keep("a", 1, "remainder", HOUR);
        tokio::time::advance(HOUR).await;
        assert_eq!(spent.take("a", 1), None);
        assert_eq!(spent.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_spent_nothing_here_gets_the_least_of_the_name() {
        let spent = UsedLimits::new(8);
        spent.keep("a", 1, "most", HOUR);
        spent.keep("a", 2, "least", 3 * HOUR);
        spent.keep("a", 3, "some", 2 * HOUR);
        spent.keep("b", 4, "of another", 9 * HOUR);
        assert_eq!(spent.take("a", 3), Some("some"));
        assert_eq!(spent.take("a", 7), Some("least"));
        assert_eq!(spent.take("a", 7), Some("most"));
        assert_eq!(spent.take("a", 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn names_without_end_are_kept_up_to_the_bound_and_the_emptiest_stay() {
        let spent = UsedLimits::new(100);
        spent.keep("precious", 0, u64::MAX, 2 * HOUR);
        for number in 0..10_000 {
            spent.keep(&format!("name{number}"), 0, number, HOUR);
        }
        assert_eq!(spent.count.load(Ordering::Relaxed), 100);
        assert_eq!(spent.take("precious", 0), Some(u64::MAX));
        assert_eq!((spent.take("name0", 0), spent.take("name9999", 0)), (None, Some(9_999)));
        assert_eq!(spent.remainders.lock().by_name.len(), 98);
    }

    #[tokio::test(start_paused = true)]
    async fn one_name_keeps_the_emptiest_of_many() {
        let spent = UsedLimits::default();
        for number in 0..1000 {
            spent.keep("a", number, number, Duration::from_secs(1 + number));
        }
        assert_eq!(spent.count.load(Ordering::Relaxed), MAX_PER_NAME);
        assert_eq!(spent.take("a", 7), Some(999));
        spent.keep("for ever", 0, 0, Duration::MAX);
        assert_eq!(spent.take("for ever", 0), Some(0));
    }
}
