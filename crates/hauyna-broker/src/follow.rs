//! A follower makes the relay of one stream exact, however the publications reach this node. It is a pure
//! state machine: it neither reads, waits nor locks. Its owner passes it what arrives, reads the history that
//! it asks for, and relays what it gives, as `followers` does.

use crate::contract::{Continuity, HistoryPage, HistoryRange, Order};
use crate::publication::Publication;
use crate::{ChannelName, Position, Relay};
use std::collections::VecDeque;
use std::sync::Arc;

/// Follows one numbered stream of another system, whose relay may lose, repeat, delay and reorder
/// publications.
///
/// It relays each publication once, in the order of offsets. What the relay lost is read from the history;
/// what the history no longer has is reported by [`Relay::turned`], before anything later is relayed.
///
/// # Use
///
/// 1. Create it, and pass every publication that arrives to [`Follower::receive`].
/// 2. Once the other system has confirmed the subscription, call [`Follower::suspect`]: the follower begins
///    at the top of the history as it is read then.
/// 3. After each call, [`Follower::next_read`] says what is to be read from the history, if anything; pass
///    the page to [`Follower::page`], or call [`Follower::read_failed`] and try again later.
/// 4. Call [`Follower::suspect`] whenever something may have been lost: the link came back, or the hub was
///    too busy to take publications. [`Follower::verify`] compares with the top after a silence.
///
/// # Memory
///
/// While it reads, it holds at most [`MAX_HELD`] publications and [`MAX_HELD_BYTES`] bytes; what exceeds them
/// is dropped and read from the history afterwards.
#[derive(Debug)]
pub struct Follower {
    channel: ChannelName,
    /// The last position that was relayed or reported; `None` before the first page.
    position: Option<Position>,
    /// The reading of what may be missing; `None` while nothing is.
    repair: Option<Box<Repair>>,
}

/// Reading what may be missing.
#[derive(Debug, Default)]
struct Repair {
    held: VecDeque<Arc<Publication>>,
    held_bytes: usize,
    /// The number of publications at the front of `held` that came before the page on its way was asked for,
    /// so that the page, or what it says is lost, covers them.
    covered: usize,
    is_reading: bool,
    /// Whether a page that is asked for later is needed: something was dropped, or may have been lost, since
    /// the page on its way was asked for.
    needs_later_page: bool,
}

impl Follower {
    /// Creates a follower that relays nothing before it has read the top of the stream.
    pub fn new(channel: ChannelName) -> Self {
        Self { channel, position: None, repair: Some(Box::default()) }
    }

    /// Returns the last position that was relayed or reported, `None` before the first page.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether everything that this node knows of is relayed: nothing is missing and nothing is held.
    pub fn is_whole(&self) -> bool {
        self.repair.is_none()
    }

    /// Takes a publication that arrived from the other system. One without a position is relayed at once.
    pub fn receive(&mut self, publication: Arc<Publication>, relay: &Relay) {
        let Some(at) = publication.position() else { return relay.relay(&publication) };
        if self.repair.is_none() {
            match self.place(at) {
                Place::Next => return self.relay_next(&publication, at, relay),
                Place::Past => return,
                Place::Elsewhere => self.suspect(),
            }
        }
        self.hold(publication);
    }

    /// Notes that publications may have been lost: whatever was asked for earlier, the history is read again.
    pub fn suspect(&mut self) {
        self.repair.get_or_insert_default().needs_later_page = true;
    }

    /// Compares with the top of the stream, which the other system gave for the position `asked`: the
    /// follower's own position when the top was asked for. Returns whether nothing is missing.
    pub fn verify(&mut self, asked: Position, top: Position) -> bool {
        let is_at_top = top == asked;
        // Publications that came while the top was on its way.
        let is_behind_now = self.position.is_some_and(|position| {
            position.epoch == top.epoch && asked.offset <= top.offset && top.offset <= position.offset
        });
        if !is_at_top && !is_behind_now {
            self.suspect();
        }
        self.is_whole()
    }

    /// Returns the range to read from the history, if one is to be read now. Until [`Follower::page`] or
    /// [`Follower::read_failed`] is called, there is no other.
    pub fn next_read(&mut self) -> Option<HistoryRange> {
        let repair = self.repair.as_deref_mut()?;
        if repair.is_reading || !repair.needs_later_page {
            return None;
        }
        repair.is_reading = true;
        repair.needs_later_page = false;
        repair.covered = repair.held.len();
        Some(match self.position {
            None => HistoryRange::top(),
            Some(position) => HistoryRange::new(Some(position), PAGE, Order::Forward),
        })
    }

    /// Notes that the page could not be read; [`Follower::next_read`] asks for it again.
    pub fn read_failed(&mut self) {
        if let Some(repair) = self.repair.as_deref_mut() {
            repair.is_reading = false;
            repair.needs_later_page = true;
        }
    }

