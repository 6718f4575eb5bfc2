//! A pool of zlib states: a decompressor is 46 KiB, a compressor 316, and is needed for the time of one message.
//! A state is reset before it is put back, and one that was in use during a panic is never put back.

use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

pub(super) struct Pool<T> {
    idle: Mutex<Vec<T>>,
    most: usize,
}

impl<T> Pool<T> {
    pub(super) fn new() -> Self {
        let most = available_parallelism().map_or(1, usize::from);
        Self { idle: Mutex::new(Vec::new()), most }
    }

    /// Runs `work` with a state of its own, outside the lock.
    pub(super) fn with<R>(
        &self,
        make: impl FnOnce() -> T,
        reset: impl FnOnce(&mut T),
        work: impl FnOnce(&mut T) -> R,
    ) -> R {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = idle.unwrap_or_else(make);
        let result = work(&mut state);
        reset(&mut state);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most {
            idle.push(state);
        }
        result
    }
}
