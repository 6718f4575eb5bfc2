//! A broker whose epochs change when the test says so. It keeps all publications of an epoch in memory.

use hauyna::broker::{
    Answer, Broker, BrokerError, Continuity, Epoch, HistoryPage, LocalBroker, Order, Publish, Published,
    Relay, Repeat,
};
use hauyna::channel::Publication;
use hauyna::{ChannelName, HistoryRange, Position};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Relays publications without an offset.
    local: LocalBroker,
    relay: OnceLock<Relay>,
    streams: Mutex<BTreeMap<String, Stream>>,
    latency: Latency,
    histories: AtomicU64,
}

/// When a history is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Latency {
    AtOnce,
    /// After other tasks have run.
    Later,
}

#[derive(Debug)]
struct Stream {
    top: Position,
    kept: Vec<Arc<Publication>>,
    /// Ends of earlier epochs whose numbering this one continues.
    earlier: Vec<Position>,
}

/// What a change of the epoch does to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turning {
    /// The numbering continues.
    Whole,
    /// The memory is lost; the numbering continues after this offset.
    Lost(u64),
}

impl Default for Stream {
    fn default() -> Self {
        Self { top: Position { epoch: Epoch::new(1), offset: 0 }, kept: Vec::new(), earlier: Vec::new() }
    }
}

impl Stream {
    /// Whether nothing after a position is missing.
    fn continues(&self, since: Position) -> bool {
        let ends = self.earlier.iter().chain([&self.top]);
        ends.into_iter().any(|end| end.epoch == since.epoch && since.offset <= end.offset)
    }

    fn page(&self, range: HistoryRange) -> HistoryPage {
        let mut page = HistoryPage {
            top: self.top,
            oldest: self.top.offset + 1 - self.kept.len() as u64,
            publications: Vec::new(),
            continuity: Continuity::Whole,
        };
        let after = range.since.map_or(0, |since| since.offset);
        if range.since.is_some_and(|since| !self.continues(since)) {
            page.continuity = Continuity::EpochChanged;
        } else if range.order == Order::Forward {
            let mut wanted = self.kept.iter().filter(|publication| offset_of(publication) > after).cloned();
            page.publications = wanted.by_ref().take(range.limit as usize).collect();
            if range.since.is_some() && wanted.next().is_some() {
                page.continuity = Continuity::TooMany;
            }
        }
        page
    }
}

impl Engine {
    pub(crate) fn new(latency: Latency) -> Self {
        Self(Arc::new(Inner {
            local: LocalBroker::default(),
            relay: OnceLock::new(),
            streams: Mutex::default(),
            latency,
            histories: AtomicU64::new(0),
        }))
    }

    pub(crate) fn top(&self, channel: &str) -> Position {
        self.0.streams.lock().entry(channel.to_owned()).or_default().top
    }

    /// Whether a client at this position can recover everything after it.
    pub(crate) fn continues(&self, channel: &str, since: Position) -> bool {
        self.0.streams.lock().entry(channel.to_owned()).or_default().continues(since)
    }

    /// Returns how often a history was read.
    pub(crate) fn histories(&self) -> u64 {
        self.0.histories.load(Ordering::Relaxed)
    }

    /// Changes the epoch of the next publication.
    pub(crate) fn turn(&self, channel: &str, turning: Turning) -> Position {
        let mut streams = self.0.streams.lock();
        let stream = streams.entry(channel.to_owned()).or_default();
        let epoch = Epoch::new(stream.top.epoch.value() + 1);
        match turning {
            Turning::Whole => {
                stream.earlier.push(stream.top);
                stream.top.epoch = epoch;
            }
            Turning::Lost(offset) => {
                *stream = Stream { top: Position { epoch, offset }, ..Stream::default() };
            }
        }
        stream.top
    }

    /// Reports to the hub that the epoch of a stream changed.
    pub(crate) fn announce(&self, channel: &str, turning: Turning) {
        let continuity = match turning {
            Turning::Whole => Continuity::Whole,
            Turning::Lost(_) => Continuity::EpochChanged,
        };
        let (name, top) = (ChannelName::new(channel).unwrap(), self.top(channel));
        self.0.relay.get().unwrap().turned(&name, top, continuity);
    }
}

impl Broker for Engine {
    fn start(&self, relay: Relay) {
        self.0.relay.set(relay.clone()).unwrap();
        self.0.local.start(relay);
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        if publish.retention.is_none() {
            return self.0.local.publish(publish);
        }
        let mut streams = self.0.streams.lock();
        let stream = streams.entry(publish.draft.channel().as_str().to_owned()).or_default();
        stream.top.offset += 1;
        let (position, publication) =
            (Some(stream.top), Arc::new(publish.draft.publication(Some(stream.top))));
        stream.kept.push(publication.clone());
        self.0.relay.get().unwrap().relay(&publication);
        Answer::now(Ok(Published { position, repeat: Repeat::No }))
    }

    fn subscribe(&self, _: &ChannelName) -> Answer<Result<(), BrokerError>> {
        Answer::now(Ok(()))
    }

    fn unsubscribe(&self, _: &ChannelName) {}

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        self.0.histories.fetch_add(1, Ordering::Relaxed);
        let page = self.0.streams.lock().entry(channel.as_str().to_owned()).or_default().page(range);
        match self.0.latency {
            Latency::AtOnce => Answer::now(Ok(page)),
            Latency::Later => Answer::later(async {
                tokio::task::yield_now().await;
                Ok(page)
            }),
        }
    }
}

fn offset_of(publication: &Publication) -> u64 {
    publication.position().map_or(0, |position| position.offset)
}
