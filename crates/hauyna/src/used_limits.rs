//! What is left of limits whose channel or connection is gone, so that going and coming back does not reset them. Bounded
//! in number: what is whole again is forgotten, and past the bound what would be whole first. Filled and asked by
//! `channel` for the rate of a channel, by `dispatch::admission` for what connections may ask.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The remainders of one kind of limit, by the name that they are of and by who has spent them.
pub(crate) struct UsedLimits<T> {
    remainders: Mutex<Remainders<T>>,
    /// Number of remainders, for those who only want to know whether there are any.
    count: AtomicUsize,
    max: usize,
}

/// The name, when it is whole again, and who has spent it.
type Key = (Arc<str>, Instant, u64);

struct Remainders<T> {
    /// Within a name the last one is whole last.
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

    /// Keeps what `spender` has left under a name, until it is whole again.
    pub(crate) fn keep(&self, name: &str, spender: u64, left: T, full_after: Duration) {
        let now = Instant::now();
        let (name, whole): (Arc<str>, _) = (name.into(), now + full_after.min(MAX_KEPT));
        let mut remainders = self.remainders.lock();
        remainders.by_end.insert((whole, spender, name.clone()));
        remainders.by_name.insert((name.clone(), whole, spender), left);
        remainders.remove_full(now, self.max);
        let of_name = remainders.of_name(&name, now);
        if of_name.len() > MAX_PER_NAME
            && let Some(fullest) = of_name.first()
        {
            remainders.remove(fullest);
        }
        self.count.store(remainders.by_end.len(), Ordering::Relaxed);
    }

    /// Whether nobody has spent anything, as far as is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Takes what is left under a name: by `spender`, else by whoever has the least.
    pub(crate) fn take(&self, name: &str, spender: u64) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut remainders = self.remainders.lock();
        remainders.remove_full(now, self.max);
        let of_name = remainders.of_name(name, now);
        let found = of_name.iter().find(|(.., other)| *other == spender).or_else(|| of_name.last());
        let left = found.and_then(|key| remainders.remove(key));
        self.count.store(remainders.by_end.len(), Ordering::Relaxed);
        left
    }
}

impl<T> Remainders<T> {
    /// The keys of a name that are not whole `now`, the emptiest last.
    fn of_name(&self, name: &str, now: Instant) -> Vec<Key> {
        let some = self.by_name.range((Arc::from(name), now, 0)..);
        some.map(|(key, _)| key).take_while(|key| *key.0 == *name).cloned().collect()
    }

    fn remove(&mut self, key: &Key) -> Option<T> {
        let (name, whole, spender) = key;
        self.by_end.remove(&(*whole, *spender, name.clone()));
        self.by_name.remove(key)
    }

    /// Forgets what is whole again, and past `max` what would be whole first.
    fn remove_full(&mut self, now: Instant, max: usize) {
        while let Some((whole, spender, name)) = self.by_end.first().cloned()
            && (whole <= now || self.by_end.len() > max)
        {
            self.remove(&(name, whole, spender));
        }
    }
}

impl<T> fmt::Debug for UsedLimits<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Remainders of one channel pattern or handler.
const MAX_REMAINDERS: usize = 65_536;
/// Remainders of one name: whoever has more connections at once has so many limits, too.
const MAX_PER_NAME: usize = 16;
/// A year.
const MAX_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_remainder_is_given_back_once_and_not_after_it_is_whole() {
        let spent = UsedLimits::new(8);
        spent.keep("a", 1, "left", HOUR);
        assert_eq!(spent.take("b", 1), None);
        assert_eq!(spent.take("a", 1), Some("left"));
        assert_eq!(spent.take("a", 1), None);
        spent.keep("a", 1, "left", HOUR);
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
