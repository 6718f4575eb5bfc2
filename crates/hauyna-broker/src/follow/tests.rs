//! A follower beside an oracle: a stream that is published in, trimmed, forked and restarted, and a network
//! that loses, repeats, delays and reorders what it relays.

use super::*;
use crate::{Content, Draft, Epoch, PublicationKind};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Mutex;

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(u8),
    /// Drops the oldest publications of the history.
    Trim(u8),
    /// Another epoch; the numbering continues, after the newest publications are lost.
    Fork(u8),
    /// Another epoch that starts at 1.
    Restart,
    /// The network delivers one publication of those that are on their way, perhaps not for the last time.
    Deliver(u8, bool),
    Lose(u8),
    StartRead,
    FinishRead,
    FailRead,
    Suspect,
    AskTop,
    Verify,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u8..6).prop_map(Step::Publish),
        1 => Just(Step::Publish(200)),
        2 => (1_u8..9).prop_map(Step::Trim),
        1 => Just(Step::Fork(0)),
        1 => (1_u8..5).prop_map(Step::Fork),
        1 => Just(Step::Restart),
        12 => (any::<u8>(), prop::bool::weighted(0.9)).prop_map(|(at, is_last)| Step::Deliver(at, is_last)),
        2 => any::<u8>().prop_map(Step::Lose),
        6 => Just(Step::StartRead),
        6 => Just(Step::FinishRead),
        1 => Just(Step::FailRead),
        1 => Just(Step::Suspect),
        2 => Just(Step::AskTop),
        2 => Just(Step::Verify),
    ]
}

/// The stream as it really is.
#[derive(Debug)]
struct Stream {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<Arc<Publication>>,
    /// The ends of earlier terms that the numbering has continued from.
    ends: HashMap<Epoch, u64>,
    next_epoch: u64,
    contents: HashMap<(Epoch, u64), u64>,
}

impl Stream {
    fn new() -> Self {
        let epoch = Epoch::new(1);
        Self {
            epoch,
            top: 0,
            kept: VecDeque::new(),
            ends: HashMap::new(),
            next_epoch: 2,
            contents: HashMap::new(),
        }
    }

    fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    fn publish(&mut self) -> Arc<Publication> {
        self.top += 1;
        let number = self.contents.len() as u64;
        self.contents.insert((self.epoch, self.top), number);
        let content = Content::of_protocol(number.to_string().into_bytes());
        let draft = Draft::with_content(channel(), PublicationKind::Message, content);
        let publication = Arc::new(draft.publication(Some(self.top())));
        self.kept.push_back(publication.clone());
        publication
    }

    fn fork(&mut self, lost: u64) {
        for _ in 0..lost.min(self.top) {
            self.kept.pop_back();
            self.top -= 1;
        }
        for end in self.ends.values_mut() {
            *end = self.top.min(*end);
        }
        self.ends.insert(self.epoch, self.top);
        self.change_epoch();
    }

    fn restart(&mut self) {
        (self.top, self.kept, self.ends) = (0, VecDeque::new(), HashMap::new());
        self.change_epoch();
    }

    fn change_epoch(&mut self) {
        self.epoch = Epoch::new(self.next_epoch);
        self.next_epoch += 1;
    }

    /// Whether a position belongs to this stream, so that it can be continued where nothing is too old.
    fn covers(&self, position: Position) -> bool {
        let end = if position.epoch == self.epoch {
            Some(self.top)
        } else {
            self.ends.get(&position.epoch).copied()
        };
        end.is_some_and(|end| position.offset <= end)
    }

    /// A page of at most seven publications.
    fn page(&self, range: HistoryRange) -> HistoryPage {
        let first = self.top + 1 - self.kept.len() as u64;
        let page = |publications, continuity| HistoryPage {
            top: self.top(),
            oldest: first,
            publications,
            continuity,
        };
        let Some(since) = range.since else { return page(Vec::new(), Continuity::Whole) };
        if !self.covers(since) {
            return page(Vec::new(), Continuity::EpochChanged);
        }
        if since.offset + 1 < first {
            return page(Vec::new(), Continuity::TooOld);
        }
        let wanted: Vec<_> = self.kept.iter().filter(|kept| kept.offset() > since.offset).cloned().collect();
        let limit = (range.limit as usize).min(7);
        let continuity = if wanted.len() > limit { Continuity::TooMany } else { Continuity::Whole };
        page(wanted.into_iter().take(limit).collect(), continuity)
    }
}

