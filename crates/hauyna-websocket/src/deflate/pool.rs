//! A pool of zlib states: a decompressor has 46 KiB, a compressor 316 KiB, and each is needed for one
//! message. A state is reset before it is put back; one that was in use during a panic is never put back.

use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

pub(super) struct Pool<T> {
    idle: Mutex<Vec<T>>,
    max: usize,
}

impl<T> Pool<T> {
    pub(super) fn new() -> Self {
        let max = available_parallelism().map_or(1, usize::from);
        Self { idle: Mutex::new(Vec::new()), max }
    }

    /// Calls `use_state` with an exclusive state, outside the lock.
    pub(super) fn with<R>(
        &self,
        make: impl FnOnce() -> T,
        reset: impl FnOnce(&mut T),
        use_state: impl FnOnce(&mut T) -> R,
    ) -> R {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = idle.unwrap_or_else(make);
        let result = use_state(&mut state);
        reset(&mut state);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max {
            idle.push(state);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_keeps_no_more_states_than_there_are_processors() {
        let pool = Pool::new();
        fn nest(pool: &Pool<u32>, depth: u32) {
            if depth > 0 {
                pool.with(|| depth, |state| *state = 0, |_| nest(pool, depth - 1));
            }
        }
        nest(&pool, 1000);
        let idle = pool.idle.lock().unwrap();
        assert_eq!(idle.len(), pool.max);
        assert!(idle.iter().all(|state| *state == 0), "each was reset before it was put back");
    }

    #[test]
    fn a_state_in_use_during_a_panic_is_not_put_back() {
        let pool: Pool<u32> = Pool::new();
        let used = std::panic::AssertUnwindSafe(|| {
            pool.with(|| 1, |_| {}, |_| panic!("in the middle of a message"))
        });
        assert!(std::panic::catch_unwind(used).is_err());
        assert!(pool.idle.lock().unwrap().is_empty());
    }
}
