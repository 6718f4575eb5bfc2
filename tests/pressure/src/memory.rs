//! The memory of the server process and its maximum: the sum of the configured bounds. `stage` compares them.

use anyhow::{Context, Result};

/// Returns the resident memory of a process, in bytes.
///
/// # Errors
///
/// Returns an error if there is no `/proc`, or the process has ended.
pub(crate) fn resident(process: u32) -> Result<u64> {
    field(process, "VmRSS:")
}

/// Returns the peak of the resident memory of a process, in bytes.
///
/// # Errors
///
/// Returns the same errors as [`resident`].
pub(crate) fn peak(process: u32) -> Result<u64> {
    field(process, "VmHWM:")
}

fn field(process: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).context("the kernel does not report it")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// What a scenario fills; the server bounds each of these. Memory of the kernel (socket buffers) is not in
/// the resident set, so neither side of the comparison has it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bounds {
    /// Number of connections that lag: slow on purpose, or with a backlog that can have filled the socket.
    pub(crate) lagging: u64,
    /// Size of the longest message, in bytes.
    pub(crate) message: u64,
    /// Number of publications, which is the maximum that inboxes hold.
    pub(crate) published: u64,
    /// Number of publications that histories may keep: channels × messages of each.
    pub(crate) kept: u64,
    /// Number of used idempotency keys.
    pub(crate) keys: u64,
}

impl Bounds {
    /// Returns the sum, in bytes: outbox and read-ahead of each connection that lags, the inbox of each
    /// shard, the histories, the keys, and the caches of the allocator.
    pub(crate) fn sum(&self) -> u64 {
        let publication = PUBLICATION + 2 * self.message; // the content, and its frame
        let outboxes = self.lagging * (OUTBOX + OUTBOX + READ_AHEAD);
        let inboxes = shards() * (INBOX_ITEMS.min(self.published) * publication).min(INBOX_BYTES);
        let histories = (self.kept * publication).min(HISTORIES);
        let keys = (self.keys * KEY).min(KEYS);
        outboxes + inboxes + histories + keys + ALLOCATOR
    }
}

/// Returns the default number of shards: one for each core.
fn shards() -> u64 {
    std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two() as u64
}

/// Maximum bytes in the outbox of one connection (`HubBuilder::outbox`). Counted twice, for publications and
/// control.
const OUTBOX: u64 = 256 << 10;
/// Maximum bytes of requests that wait while a callback waits for its client.
const READ_AHEAD: u64 = 64 << 10;
/// Maximum of items and bytes in the inbox of a shard (ARCHITECTURE, "Every queue is bounded").
const INBOX_ITEMS: u64 = 16_384;
const INBOX_BYTES: u64 = 64 << 20;
/// Bytes of a publication besides content and frame: its names, its numbers, and its entries in queues.
const PUBLICATION: u64 = 512;
/// Value of `LocalBrokerOptions::max_history_bytes`.
const HISTORIES: u64 = crate::broker::HISTORIES as u64;
/// Value of `LocalBrokerOptions::max_key_bytes`, and maximum bytes of a key with its names.
const KEYS: u64 = 32 << 20;
const KEY: u64 = 1024;
/// Bytes of pages in the allocator's caches of each thread that a scenario is the first to touch.
const ALLOCATOR: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::Bounds;

    #[test]
    fn sum_of_bounds_is_capped_by_each_bound() {
        let much = Bounds { lagging: 0, message: 1 << 30, published: 1 << 40, kept: 1 << 20, keys: 1 << 30 };
        assert_eq!(Bounds::default().sum(), 4 << 20);
        assert_eq!(much.sum(), super::shards() * (64 << 20) + super::HISTORIES + (32 << 20) + (4 << 20));
    }
}
