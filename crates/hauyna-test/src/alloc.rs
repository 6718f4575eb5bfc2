//! A global allocator that counts bytes. Test binaries that measure memory set it as their allocator.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;

/// The type of [`COUNTING`].
pub type Counting = &'static StatsAlloc<System>;

/// The system allocator with counters.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: hauyna_test::alloc::Counting = hauyna_test::alloc::COUNTING;
///
/// let before = hauyna_test::alloc::live_bytes();
/// let block = vec![0_u8; 1000];
/// assert!(hauyna_test::alloc::live_bytes() - before >= 1000);
/// drop(block);
/// ```
pub const COUNTING: Counting = &INSTRUMENTED_SYSTEM;

/// Returns the bytes of heap that this process holds now; 0 if [`COUNTING`] is not its allocator.
#[must_use]
pub fn live_bytes() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}
