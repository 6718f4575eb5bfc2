//! The work of a shard: it collects a segment of what was posted, writes it, and flushes the connections for
//! which something was queued. It works in small steps, so that any holder of the lock can continue where
//! another one stopped. `task` calls it.

use super::budget::{PUSH_COST, SKIP_COST, WRITE_COST, WorkBudget};
use super::members::{Member, SubscriberLists};
use super::segment::{Chunk, Segment, Stage, Step, is_for};
use super::task_timeout::TaskTimeout;
use super::{Item, Shard};
use crate::channel::{ChannelCore, SubscriptionPhase};
use crate::connection::ConnectionCore;
use crate::hub::HubCore;
use hauyna_broker::{Publication, Target};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Fanout {
    subscriber_lists: SubscriberLists,
    /// Items that were taken from the inbox and not begun yet.
    batch: VecDeque<Item>,
    segment: Segment,
    /// Connections for which something is queued.
    queued: Vec<Arc<ConnectionCore>>,
    late_task: Option<LateTask>,
    task_timeout: TaskTimeout,
}

/// A connection whose task has to run before the work continues.
#[derive(Debug)]
struct LateTask {
    connection: Arc<ConnectionCore>,
    since: Instant,
}

/// What remains after some work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    Nothing,
    Some,
    /// A connection's task has to run first.
    Late,
}

impl Fanout {
    pub(super) fn new(shard: usize) -> Self {
        Self {
            subscriber_lists: SubscriberLists::new(shard),
            batch: VecDeque::new(),
            segment: Segment::default(),
            queued: Vec::new(),
            late_task: None,
            task_timeout: TaskTimeout::default(),
        }
    }

    /// Whether the work has to wait for a connection's task. A task that does not run for a long time makes
    /// nobody else wait.
    pub(super) fn must_wait_for_task(&mut self) -> bool {
        let Some(LateTask { connection, since }) = &self.late_task else { return false };
        if connection.sender().is_task_due() {
            let now = Instant::now();
            if now.saturating_duration_since(*since) < self.task_timeout.current(now) {
                return true;
            }
            connection.sender().mark_task_absent();
            self.task_timeout.note_timeout(now);
        }
        self.late_task = None;
        false
    }

    /// Works until nothing remains or `cost` is spent. Every step is noted as done before it begins, so that
    /// the work continues behind a step that panics.
    pub(super) fn process(&mut self, hub: &HubCore, shard: &Shard, cost: u32) -> Remaining {
        let mut budget = WorkBudget::new(cost);
        while !budget.is_spent() {
            match self.segment.stage {
                Stage::Collect => {
                    if !self.start_segment(hub, shard) {
                        return Remaining::Nothing;
                    }
                }
                Stage::Joined => self.write_joined(&mut budget),
                Stage::Ordered => self.write_in_order(&mut budget),
                Stage::Everybody => self.write_to_everybody(&mut budget),
                Stage::Flush => {
                    if self.flush(&mut budget) {
                        shard.note_processed(self.segment.finish(&mut self.subscriber_lists));
                    }
                }
            }
        }
        let Some(connection) = budget.waiting_for else { return Remaining::Some };
        // The work waits for the first such task; the others run meanwhile.
        if !self.late_task.as_ref().is_some_and(|late| late.connection.sender().is_task_due()) {
            self.late_task = Some(LateTask { connection, since: Instant::now() });
        }
        Remaining::Late
    }

    /// Begins the next segment. Returns whether there was anything to do.
    fn start_segment(&mut self, hub: &HubCore, shard: &Shard) -> bool {
        if self.batch.is_empty() {
            if self.batch.capacity() > MAX_SPARE_ENTRIES {
                self.batch = VecDeque::new();
            }
            std::mem::swap(&mut self.batch, &mut shard.inbox.lock().items);
            if self.batch.is_empty() {
                return false;
            }
        }
        while self.segment.load < MAX_SEGMENT_LOAD
            && self.segment.steps.len() < MAX_STEPS
            && let Some(item) = self.batch.pop_front()
        {
            if self.starts_new_segment(&item) {
                self.batch.push_front(item);
                break;
            }
            self.segment.load += item.load();
            self.start_item(hub, item);
        }
        let is_for_everybody = !self.segment.everybody.publications.is_empty();
        self.segment.start_stage(if is_for_everybody { Stage::Everybody } else { Stage::Joined });
        true
    }

    /// Whether an item may only begin after the segment has been written.
    fn starts_new_segment(&self, item: &Item) -> bool {
        let is_for_everybody = !self.segment.everybody.publications.is_empty();
        match item {
            Item::Everybody(_) => !self.segment.is_empty(),
            Item::Publish { .. } | Item::Direct { .. } | Item::User(_) | Item::Frame(_) => is_for_everybody,
            // Publications from before are not for this subscriber, or are left to its replay.
            Item::Subscribe { subscription, .. } | Item::Activate { subscription, .. } => {
                self.subscriber_lists.has_pending(&subscription.channel)
            }
            Item::EpochTurned { channel, .. } => self.subscriber_lists.has_pending(channel),
            Item::Unsubscribe(subscription) => {
                self.subscriber_lists.has_pending(&subscription.channel)
                    && self.subscriber_lists.is_last(subscription)
            }
            Item::Flush(_) => false,
        }
    }