/// What the subscribers of this node get, checked against the stream.
#[derive(Debug, Default)]
struct Subscriber {
    position: Option<Position>,
    /// The continuity of the page that the follower is being given.
    page: Option<Continuity>,
    relayed: Vec<(Position, u64)>,
    faults: Vec<String>,
}

impl Subscriber {
    fn relayed(&mut self, publication: &Publication) {
        let at = publication.position().expect("a numbered publication");
        let number = std::str::from_utf8(publication.content().bytes()).unwrap().parse().unwrap();
        self.relayed.push((at, number));
        match self.position.replace(at) {
            Some(before) if before.epoch == at.epoch && before.offset + 1 == at.offset => {}
            before => self.faults.push(format!("{at:?} was relayed after {before:?}")),
        }
    }

    fn turned(&mut self, to: Position, continuity: Continuity) {
        let before = self.position.replace(to);
        let fault = match continuity {
            Continuity::Whole => before.is_none_or(|before| before.offset != to.offset),
            lost => self.page != Some(lost),
        };
        if fault {
            self.faults.push(format!("{continuity:?} to {to:?} was reported after {before:?}"));
        }
    }
}

struct World {
    stream: RefCell<Stream>,
    follower: Follower,
    relay: Relay,
    subscriber: Arc<Mutex<Subscriber>>,
    on_the_way: Vec<Arc<Publication>>,
    pending: Option<HistoryPage>,
    asked: Option<(Position, Position)>,
}

impl World {
    fn new() -> Self {
        let subscriber = Arc::new(Mutex::new(Subscriber::default()));
        let (receiver, turns) = (subscriber.clone(), subscriber.clone());
        let relay = Relay::to(move |publication| receiver.lock().unwrap().relayed(publication))
            .on_turn(move |_, to, continuity| turns.lock().unwrap().turned(to, continuity));
        let mut follower = Follower::new(channel());
        follower.suspect();
        let stream = RefCell::new(Stream::new());
        Self { stream, follower, relay, subscriber, on_the_way: Vec::new(), pending: None, asked: None }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish(count) => {
                for _ in 0..count {
                    self.on_the_way.push(self.stream.get_mut().publish());
                }
            }
            Step::Trim(count) => {
                let kept = &mut self.stream.get_mut().kept;
                kept.drain(..usize::from(count).min(kept.len()));
            }
            Step::Fork(lost) => self.stream.get_mut().fork(lost.into()),
            Step::Restart => self.stream.get_mut().restart(),
            Step::Deliver(at, is_last) => {
                let Some(index) = self.index(at) else { return };
                let publication = self.on_the_way[index].clone();
                if is_last {
                    self.on_the_way.remove(index);
                }
                self.follower.receive(publication, &self.relay);
            }
            Step::Lose(at) => {
                if let Some(index) = self.index(at) {
                    self.on_the_way.remove(index);
                }
            }
            Step::StartRead => {
                if let Some(range) = self.follower.next_read() {
                    self.pending = Some(self.stream.borrow().page(range));
                }
            }
            Step::FinishRead => self.finish_read(),
            Step::FailRead => {
                if self.pending.take().is_some() {
                    self.follower.read_failed();
                }
            }
            Step::Suspect => self.follower.suspect(),
            Step::AskTop => {
                self.asked = self.follower.position().map(|asked| (asked, self.stream.borrow().top()));
            }
            Step::Verify => {
                if let Some((asked, top)) = self.asked.take() {
                    self.follower.verify(asked, top);
                }
            }
        }
    }

    /// Mostly the first that was published, so that long stretches arrive in order.
    fn index(&self, at: u8) -> Option<usize> {
        let last = self.on_the_way.len().checked_sub(1)?;
        Some(if at < 160 { 0 } else { usize::from(at - 160).min(last) })
    }

    fn finish_read(&mut self) {
        let Some(page) = self.pending.take() else { return };
        if self.follower.position().is_none() {
            self.subscriber.lock().unwrap().position = Some(page.top);
        }
        self.subscriber.lock().unwrap().page = Some(page.continuity);
        self.follower.page(&page, &self.relay);
        self.subscriber.lock().unwrap().page = None;
    }

    /// The link comes back: whatever was on its way is lost, and the follower reads until it is whole.
    fn settle_after_loss(&mut self) {
        self.on_the_way.clear();
        self.finish_read();
        self.follower.suspect();
        self.read_until_whole();
    }

    /// Everything that is on its way arrives, the last publication as well.
    fn settle_by_arrivals(&mut self) {
        self.run(Step::Publish(1));
        while !self.on_the_way.is_empty() {
            self.run(Step::Deliver(0, true));
        }
        self.finish_read();
        self.read_until_whole();
    }

    fn read_until_whole(&mut self) {
        for _ in 0..2000 {
            self.run(Step::StartRead);
            self.run(Step::FinishRead);
        }
    }
}

