//! The followers of all streams that a node follows, behind striped locks. A broker on another system owns
//! one `Followers`; it passes it what arrives, and reads from the history what it asks for.

use crate::contract::{HistoryPage, HistoryRange};
use crate::follow::Follower;
use crate::publication::Publication;
use crate::{ChannelName, Position, Relay};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The followers of all streams that a node follows; see [`Follower`] for what each of them does.
///
/// Each method relays under the lock of its channel, so that [`Relay`] is called in order; the relay must not
/// call back. A read that is due is returned as a [`HistoryRead`]: read the history, then call
/// [`Followers::page`] or [`Followers::read_failed`].
pub struct Followers {
    relay: Relay,
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
}

#[derive(Debug, Default)]
struct Stripe {
    followers: HashMap<ChannelName, Followed>,
    /// The serial of the next read.
    next_serial: u64,
}

#[derive(Debug)]
struct Followed {
    follower: Follower,
    /// The serial of the last read, so that the page of an earlier one, or of an earlier follower, is not
    /// taken for its page.
    serial: Option<u64>,
}

/// A range of a channel's history that is to be read now. Until it is answered, by [`Followers::page`] or
/// [`Followers::read_failed`], or [`Followers::begin`] replaces it, nothing else is read and nothing numbered
/// is relayed: read in a task that is not dropped.
#[must_use = "nothing is relayed before the read is answered"]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryRead {
    /// The channel.
    pub channel: ChannelName,
    /// The range.
    pub range: HistoryRange,
    serial: u64,
}

impl Followers {
    /// Creates a node's followers, which relay to `relay`.
    pub fn new(relay: Relay) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { relay, hasher: RandomState::new(), stripes }
    }

    /// Follows a channel: publications that arrive from now on are held until [`Followers::begin`] has had
    /// its read. A channel that is followed already stays as it is.
    pub fn follow(&self, channel: &ChannelName) {
        self.stripe(channel)
            .followers
            .entry(channel.clone())
            .or_insert_with(|| Followed { follower: Follower::new(channel.clone()), serial: None });
    }

    /// Stops following a channel.
    pub fn forget(&self, channel: &ChannelName) {
        let mut stripe = self.stripe(channel);
        stripe.followers.remove(channel);
        if stripe.followers.capacity() > 8 * (stripe.followers.len() + 16) {
            stripe.followers.shrink_to_fit();
        }
    }

    /// Notes that the other system has confirmed the subscription to a channel, for the first time or again
    /// after the link came back. Returns the read with which the follower begins, or makes sure that nothing
    /// is missing; `None` if the channel is not followed. It replaces a read on its way, whose answer may
    /// have been lost.
    pub fn begin(&self, channel: &ChannelName) -> Option<HistoryRead> {
        self.change(channel, |follower, _| {
            follower.read_failed();
            follower.suspect();
        })
    }

    /// Takes a publication that arrived. Publications of channels that are not followed are dropped. While
    /// the hub is congested, numbered publications are not relayed: they are read from the history
    /// afterwards.
    pub fn receive(&self, publication: Arc<Publication>) -> Option<HistoryRead> {
        let channel = publication.channel().clone();
        self.change(&channel, |follower, relay| {
            if publication.position().is_some() && relay.is_congested_for(publication.channel()) {
                follower.suspect();
            } else {
                follower.receive(publication, relay);
            }
        })
    }

    /// Takes the page of a read. Returns the next read, if more is missing. The page of a read that was
    /// replaced is ignored.
    pub fn page(&self, read: &HistoryRead, page: &HistoryPage) -> Option<HistoryRead> {
        self.answer(read, |follower, relay| follower.page(page, relay))
    }

    /// Notes that a read failed. Returns the read to try again, after a pause.
    pub fn read_failed(&self, read: &HistoryRead) -> Option<HistoryRead> {
        self.answer(read, |follower, _| follower.read_failed())
    }

    /// Compares a channel with the top of its stream; `asked` is what [`Followers::position`] returned before
    /// the top was asked for. Returns the read of what is missing, if anything is.
    pub fn verify(&self, channel: &ChannelName, asked: Position, top: Position) -> Option<HistoryRead> {
        self.change(channel, |follower, _| {
            follower.verify(asked, top);
        })
    }

    /// Returns the last position that was relayed, `None` if the channel is not followed or has not begun.
    pub fn position(&self, channel: &ChannelName) -> Option<Position> {
        self.stripe(channel).followers.get(channel)?.follower.position()
    }

    /// Whether everything that arrived in a channel is relayed.
    pub fn is_whole(&self, channel: &ChannelName) -> bool {
        self.stripe(channel).followers.get(channel).is_some_and(|followed| followed.follower.is_whole())
    }

    /// Returns all channels that are followed, in no order.
    pub fn channels(&self) -> Vec<ChannelName> {
        self.stripes
            .iter()
            .flat_map(|stripe| lock(stripe).followers.keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn change(
        &self,
        channel: &ChannelName,
        change: impl FnOnce(&mut Follower, &Relay),
    ) -> Option<HistoryRead> {
        self.stripe(channel).change(channel, |followed| change(&mut followed.follower, &self.relay))
    }

    fn answer(&self, read: &HistoryRead, answer: impl FnOnce(&mut Follower, &Relay)) -> Option<HistoryRead> {
        self.stripe(&read.channel).change(&read.channel, |followed| {
            if followed.serial == Some(read.serial) {
                answer(&mut followed.follower, &self.relay);
            }
        })
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        let index = self.hasher.hash_one(channel) as usize % STRIPES;
        lock(&self.stripes[index])
    }
}

impl Stripe {
    /// Changes a follower, and returns the read that it asks for.
    fn change(&mut self, channel: &ChannelName, change: impl FnOnce(&mut Followed)) -> Option<HistoryRead> {
        let followed = self.followers.get_mut(channel)?;
        change(followed);
        let range = followed.follower.next_read()?;
        let serial = self.next_serial;
        self.next_serial += 1;
        followed.serial = Some(serial);
        Some(HistoryRead { channel: channel.clone(), range, serial })
    }
}

/// Locks a stripe, also after a relay has panicked under the lock: a follower is valid between any two steps.
fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.stripes.iter().map(|stripe| lock(stripe).followers.len()).sum();
        f.debug_struct("Followers").field("channels", &count).finish_non_exhaustive()
    }
}

const STRIPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Continuity, Draft, Epoch, PublicationKind};

    fn publication(offset: u64) -> Arc<Publication> {
        let content = Content::of_protocol(offset.to_string().into_bytes());
        let draft = Draft::with_content(channel(), PublicationKind::Message, content);
        Arc::new(draft.publication(Some(at(offset))))
    }

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch::new(1), offset }
    }

    fn channel() -> ChannelName {
        ChannelName::new("a").unwrap()
    }

    fn page(top: u64, publications: impl IntoIterator<Item = u64>) -> HistoryPage {
        let publications = publications.into_iter().map(publication).collect();
        HistoryPage { top: at(top), oldest: 1, publications, continuity: Continuity::Whole }
    }

    fn collect() -> (Relay, Arc<Mutex<Vec<u64>>>) {
        let relayed = Arc::new(Mutex::new(Vec::new()));
        let sink = relayed.clone();
        (Relay::to(move |publication| sink.lock().unwrap().push(publication.offset())), relayed)
    }

    #[test]
    fn a_page_for_an_earlier_follower_of_the_channel_is_ignored() {
        let (relay, relayed) = collect();
        let followers = Followers::new(relay);
        followers.follow(&channel());
        let early = followers.begin(&channel()).expect("the first read");
        followers.forget(&channel());
        followers.follow(&channel());
        let late = followers.begin(&channel()).expect("the first read of the second follower");
        assert_eq!(followers.page(&early, &page(3, [])), None);
        assert_eq!(followers.position(&channel()), None);
        assert_eq!(followers.page(&late, &page(5, [])), None);
        assert_eq!(followers.receive(publication(6)), None);
        assert_eq!(*relayed.lock().unwrap(), [6]);
    }

    #[test]
    fn while_the_hub_is_congested_numbered_publications_are_left_to_the_history() {
        let (relay, relayed) = collect();
        let is_congested = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = is_congested.clone();
        let followers =
            Followers::new(relay.congested_when(move |_| flag.load(std::sync::atomic::Ordering::Relaxed)));
        followers.follow(&channel());
        let first = followers.begin(&channel()).expect("the first read");
        assert_eq!(followers.page(&first, &page(0, [])), None);
        is_congested.store(true, std::sync::atomic::Ordering::Relaxed);
        let read = followers.receive(publication(1)).expect("the read of what was not relayed");
        assert_eq!(followers.receive(publication(2)), None);
        assert!(relayed.lock().unwrap().is_empty());
        is_congested.store(false, std::sync::atomic::Ordering::Relaxed);
        let again = followers.page(&read, &page(1, [1])).expect("the read of what came after the first");
        assert_eq!(followers.page(&again, &page(2, [2])), None);
        assert_eq!(*relayed.lock().unwrap(), [1, 2]);
    }

    #[test]
    fn a_page_of_an_earlier_read_is_not_taken_for_that_of_the_present_one() {
        let (relay, relayed) = collect();
        let followers = Followers::new(relay);
        followers.follow(&channel());
        let first = followers.begin(&channel()).expect("the first read");
        assert_eq!(followers.page(&first, &page(1, [])), None);
        let late = followers.receive(publication(3)).expect("the read of what is missing");
        // The broker gives up waiting; its answer, which does not have 4 and 5, is still on its way.
        let again = followers.read_failed(&late).expect("the read once more");
        assert_eq!(followers.receive(publication(5)), None);
        let next = followers.read_failed(&again).expect("the read once more");
        assert_eq!(followers.page(&late, &page(3, [2, 3])), None);
        assert_eq!(followers.read_failed(&late), None);
        assert_eq!(followers.page(&next, &page(5, [2, 3, 4, 5])), None);
        assert_eq!(*relayed.lock().unwrap(), [2, 3, 4, 5]);
    }

    #[test]
    fn a_read_that_is_never_answered_ends_with_the_next_confirmation() {
        let (relay, relayed) = collect();
        let followers = Followers::new(relay);
        followers.follow(&channel());
        let dropped = followers.begin(&channel()).expect("the first read");
        let read = followers.begin(&channel()).expect("the read of the second confirmation");
        assert_eq!(followers.page(&dropped, &page(1, [])), None);
        assert_eq!(followers.position(&channel()), None);
        assert_eq!(followers.page(&read, &page(2, [])), None);
        assert_eq!(followers.receive(publication(3)), None);
        assert_eq!(*relayed.lock().unwrap(), [3]);
    }

    #[test]
    fn a_relay_that_panics_while_it_gets_a_page_loses_nothing_else() {
        let relayed = Arc::new(Mutex::new(Vec::new()));
        for panics_at in 2..=5 {
            let (sink, mut expected) = (relayed.clone(), vec![2, 3, 4, 5, 6, 7]);
            relayed.lock().unwrap().clear();
            let followers = Followers::new(Relay::to(move |publication| {
                assert_ne!(publication.offset(), panics_at);
                sink.lock().unwrap().push(publication.offset());
            }));
            followers.follow(&channel());
            let first = followers.begin(&channel()).expect("the first read");
            assert_eq!(followers.page(&first, &page(1, [])), None);
            let read = followers.receive(publication(3)).expect("the read of what is missing");
            for offset in [4, 5] {
                assert_eq!(followers.receive(publication(offset)), None);
            }
            let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                followers.page(&read, &page(3, [2, 3]))
            }));
            assert!(taken.is_err());
            assert!(!followers.is_whole(&channel()));
            let read = followers.receive(publication(7)).expect("the read of what is still missing");
            let since = read.range.since.expect("a position").offset;
            assert_eq!(since, panics_at);
            assert_eq!(followers.page(&read, &page(7, since + 1..=7)), None);
            assert!(followers.is_whole(&channel()));
            expected.retain(|offset| *offset != panics_at);
            assert_eq!(*relayed.lock().unwrap(), expected);
        }
    }

    #[test]
    fn a_relay_that_panics_stops_nobody_else() {
        let followers = Followers::new(Relay::to(|publication| assert_ne!(publication.offset(), 2)));
        followers.follow(&channel());
        let first = followers.begin(&channel()).expect("the first read");
        assert_eq!(followers.page(&first, &page(0, [])), None);
        for offset in 1..=3 {
            let received = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                followers.receive(publication(offset))
            }));
            assert_eq!(received.is_err(), offset == 2);
        }
        assert_eq!(followers.position(&channel()), Some(at(3)));
    }
}
