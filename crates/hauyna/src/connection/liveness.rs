//! When a connection was last heard and pinged, and since when it has been at something that may not take for ever.
//! Noted by its task as [recent](Tick::RECENT), without a lock and without a look at the clock; dated and compared by its
//! shard's sweep.

use crate::clock::Tick;
use std::sync::atomic::{AtomicU32, Ordering};

/// Six moments of a connection; all but the first three are 0 where it is not so.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When something was last read.
    last_read: AtomicU32,
    /// When the last message ended.
    last_message: AtomicU32,
    /// When the last ping was due.
    last_ping: AtomicU32,
    /// When the first ping was sent that is unanswered.
    pinged: AtomicU32,
    busy: AtomicU32,
    unfinished: AtomicU32,
}

/// What the sweep compares with the time.
pub(crate) struct Deadlines {
    /// A callback has been at work since then.
    pub(crate) busy: Option<Tick>,
    /// A message has been unfinished since then.
    pub(crate) unfinished: Option<Tick>,
    pub(crate) heard: Tick,
    pub(crate) spoke: Tick,
    pub(crate) beat: Tick,
    /// A ping has been unanswered since then.
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

    /// What deadlines are reckoned from. What was noted since the last time is `now`.
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

    /// Everything begins now: the handshake is over.
    pub(super) fn restart(&self, now: Tick) {
        for moment in [&self.last_read, &self.last_message, &self.last_ping] {
            moment.store(now.0, Ordering::Relaxed);
        }
        self.pinged.store(0, Ordering::Relaxed);
        self.unfinished.store(0, Ordering::Relaxed);
    }

    /// A ping is sent. One that was not answered before it stays the one that counts.
    pub(super) fn note_ping(&self, due: Tick, now: Tick) {
        self.last_ping.store(due.0, Ordering::Relaxed);
        let _ = self.pinged.compare_exchange(0, now.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The peer lives: whatever comes answers a ping.
    pub(super) fn note_read(&self) {
        self.last_read.store(Tick::RECENT.0, Ordering::Relaxed);
        self.pinged.store(0, Ordering::Relaxed);
    }

    pub(super) fn last_read(&self) -> Tick {
        Tick(self.last_read.load(Ordering::Relaxed))
    }

    /// A message ended, and the time of the next one begins.
    pub(super) fn note_message(&self) {
        self.last_message.store(Tick::RECENT.0, Ordering::Relaxed);
        self.unfinished.store(0, Ordering::Relaxed);
    }

    pub(super) fn last_message(&self) -> Tick {
        Tick(self.last_message.load(Ordering::Relaxed))
    }

    /// Nothing is read now: the time in which the peer has to answer a ping, and to end a message, does not go on.
    pub(super) fn hold(&self, now: Tick) {
        for moment in [&self.pinged, &self.unfinished] {
            let since = moment.load(Ordering::Relaxed);
            if since != 0 {
                let _ = moment.compare_exchange(since, now.0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Keeps moments of long ago from becoming those of the future, as ticks wrap.
    pub(super) fn keep_past(&self, now: Tick) {
        now.keep_past(&self.last_read);
        now.keep_past(&self.last_message);
    }

    /// A callback begins its work, has its whole time again, or has ended.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.busy.store(if is_busy { Tick::RECENT.0 } else { 0 }, Ordering::Relaxed);
    }

    /// Since when a callback has been at work.
    pub(super) fn busy(&self) -> Option<Tick> {
        Some(self.busy.load(Ordering::Relaxed)).filter(|tick| *tick != 0).map(Tick)
    }

    /// A message is unfinished, or no longer; the moment it began stays.
    pub(super) fn set_unfinished(&self, is_unfinished: bool) {
        if is_unfinished {
            let began = Tick::RECENT.0;
            let _ = self.unfinished.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
        } else {
            self.unfinished.store(0, Ordering::Relaxed);
        }
    }
}
