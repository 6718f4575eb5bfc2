//! What the slow-consumer policies do to the data lane: which publications are dropped, superseded and
//! reported as gaps, and which are held behind a replay. `outbox` calls it when the socket accepts nothing
//! more.

use super::Outgoing;
use super::lanes::Lanes;
use super::queue::OutboxFull;
use super::queued::{Gap, Queued};
use crate::channel::{EpochTurn, SlowConsumer, Subscription, notice};
use hauyna_broker::{Publication, PublicationKind};
use std::sync::Arc;

impl Lanes {
    /// Handles a live publication for a subscriber that catches up. A numbered publication is in the history,
    /// too, and comes with the replay; any other is held behind the replay, or becomes part of a gap there. A
    /// subscriber that catches up does not lag, so no policy acts.
    pub(super) fn leave_to_replay(
        &mut self,
        publication: &Arc<Publication>,
        subscription: &Arc<Subscription>,
        out: Outgoing<'_>,
    ) {
        if let Some(position) = publication.position() {
            return self.replays.note_delivered(subscription, position);
        }
        if publication.is_epoch_turn() {
            return self.replays.note_turn(subscription);
        }
        if publication.is_client_event() {
            return out.traffic.client_events_dropped.increment(); // outdated when the replay ends
        }
        let bytes = publication.frame(out.wire, out.deflate).len();
        if !self.replays.hold(publication, subscription, bytes, out.bounds) {
            count_dropped(publication, out);
        }
    }

    /// Ends the replay of a subscription: the publications that were held behind it follow.
    pub(super) fn release_held(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) {
        let Some(held) = self.replays.remove(subscription) else { return };
        // They count as a part of the replay: a client that reads it does not lag, and has the whole bounds
        // for later messages.
        for publication in held.publications {
            self.push_replayed(&publication, subscription, out);
        }
        if held.has_dropped {
            let gap = Gap { subscription: subscription.clone(), after: None, missed: 0, frame: None };
            self.data.push_back(Queued::Gap(gap));
            self.gaps += 1;
            self.new_gaps += 1;
        }
    }

    /// Queues a notice for a subscriber that catches up: the stream continues under another epoch.
    pub(super) fn push_turn(
        &mut self,
        subscription: &Arc<Subscription>,
        turned: EpochTurn,
        out: Outgoing<'_>,
    ) {
        let notice = Arc::new(notice(&subscription.channel, turned));
        self.data_bytes += notice.frame(out.wire, out.deflate).len();
        self.data.push_back(Queued::Publication(notice, Some(subscription.clone())));
    }

    pub(super) fn push_publication(
        &mut self,
        publication: &Arc<Publication>,
        subscription: Option<&Arc<Subscription>>,
        out: Outgoing<'_>,
    ) -> Result<(), OutboxFull> {
        let bytes = publication.frame(out.wire, out.deflate).len();
        let policy = subscription
            .map_or(SlowConsumer::Disconnect, |subscription| subscription.channel.options.slow_consumer);
        if let (SlowConsumer::Conflate, Some(subscription), true) = (policy, subscription, out.may_conflate)
            && let Some(index) = self.superseded_index(subscription, publication)
        {
            self.drop_at(index, out);
        }
        if !self.has_room(out.bounds, bytes) {
            let subscription = match (policy, subscription) {
                (SlowConsumer::Disconnect, _) | (_, None) => return Err(OutboxFull),
                (_, Some(subscription)) => subscription,
            };
            if policy == SlowConsumer::DropNewest && !publication.is_epoch_turn() {
                self.add_gap_at_end(subscription, publication, out);
                return Ok(());
            }
            while !self.has_room(out.bounds, bytes) {
                if !self.drop_oldest(subscription, out) {
                    if publication.is_epoch_turn() {
                        return Err(OutboxFull);
                    }
                    self.add_gap_at_end(subscription, publication, out);
                    return Ok(());
                }
            }
        }
        self.data_bytes += bytes;
        self.data.push_back(Queued::Publication(publication.clone(), subscription.cloned()));
        Ok(())
    }

