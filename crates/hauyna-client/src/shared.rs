//! What the handles and the task of a client share: the state, the streams, and the channels that are in use.

use crate::client::{SessionInfo, State};
use crate::events::EventQueue;
use crate::presence::Roster;
use crate::run::WakeUps;
use crate::stream::{Broadcaster, BufferBounds};
use hauyna_protocol::Position;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The state that the handles and the task share.
pub(crate) struct Shared {
    pub(crate) broadcaster: Broadcaster,
    pub(crate) channels: Channels,
    pub(crate) wake_ups: WakeUps,
    pub(crate) state: watch::Sender<State>,
    pub(crate) session: Mutex<Option<SessionInfo>>,
    /// Why the last connection or attempt ended; `None` while there is a connection.
    pub(crate) last_failure: Mutex<Option<String>>,
    /// The moment of the next attempt, while it is awaited.
    pub(crate) retry_at: Mutex<Option<Instant>>,
    pub(crate) timeout: Duration,
    /// How long a request may wait for a connection, if the application has set it.
    pub(crate) ttl: Option<Duration>,
    /// How long it may wait otherwise: as long as the server keeps a lost session.
    pub(crate) window: Mutex<Duration>,
    pub(crate) bounds: BufferBounds,
    /// Prefix that makes keys differ from those of other clients of the same user.
    pub(crate) key_prefix: u64,
    pub(crate) keys: AtomicU64,
    /// Number of the first call after the token source gave the credentials of the last attempt.
    pub(crate) first_after_token: AtomicU64,
}

impl Shared {
    /// Returns how long a request may wait for a connection.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl.unwrap_or_else(|| *self.window.lock())
    }
}

/// The channels that have a handle, a reader or a subscription.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    named: Mutex<NamedChannels>,
}

#[derive(Debug, Default)]
struct NamedChannels {
    channels: BTreeMap<String, Arc<ChannelShared>>,
    /// Number of channels at which unused ones are searched and removed.
    sweep_at: usize,
}

impl Channels {
    /// Returns a channel, which is created if it is new.
    pub(crate) fn open(&self, name: &str) -> Arc<ChannelShared> {
        let mut named = self.named.lock();
        if let Some(shared) = named.channels.get(name) {
            return shared.clone();
        }
        if named.channels.len() >= named.sweep_at {
            named.channels.retain(|_, shared| Arc::strong_count(shared) > 1 || shared.is_needed());
            // Doubling keeps the amortised cost of one name constant.
            named.sweep_at = named.channels.len().max(SWEEP_AFTER) * 2;
        }
        let shared = Arc::new(ChannelShared::new(name));
        named.channels.insert(name.to_owned(), shared.clone());
        shared
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<ChannelShared>> {
        self.named.lock().channels.get(name).cloned()
    }

    /// Calls a function with every channel.
    pub(crate) fn each(&self, change: impl Fn(&ChannelShared)) {
        self.named.lock().channels.values().for_each(|shared| change(shared));
    }

    /// Forgets every channel, and ends its streams after their waiting items.
    pub(crate) fn close(&self) {
        let channels = std::mem::take(&mut self.named.lock().channels);
        channels.values().for_each(|shared| shared.broadcaster.close());
    }

    /// Forgets a channel if the caller has the last handle on it, nobody reads it, and it has no
    /// subscription.
    pub(crate) fn release(&self, shared: &Arc<ChannelShared>) {
        // The map holds one handle, and the caller another.
        const LAST_HANDLE: usize = 2;
        if Arc::strong_count(shared) > LAST_HANDLE {
            return;
        }
        let mut named = self.named.lock();
        if Arc::strong_count(shared) <= LAST_HANDLE && !shared.is_needed() {
            named.channels.remove(&shared.name);
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.named.lock().channels.len()
    }
}

/// The state that the handles of a channel and the task share.
#[derive(Debug)]
pub(crate) struct ChannelShared {
    pub(crate) name: String,
    pub(crate) broadcaster: Broadcaster,
    pub(crate) roster: Mutex<Roster>,
    pub(crate) position: Mutex<Option<Position>>,
    pub(crate) events: Mutex<EventQueue>,
}

impl ChannelShared {
    fn new(name: &str) -> Self {
        let (broadcaster, roster, position) =
            (Broadcaster::default(), Mutex::new(Roster::default()), Mutex::new(None));
        Self { name: name.to_owned(), broadcaster, roster, position, events: Mutex::default() }
    }

    /// Whether the channel has a subscription or a reader.
    fn is_needed(&self) -> bool {
        let is_subscribed = self.position.lock().is_some() || self.events.lock().is_open();
        is_subscribed || self.roster.lock().is_known() || !self.broadcaster.is_idle()
    }
}

/// Below this number of channels, unused ones are not searched.
const SWEEP_AFTER: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_channel_is_forgotten() {
        let channels = Channels::default();
        for n in 0..1_000 {
            let shared = channels.open(&format!("room:{n}"));
            channels.release(&shared);
        }
        assert_eq!(channels.count(), 0);
        let (kept, another) = (channels.open("room:1"), channels.open("room:1"));
        channels.release(&another);
        assert_eq!(channels.count(), 1, "there is another handle");
        drop(another);
        *kept.position.lock() = Some(Position { epoch: hauyna_protocol::Epoch::UNKNOWN, offset: 1 });
        channels.release(&kept);
        assert_eq!(channels.count(), 1, "there is a subscription");
        *kept.position.lock() = None;
        channels.release(&kept);
        assert_eq!(channels.count(), 0);
    }

    #[test]
    fn channels_with_dropped_streams_are_swept() {
        let channels = Channels::default();
        let bounds = BufferBounds { items: 1, bytes: 1 };
        for n in 0..1_000 {
            let shared = channels.open(&format!("room:{n}"));
            let reader = shared.broadcaster.reader(crate::stream::Filter::Messages, bounds, |_| Ok(()));
            channels.release(&shared);
            drop((shared, reader));
        }
        assert!(channels.count() <= SWEEP_AFTER * 2, "{}", channels.count());
    }
}
