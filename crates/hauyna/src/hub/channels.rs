//! The channels that have subscribers on this node, by name. A channel comes with its first subscriber and
//! goes with its last, so names that clients make up cost nothing once they are gone.

use crate::channel::{ChannelCore, ChannelName};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Many locks, each over the names that hash to it. `RandomState`: the names come from clients.
#[derive(Debug)]
pub(crate) struct ChannelMap {
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
}

type Part = HashMap<ChannelName, Arc<ChannelCore>>;

impl ChannelMap {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }

    fn part(&self, name: &str) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(name) as usize % PARTS]
    }

    pub(crate) fn find(&self, name: &ChannelName) -> Option<Arc<ChannelCore>> {
        self.find_str(name.as_str())
    }

    pub(crate) fn find_str(&self, name: &str) -> Option<Arc<ChannelCore>> {
        self.part(name).lock().get(name).cloned()
    }

    pub(crate) fn find_or_insert(
        &self,
        name: &ChannelName,
        make: impl FnOnce() -> ChannelCore,
    ) -> Arc<ChannelCore> {
        let mut part = self.part(name.as_str()).lock();
        if let Some(channel) = part.get(name) {
            return channel.clone();
        }
        let channel = Arc::new(make());
        part.insert(name.clone(), channel.clone());
        channel
    }

    /// Removes the channel if nobody uses it. Whoever found it before sees `retired` and looks again.
    pub(crate) fn remove_unused(&self, channel: &Arc<ChannelCore>) -> bool {
        let mut part = self.part(channel.name.as_str()).lock();
        let mut state = channel.state.lock();
        if state.retired || !state.is_unused() {
            return false;
        }
        state.retired = true;
        part.remove(&channel.name);
        if part.capacity() > 8 * (part.len() + 8) {
            part.shrink_to_fit();
        }
        true
    }

    pub(crate) fn count(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len()).sum()
    }
}

const PARTS: usize = 64;