    /// Whether something is queued whose policy is to disconnect.
    pub(super) fn is_disconnecting(&self) -> bool {
        self.data.iter().any(|queued| match queued {
            Queued::Frame(_) | Queued::Publication(_, None) => true,
            Queued::Publication(_, Some(subscription)) => {
                subscription.channel.options.slow_consumer == SlowConsumer::Disconnect
            }
            Queued::Reply(_) | Queued::Replayed(..) | Queued::Gap(_) => false,
        })
    }

    /// Whether this publication would supersede a queued one.
    pub(super) fn would_conflate(&self, new: &Publication, subscription: Option<&Arc<Subscription>>) -> bool {
        subscription.is_some_and(|subscription| {
            subscription.channel.options.slow_consumer == SlowConsumer::Conflate
                && self.superseded_index(subscription, new).is_some()
        })
    }

    fn superseded_index(&self, subscription: &Arc<Subscription>, new: &Publication) -> Option<usize> {
        if new.is_epoch_turn() {
            return None;
        }
        self.data.iter().position(|queued| match queued {
            Queued::Publication(old, Some(_)) if queued.belongs_to(subscription) => {
                old.kind() == new.kind() && old.conflate() == new.conflate()
            }
            _ => false,
        })
    }

    fn drop_oldest(&mut self, subscription: &Arc<Subscription>, out: Outgoing<'_>) -> bool {
        let oldest = self.data.iter().position(|queued| match queued {
            Queued::Publication(publication, _) => {
                !publication.is_epoch_turn() && queued.belongs_to(subscription)
            }
            _ => false,
        });
        oldest.is_some_and(|index| {
            self.drop_at(index, out);
            true
        })
    }

    /// Turns a queued publication into a gap, or adds it to the gap before it.
    fn drop_at(&mut self, index: usize, out: Outgoing<'_>) {
        let Queued::Publication(publication, Some(subscription)) = &self.data[index] else { return };
        let (publication, subscription) = (publication.clone(), subscription.clone());
        self.data_bytes -= publication.frame(out.wire, out.deflate).len();
        count_dropped(&publication, out);
        // Publications on two sides of an epoch turn never count as one gap.
        let earlier = self.data.range(..index).rposition(|queued| {
            let is_turn = matches!(queued, Queued::Publication(other, _) if other.is_epoch_turn());
            (is_turn || matches!(queued, Queued::Gap(_))) && queued.belongs_to(&subscription)
        });
        if let Some(earlier) = earlier.filter(|earlier| matches!(self.data[*earlier], Queued::Gap(_))) {
            self.widen_gap(earlier, &publication);
            self.data.remove(index);
        } else {
            self.data[index] = Queued::Gap(Gap::of(&publication, subscription));
            self.gaps += 1;
            self.new_gaps += 1;
        }
    }

    fn add_gap_at_end(
        &mut self,
        subscription: &Arc<Subscription>,
        publication: &Publication,
        out: Outgoing<'_>,
    ) {
        count_dropped(publication, out);
        // One gap covers everything after the channel's last message here. Otherwise channels that overflow
        // in turn would queue one gap each time.
        let last = self.data.iter().rposition(|queued| queued.belongs_to(subscription));
        match last {
            Some(index) if matches!(self.data[index], Queued::Gap(_)) => self.widen_gap(index, publication),
            _ => {
                self.data.push_back(Queued::Gap(Gap::of(publication, subscription.clone())));
                self.gaps += 1;
                self.new_gaps += 1;
            }
        }
    }

    /// Adds one missing message to a gap.
    fn widen_gap(&mut self, index: usize, publication: &Publication) {
        let Queued::Gap(gap) = &mut self.data[index] else { return };
        gap.add(publication);
        if let Some(frame) = gap.frame.take() {
            self.data_bytes -= frame.len();
            self.gaps += 1;
        }
    }
}

fn count_dropped(publication: &Publication, out: Outgoing<'_>) {
    if publication.kind() != PublicationKind::Event {
        out.traffic.dropped.increment();
    }
}