    /// Takes the page that [`Follower::next_read`] asked for: relays what was missing, then what was held.
    pub fn page(&mut self, page: &HistoryPage, relay: &Relay) {
        let Some(repair) = self.repair.as_deref_mut().filter(|repair| repair.is_reading) else { return };
        // A relay that panics leaves the follower as one that has to read once more.
        let needs_later_page = std::mem::replace(&mut repair.needs_later_page, true);
        repair.is_reading = false;
        let is_complete = match (self.position, page.continuity) {
            (None, _) => {
                self.position = Some(page.top);
                true
            }
            (Some(_), Continuity::Whole | Continuity::TooMany) => self.relay_page(page, relay),
            (Some(_), lost) => {
                self.turn(page.top, lost, relay);
                true
            }
        };
        // Otherwise what is held stays; the next page covers it.
        if is_complete {
            self.relay_held(needs_later_page, relay);
        }
    }

    /// Relays the publications of a page. Returns whether it was the last page.
    fn relay_page(&mut self, page: &HistoryPage, relay: &Relay) -> bool {
        for publication in &page.publications {
            let (Some(position), Some(at)) = (self.position, publication.position()) else { continue };
            if at.offset != position.offset + 1 {
                // The broker broke its contract. Whatever is missing is reported as a loss.
                self.turn(page.top, Continuity::TooOld, relay);
                return true;
            }
            if at.epoch != position.epoch {
                self.turn(Position { epoch: at.epoch, ..position }, Continuity::Whole, relay);
            }
            self.relay_next(publication, at, relay);
        }
        let Some(position) = self.position else { return true };
        if page.continuity == Continuity::TooMany && !page.publications.is_empty() {
            return false;
        }
        if position.offset != page.top.offset {
            self.turn(page.top, Continuity::TooOld, relay);
        } else if position.epoch != page.top.epoch {
            self.turn(page.top, Continuity::Whole, relay);
        }
        true
    }

    /// Relays what was held and follows the page, in the order in which it came. Ends the repair where
    /// nothing is left, unless a later page is needed.
    fn relay_held(&mut self, mut needs_later_page: bool, relay: &Relay) {
        let Some(repair) = self.repair.as_deref_mut() else { return };
        let mut covered = std::mem::take(&mut repair.covered);
        let held = std::mem::take(&mut repair.held);
        repair.held_bytes = 0;
        for publication in held {
            let is_covered = covered > 0;
            covered = covered.saturating_sub(1);
            let Some(at) = publication.position() else { continue };
            match self.place(at) {
                Place::Next => self.relay_next(&publication, at, relay),
                Place::Past => {}
                // The page was read after it came, so it belongs to a stream that is no more.
                Place::Elsewhere if is_covered => {}
                Place::Elsewhere => {
                    needs_later_page = true;
                    self.hold(publication);
                }
            }
        }
        if !needs_later_page {
            self.repair = None;
        }
    }

    fn hold(&mut self, publication: Arc<Publication>) {
        if let Some(repair) = self.repair.as_deref_mut() {
            repair.hold(publication);
        }
    }

    fn place(&self, at: Position) -> Place {
        match self.position {
            Some(position) if position.epoch != at.epoch => Place::Elsewhere,
            Some(position) if at.offset <= position.offset => Place::Past,
            Some(position) if at.offset == position.offset + 1 => Place::Next,
            _ => Place::Elsewhere,
        }
    }

    fn relay_next(&mut self, publication: &Arc<Publication>, at: Position, relay: &Relay) {
        self.position = Some(at);
        relay.relay(publication);
    }

    fn turn(&mut self, to: Position, continuity: Continuity, relay: &Relay) {
        self.position = Some(to);
        relay.turned(&self.channel, to, continuity);
    }
}

impl Repair {
    /// Holds a publication until the page on its way has come. Where too much is held, all of it is dropped:
    /// the history has it.
    fn hold(&mut self, publication: Arc<Publication>) {
        self.held_bytes += publication.weight();
        if self.held.len() < MAX_HELD && self.held_bytes <= MAX_HELD_BYTES {
            self.held.push_back(publication);
        } else {
            self.held = VecDeque::new();
            self.held_bytes = 0;
            self.covered = 0;
            self.needs_later_page = true;
        }
    }
}

/// Where a publication belongs, as seen from the last position.
enum Place {
    Next,
    Past,
    /// After a hole, or in another epoch, or unknown because there is no position yet.
    Elsewhere,
}

/// Maximum number of publications that a follower holds while it reads.
pub const MAX_HELD: usize = 256;
/// Maximum number of bytes that a follower holds while it reads.
pub const MAX_HELD_BYTES: usize = 1024 * 1024;
/// Number of publications that are read at once.
const PAGE: u32 = 128;
#[cfg(test)]
mod tests;
