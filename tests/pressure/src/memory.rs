//! The memory of the server process, and how much it may take: the sum of the bounds that are configured.

use anyhow::{Context, Result};

/// What a process holds in memory now, in bytes.
///
/// # Errors
///
/// There is no `/proc`, or the process has ended.
pub(crate) fn resident(process: u32) -> Result<u64> {
    field(process, "VmRSS:")
}

/// The most that a process has ever held, in bytes.
///
/// # Errors
///
/// As [`resident`].
pub(crate) fn peak(process: u32) -> Result<u64> {
    field(process, "VmHWM:")
}

fn field(process: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the kernel does not tell")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// What a scenario fills, each of which the server bounds. Memory of the kernel (socket buffers) is not in the
/// resident set, so it is in neither side of the comparison.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections that lag: made slow, or with a backlog that can have filled the socket.
    pub(crate) lagging: u64,
    /// The longest message, in bytes.
    pub(crate) message: u64,
    /// Publications that were made: inboxes hold no more.
    pub(crate) published: u64,
    /// Publications that histories may keep: channels × messages of each.
    pub(crate) kept: u64,
    /// Idempotency keys that were used.
    pub(crate) keys: u64,
}

impl Bounds {
    /// The sum, in bytes: outbox and read-ahead of each connection that lags, the inbox of each shard, what
    /// histories keep, the keys, and what the allocator holds back.
    pub(crate) fn sum(&self) -> u64 {
        let publication = PUBLICATION + 2 * self.message; // the content, and its frame
        let outboxes = self.lagging * (OUTBOX + OUTBOX + READ_AHEAD);
        let inboxes = shards() * (INBOX_ITEMS.min(self.published) * publication).min(INBOX_BYTES);
        let histories = (self.kept * publication).min(HISTORIES);
        let keys = (self.keys * KEY).min(KEYS);
        outboxes + inboxes + histories + keys + ALLOCATOR
    }
}

/// One for each core, as the default is.
fn shards() -> u64 {
    std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two() as u64
}

/// What may wait for one connection: `HubBuilder::outbox`. Counted twice, for publications and for control.
const OUTBOX: u64 = 256 << 10;
/// Requests that wait while a callback asks its client.
const READ_AHEAD: u64 = 64 << 10;
/// The inbox of a shard: so many items, or so many bytes (ARCHITECTURE, "Every queue is bounded").
const INBOX_ITEMS: u64 = 16_384;
const INBOX_BYTES: u64 = 64 << 20;
/// What a publication takes besides content and frame: its names, its numbers, and its places in queues.
const PUBLICATION: u64 = 512;
/// `LocalBrokerOptions::max_history_bytes`.
const HISTORIES: u64 = crate::broker::HISTORIES as u64;
/// `LocalBrokerOptions::max_key_bytes`, and what a key may take with its names.
const KEYS: u64 = 32 << 20;
const KEY: u64 = 1024;
/// Pages that the allocator's caches of each thread keep, and that a scenario is the first to touch.
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
