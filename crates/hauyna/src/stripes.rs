//! Values behind striped locks: each key belongs to one of 64 locks, so that clients whose keys differ rarely
//! wait for each other. Used for maps by user, channel or address. The hasher is `RandomState`, because the
//! keys come from clients.

use parking_lot::{Mutex, MutexGuard};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Values of `T`, one for each stripe of the keys.
#[derive(Debug)]
pub(crate) struct Stripes<T> {
    hasher: RandomState,
    stripes: Box<[Mutex<T>]>,
}

impl<T: Default> Stripes<T> {
    pub(crate) fn new() -> Self {
        Self::with_count(STRIPES)
    }

    /// Creates one stripe for all keys, where there is only one key.
    pub(crate) fn single() -> Self {
        Self::with_count(1)
    }

    fn with_count(count: usize) -> Self {
        assert!(count.is_power_of_two(), "invariant: `find` masks the bits of the hash");
        Self { hasher: RandomState::new(), stripes: (0..count).map(|_| Mutex::default()).collect() }
    }
}

impl<T> Stripes<T> {
    /// Returns the hash of a key. A hash table inside a stripe may use it, too.
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Returns the stripe of a key, and the hash of the key.
    pub(crate) fn find<Q: Hash + ?Sized>(&self, key: &Q) -> (&Mutex<T>, u64) {
        let hash = self.hash(key);
        // Bits that a hash table inside the stripe does not use: it takes its index from the low bits, and
        // its tags from the high ones.
        // A mask, because the remainder by a number that is read from memory is a division.
        let index = (hash >> 48) as usize & (self.stripes.len() - 1);
        (&self.stripes[index], hash)
    }

    /// Locks the stripe of a key.
    pub(crate) fn lock<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, T> {
        self.find(key).0.lock()
    }

    /// Returns all stripes, in no order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mutex<T>> {
        self.stripes.iter()
    }
}

/// Whether a collection has more than eight times the room that `len` values and `spare` more need, so that
/// it should give memory back.
pub(crate) fn is_sparse(capacity: usize, len: usize, spare: usize) -> bool {
    capacity > 8 * (len + spare)
}

/// Enough that 64 threads with different keys rarely wait, and no more than 64 empty maps in memory.
const STRIPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_key_keeps_its_stripe_and_keys_spread_over_all_stripes() {
        let stripes = Stripes::<Vec<u32>>::new();
        for key in 0..10_000 {
            stripes.lock(&key).push(key);
        }
        let lengths: Vec<usize> = stripes.iter().map(|stripe| stripe.lock().len()).collect();
        assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (STRIPES, 10_000));
        // 156 on average; the chance of a stripe with less than 50 is below one in 10^20.
        assert!(lengths.iter().all(|length| *length > 50), "{lengths:?}");
        assert!((0..10_000).all(|key| stripes.lock(&key).contains(&key)));
    }

    #[test]
    fn texts_and_names_of_the_same_letters_are_the_same_key() {
        let stripes = Stripes::<HashSet<String>>::new();
        let name = hauyna_broker::UserId::new("ada").unwrap();
        assert_eq!(stripes.hash("ada"), stripes.hash(name.as_str()));
        assert!(std::ptr::eq(stripes.find("ada").0, stripes.find(name.as_str()).0));
    }

    #[test]
    fn a_single_stripe_takes_every_key() {
        let stripes = Stripes::<u32>::single();
        (0..100).for_each(|key| *stripes.lock(&key) += 1);
        assert_eq!(*stripes.lock("any"), 100);
    }

    #[test]
    fn a_collection_is_sparse_only_when_most_of_its_room_is_unused() {
        assert!(!is_sparse(128, 0, 16) && is_sparse(129, 0, 16));
        assert!(!is_sparse(8 * 116, 100, 16) && is_sparse(8 * 116 + 1, 100, 16));
    }
}