    fn start_item(&mut self, hub: &HubCore, item: Item) {
        match item {
            Item::Publish { channel, publication, .. } => {
                if let Some(list) = self.subscriber_lists.number(&channel) {
                    self.segment.push_publication(list, &mut self.subscriber_lists, publication);
                }
            }
            Item::Subscribe { subscription, after } => {
                self.subscriber_lists.add(&subscription, after);
                enqueue(&mut self.queued, &subscription.connection);
            }
            Item::Activate { subscription, after } => {
                if subscription.connection.sender().activate(&subscription, after)
                    && let Some(member) = self.subscriber_lists.member(&subscription)
                {
                    member.after = after;
                }
                enqueue(&mut self.queued, &subscription.connection);
            }
            Item::Unsubscribe(subscription) => self.subscriber_lists.remove(&subscription),
            Item::EpochTurned { channel, notice } => self.restart_numbering(&channel, &notice),
            Item::Direct { connection, publication } => self.segment.push_direct(connection, publication),
            Item::User(publication) => {
                let Target::User(user) = publication.channel().target() else { return };
                for connection in hub.registry.of_user(user) {
                    if connection.shard() == self.subscriber_lists.shard() {
                        self.segment.push_direct(connection, publication.clone());
                    }
                }
            }
            Item::Everybody(publication) => {
                if self.segment.everybody.publications.is_empty() {
                    self.segment.everybody.connections = hub.registry.of_shard(self.subscriber_lists.shard());
                }
                self.segment.everybody.publications.push(publication);
            }
            Item::Frame(frame) => self.segment.push_frame(frame),
            Item::Flush(connection) => enqueue(&mut self.queued, &connection),
        }
    }

    /// Restarts the offsets of a channel's subscribers for the current epoch of the stream, and notifies
    /// them.
    fn restart_numbering(&mut self, channel: &ChannelCore, notice: &Arc<Publication>) {
        let Some(list) = self.subscriber_lists.number(channel) else { return };
        for Member { connection, subscription, after } in &mut self.subscriber_lists.list(list).members {
            *after = 0;
            let is_replaying = subscription.phase() == SubscriptionPhase::Replaying;
            if is_replaying || connection.is_negotiated() {
                // This is only one message, so the work does not wait for the connection's task.
                let _ = connection.sender().push_publication(notice, Some(subscription));
                enqueue(&mut self.queued, connection);
            }
        }
    }

    /// Writes to each connection that gets nothing else what its channel published, joined.
    fn write_joined(&mut self, budget: &mut WorkBudget) {
        let Self { subscriber_lists: lists, segment, queued, .. } = self;
        let is_alone = segment.is_of_one_channel();
        while let Some(number) = segment.pending_lists.get(segment.step).copied() {
            let list = lists.list(number);
            while segment.member < list.members.len() && !segment.chunk.range.is_empty() {
                if budget.is_spent() {
                    return;
                }
                if segment.member % PREFETCH_COUNT == 0 {
                    prefetch(&list.members[segment.member..]);
                }
                let member = &list.members[segment.member];
                segment.member += 1;
                if !is_alone && !segment.is_plain(&member.connection) {
                    budget.spend(SKIP_COST);
                    continue;
                }
                write_member(member, &mut segment.chunk, &list.pending, queued, budget);
            }
            if let Some(next) = segment.chunk.next(&list.pending) {
                segment.chunk = next;
                segment.member = 0;
                continue;
            }
            segment.chunk = Chunk::default();
            segment.member = 0;
            segment.step += 1;
        }
        segment.start_stage(if is_alone { Stage::Flush } else { Stage::Ordered });
    }

    /// Queues messages for all other connections, in the order of the steps.
    fn write_in_order(&mut self, budget: &mut WorkBudget) {
        let Self { subscriber_lists: lists, segment, queued, .. } = self;
        while let Some(step) = segment.steps.get(segment.step) {
            if budget.is_spent() {
                return;
            }
            let Step::Channel { list, pending } = step else {
                segment.step += 1;
                budget.spend(PUSH_COST);
                push_direct(&segment.steps[segment.step - 1], queued, budget);
                continue;
            };
            let (list, pending) = (lists.list(*list), pending.clone());
            let is_needed = list.has_several || !segment.directly_addressed.is_empty();
            while is_needed && segment.member < list.members.len() {
                if budget.is_spent() {
                    return;
                }
                let member = &list.members[segment.member];
                segment.member += 1;
                budget.spend(SKIP_COST);
                segment.has_seen_several |= !member.connection.subscription_list().has_one_list();
                if !segment.is_plain(&member.connection) {
                    budget.spend(PUSH_COST * u32::try_from(pending.len()).unwrap_or(u32::MAX));
                    push_each(member, &list.pending[pending.clone()], budget);
                    enqueue(queued, &member.connection);
                }
            }
            if is_needed {
                list.has_several = segment.has_seen_several;
            }
            segment.has_seen_several = false;
            segment.member = 0;
            segment.step += 1;
        }
        segment.start_stage(Stage::Flush);
    }

