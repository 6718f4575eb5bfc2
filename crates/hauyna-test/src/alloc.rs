//! A global allocator that counts. A test binary that measures memory sets it as its own; nothing else does.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;

/// The type of [`COUNTING`].
pub type Counting = &'static StatsAlloc<System>;

/// The system's allocator with counters in front.
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

/// Returns the bytes of heap that this process holds now; 0 where [`COUNTING`] is not its allocator.
#[must_use]
pub fn live_bytes() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}