fn channel() -> ChannelName {
    ChannelName::new("a").unwrap()
}

/// Runs the steps, brings the follower to rest by `settle`, and returns what is wrong.
fn faults_of(steps: Vec<Step>, settle: fn(&mut World)) -> Vec<String> {
    let mut world = World::new();
    for step in steps {
        world.run(step);
    }
    settle(&mut world);
    let stream = world.stream.borrow();
    let subscriber = world.subscriber.lock().unwrap();
    let mut faults = subscriber.faults.clone();
    if !world.follower.is_whole() || world.follower.position() != Some(stream.top()) {
        faults.push(format!("{:?} at rest is not the top {:?}", world.follower.position(), stream.top()));
    }
    for (at, number) in &subscriber.relayed {
        if stream.contents.get(&(at.epoch, at.offset)) != Some(number) {
            faults.push(format!("{number} was relayed as {at:?}"));
        }
    }
    faults
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_network_does_the_relay_is_exact(steps in vec(step(), 0..200)) {
        let faults = faults_of(steps, World::settle_after_loss);
        prop_assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn where_the_network_loses_nothing_what_arrives_is_enough(steps in vec(step(), 0..200)) {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Lose(_))).collect();
        let faults = faults_of(steps, World::settle_by_arrivals);
        prop_assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn more_than_can_be_held_is_read_from_the_history() {
    let mut world = World::new();
    world.run(Step::StartRead);
    for _ in 0..3 {
        world.run(Step::Publish(200));
        for _ in 0..200 {
            world.run(Step::Deliver(0, true));
        }
        assert!(world.follower.repair.as_ref().is_some_and(|repair| repair.held.len() <= MAX_HELD));
    }
    world.settle_after_loss();
    assert_eq!(world.subscriber.lock().unwrap().relayed.len(), 600);
}

#[test]
fn a_repeated_publication_asks_for_no_history() {
    let mut world = World::new();
    world.settle_after_loss();
    world.run(Step::Publish(3));
    for _ in 0..3 {
        world.run(Step::Deliver(0, false));
        world.run(Step::Deliver(0, true));
        assert!(world.follower.is_whole() && world.follower.next_read().is_none());
    }
    assert_eq!(world.subscriber.lock().unwrap().relayed.len(), 3);
}

#[test]
fn a_comparison_with_the_top_finds_what_was_lost_silently() {
    let mut world = World::new();
    world.settle_after_loss();
    world.run(Step::AskTop);
    world.run(Step::Publish(1));
    world.run(Step::Deliver(0, true));
    world.run(Step::Verify);
    assert!(world.follower.is_whole(), "what came while the top was on its way is not missing");
    for lose in [Step::Publish(1), Step::Fork(0), Step::Fork(1), Step::Restart] {
        world.run(lose);
        world.on_the_way.clear();
        world.run(Step::AskTop);
        world.run(Step::Verify);
        assert!(!world.follower.is_whole());
        world.settle_after_loss();
    }
    assert_eq!(world.subscriber.lock().unwrap().faults, Vec::<String>::new());
}

#[test]
fn a_publication_that_is_too_large_to_hold_is_read_from_the_history() {
    let mut world = World::new();
    world.run(Step::StartRead);
    let large = Content::of_protocol(vec![b'1'; MAX_HELD_BYTES]);
    let draft = Draft::with_content(channel(), PublicationKind::Message, large);
    let at = Position { offset: 1, ..world.stream.borrow().top() };
    world.follower.receive(Arc::new(draft.publication(Some(at))), &world.relay);
    assert_eq!(world.follower.repair.as_ref().map(|repair| repair.held.len()), Some(0));
    world.run(Step::FinishRead);
    assert!(world.follower.next_read().is_some(), "what was dropped is read");
}