    fn write_to_everybody(&mut self, budget: &mut WorkBudget) {
        let Segment { everybody, chunk, member, .. } = &mut self.segment;
        loop {
            while !chunk.range.is_empty()
                && let Some(connection) = everybody.connections.get(*member)
            {
                if budget.is_spent() {
                    return;
                }
                *member += 1;
                budget.spend(WRITE_COST);
                let all = &everybody.publications;
                let publications = &all[chunk.range.clone()];
                if chunk.is_whole_for(connection, 0, all) {
                    let joined = chunk.joined(all, connection.wire(), connection.deflate());
                    let urgency = connection.sender().write_publications(joined, publications, None);
                    budget.follow(connection, urgency);
                } else {
                    for publication in publications {
                        if !connection.is_excluded_from(publication) {
                            budget
                                .follow(connection, connection.sender().push_publication(publication, None));
                        }
                    }
                    enqueue(&mut self.queued, connection);
                }
            }
            let Some(next) = chunk.next(&everybody.publications) else { break };
            *chunk = next;
            *member = 0;
        }
        self.segment.start_stage(Stage::Flush);
    }

    /// Flushes the connections for which something was queued. Returns whether all are flushed.
    fn flush(&mut self, budget: &mut WorkBudget) -> bool {
        while let Some(connection) = self.queued.pop() {
            connection.sender().flush_enqueued();
            budget.spend(WRITE_COST);
            if budget.is_spent() && !self.queued.is_empty() {
                return false;
            }
        }
        if self.queued.capacity() > MAX_SPARE_ENTRIES {
            self.queued = Vec::new();
        }
        true
    }
}

fn write_member(
    member: &Member,
    chunk: &mut Chunk,
    pending: &[Arc<Publication>],
    queued: &mut Vec<Arc<ConnectionCore>>,
    budget: &mut WorkBudget,
) {
    let Member { connection, subscription, after } = member;
    budget.spend(WRITE_COST);
    let publications = &pending[chunk.range.clone()];
    if chunk.is_whole_for(connection, *after, pending) {
        let joined = chunk.joined(pending, connection.wire(), connection.deflate());
        let urgency = connection.sender().write_publications(joined, publications, Some(subscription));
        budget.follow(connection, urgency);
    } else {
        push_each(member, publications, budget);
        enqueue(queued, connection);
    }
}

fn push_each(member: &Member, publications: &[Arc<Publication>], budget: &mut WorkBudget) {
    let Member { connection, subscription, after } = member;
    for publication in publications {
        if is_for(publication, subscription, *after) {
            budget.follow(connection, connection.sender().push_publication(publication, Some(subscription)));
        }
    }
}

fn push_direct(step: &Step, queued: &mut Vec<Arc<ConnectionCore>>, budget: &mut WorkBudget) {
    match step {
        Step::Channel { .. } => {}
        Step::Direct(connection, publication) => {
            if !connection.is_excluded_from(publication) {
                budget.follow(connection, connection.sender().push_publication(publication, None));
                enqueue(queued, connection);
            }
        }
        Step::Frame(frame) => {
            let connection = &frame.connection;
            budget.follow(connection, connection.sender().push_frame(frame.frame.clone(), frame.origin));
            enqueue(queued, &frame.connection);
        }
    }
}

/// Adds a connection to the list if something is queued for it.
fn enqueue(queued: &mut Vec<Arc<ConnectionCore>>, connection: &Arc<ConnectionCore>) {
    if connection.sender().enqueue_for_flush() {
        queued.push(connection.clone());
    }
}

/// Loads the connections that are written to next. They are scattered over the memory, and the kernel has
/// evicted them from the CPU caches since the last time: loaded together, their cache misses overlap instead
/// of following one another.
fn prefetch(members: &[Member]) {
    let next = &members[..members.len().min(PREFETCH_COUNT)];
    std::hint::black_box(
        next.iter().fold(0, |sum: u32, member| sum.wrapping_add(member.connection.sender().prefetch())),
    );
}

/// Number of connections that are loaded together.
const PREFETCH_COUNT: usize = 16;
/// Steps of one segment, approximately: a message to a user with many connections is one step for each of
/// them.
const MAX_STEPS: usize = 4096;
/// Load of the items that are written together.
const MAX_SEGMENT_LOAD: u64 = 1024;
/// Entries up to which a list is kept for the next time.
const MAX_SPARE_ENTRIES: usize = 4096;
