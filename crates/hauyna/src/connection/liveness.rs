//! When a connection was last active and pinged, and since when a callback runs or a message is unfinished.
//! The task notes each as [recent](Tick::RECENT), without a lock and without reading the clock; the shard's
//! sweep assigns the time and compares it with the deadlines.

use crate::clock::Tick;
use std::sync::atomic::{AtomicU32, Ordering};

/// Six times of a connection; each but the first three is 0 where it does not apply.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// The time of the last read.
    last_read: AtomicU32,
    /// The time when the last message ended.
    last_message: AtomicU32,
    /// The time when the last ping was due.
    last_ping: AtomicU32,
    /// The time of the first ping that is unanswered.
    pinged: AtomicU32,
    /// The time since which a callback is running.
    busy: AtomicU32,
    /// The time since which a message is unfinished.
    unfinished: AtomicU32,
}

/// The times that the sweep compares with the deadlines.
pub(crate) struct Deadlines {
    /// The time since which a callback is running.
    pub(crate) busy: Option<Tick>,
    /// The time since which a message is unfinished.
    pub(crate) unfinished: Option<Tick>,
    /// The time of the last read.
    pub(crate) heard: Tick,
    /// The time when the last message ended.
    pub(crate) spoke: Tick,
    /// The time when the last ping was due.
    pub(crate) beat: Tick,
    /// The time since which a ping is unanswered.
    pub(crate) pinged: Option<Tick>,
}

impl Liveness {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            last_read: AtomicU32::new(now.0),
            last_message: AtomicU32::new(now.0),
            last_ping: AtomicU32::new(now.0),
            pinged: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            unfinished: AtomicU32::new(0),
        }
    }

    /// Assigns `now` to everything noted since the last sweep, and returns the times that deadlines are
    /// counted from.
    pub(super) fn with_known_times(&self, now: impl Fn() -> Tick) -> Deadlines {
        for moment in [&self.last_read, &self.last_message, &self.busy, &self.unfinished] {
            Tick::assign_time_in(moment, &now);
        }
        self.deadlines()
    }

    fn deadlines(&self) -> Deadlines {
        let optional =
            |tick: &AtomicU32| Some(tick.load(Ordering::Relaxed)).filter(|tick| *tick != 0).map(Tick);
        Deadlines {
            busy: optional(&self.busy),
            unfinished: optional(&self.unfinished),
            heard: self.last_read(),
            spoke: self.last_message(),
            beat: Tick(self.last_ping.load(Ordering::Relaxed)),
            pinged: optional(&self.pinged),
        }
    }

    /// Starts every time over, because the handshake is complete.
    pub(crate) fn restart(&self, now: Tick) {
        for moment in [&self.last_read, &self.last_message, &self.last_ping] {
            moment.store(now.0, Ordering::Relaxed);
        }
        self.pinged.store(0, Ordering::Relaxed);
        self.unfinished.store(0, Ordering::Relaxed);
    }

    /// Notes that a ping is sent. An earlier ping that is unanswered remains the one that counts.
    pub(super) fn note_ping(&self, due: Tick, now: Tick) {
        self.last_ping.store(due.0, Ordering::Relaxed);
        let _ = self.pinged.compare_exchange(0, now.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes that something was read. Any data from the peer counts as the answer to a ping.
    pub(crate) fn note_read(&self) {
        self.last_read.store(Tick::RECENT.0, Ordering::Relaxed);
        self.pinged.store(0, Ordering::Relaxed);
    }

    pub(super) fn last_read(&self) -> Tick {
        Tick(self.last_read.load(Ordering::Relaxed))
    }

    /// Notes that a message ended; the time of the next one begins.
    pub(crate) fn note_message(&self) {
        self.last_message.store(Tick::RECENT.0, Ordering::Relaxed);
        self.unfinished.store(0, Ordering::Relaxed);
    }

    pub(super) fn last_message(&self) -> Tick {
        Tick(self.last_message.load(Ordering::Relaxed))
    }

    /// Restarts the time in which the peer has to answer a ping or end a message, because nothing is read
    /// now.
    pub(super) fn hold(&self, now: Tick) {
        for moment in [&self.pinged, &self.unfinished] {
            let since = moment.load(Ordering::Relaxed);
            if since != 0 {
                let _ = moment.compare_exchange(since, now.0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Keeps times of long ago from turning into times of the future when ticks wrap around.
    pub(super) fn keep_past(&self, now: Tick) {
        now.keep_past(&self.last_read);
        now.keep_past(&self.last_message);
    }

    /// Notes that a callback starts, gets its whole time again, or has ended.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.busy.store(if is_busy { Tick::RECENT.0 } else { 0 }, Ordering::Relaxed);
    }

    /// Returns the time since which a callback is running.
    pub(super) fn busy(&self) -> Option<Tick> {
        Some(self.busy.load(Ordering::Relaxed)).filter(|tick| *tick != 0).map(Tick)
    }

    /// Notes whether a message is unfinished; the time when it began stays.
    pub(crate) fn set_unfinished(&self, is_unfinished: bool) {
        if is_unfinished {
            let began = Tick::RECENT.0;
            let _ = self.unfinished.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
        } else {
            self.unfinished.store(0, Ordering::Relaxed);
        }
    }
}
