//! The registered listeners, and how they run: in order, each with a timeout, isolated from the next. A list
//! is replaced as a whole when it changes, so that no listener is called under a lock. Called by `Events` and
//! by the hub's `background`.

use super::queue::{ListenerTurn, Queue};
use super::system::{SystemEvent, SystemKind};
use super::{Event, Flow};
use crate::background::{Due, Job};
use crate::contain::{self, Contained, Foreign};
use crate::error::Error;
use crate::hub::{Hub, HubCore};
use hauyna_broker::BoxFuture;
use hauyna_protocol::{ErrorType, Raw};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Identifier of the next listener. It is unique in the process, so that a hub does not remove a listener of
/// another one.
static NEXT_LISTENER: AtomicU64 = AtomicU64::new(1);

pub(super) type Callbacks = BoxFuture<Result<Flow, Error>>;
/// The future of a listener, or the error for data that cannot be decoded.
pub(super) type Decoded = Result<Callbacks, Error>;
type NamedCallback = Box<dyn Fn(Event, Raw<'_>) -> Decoded + Send + Sync>;
type SystemCallback = Box<dyn Fn(Event, SystemEvent) -> Callbacks + Send + Sync>;

/// The listeners of one hub, and the queue of its system events.
pub(crate) struct Listeners {
    /// The kinds that have listeners, as bits. Without a listener, `emit` reads nothing else.
    listened_kinds: AtomicU32,
    named: Mutex<HashMap<Box<str>, List<NamedCallback>>>,
    system: Mutex<List<SystemCallback>>,
    queue: Queue,
    hub: Weak<HubCore>,
}

/// Identifies a listener, to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

/// The result of running the listeners of one event.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Number of listeners that have run, with or without an error.
    pub ran: usize,
    /// Whether a listener stopped those after it.
    pub stopped: bool,
    /// The listeners that failed, in order.
    pub failures: Vec<Failure>,
}

/// A listener that failed: by an error that it returned, by data that cannot be decoded (`validation_error`),
/// by a panic (`internal_error`), or by a timeout (`timeout`).
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The listener.
    pub listener: ListenerId,
    /// The error with which it failed.
    pub error: Error,
}

pub(super) struct Listener<F> {
    id: ListenerId,
    priority: i32,
    kinds: u32,
    f: Foreign<F>,
}

type List<F> = Arc<[Arc<Listener<F>>]>;

/// The listeners of system events at one moment.
pub(super) type SystemListeners = List<SystemCallback>;

impl Listeners {
    pub(crate) fn new(hub: Weak<HubCore>) -> Self {
        Self {
            listened_kinds: AtomicU32::new(0),
            named: Mutex::default(),
            system: Mutex::new(Arc::from([])),
            queue: Queue::default(),
            hub,
        }
    }

    /// Queues a system event for the listeners of this kind, if there are any. Only the macro `emit!` calls
    /// it, under any lock of the hub: the lock of the queue is innermost, and listeners run later.
    #[inline]
    pub(crate) fn emit(&self, kind: SystemKind, event: impl FnOnce() -> SystemEvent) {
        if self.listened_kinds.load(Ordering::Relaxed) & kind.bit() != 0 {
            self.push(event());
        }
    }

    #[cold]
    fn push(&self, event: SystemEvent) {
        if self.queue.push(event)
            && let Some(hub) = self.hub.upgrade()
        {
            hub.background.ensure_running(Job::Events);
        }
    }

    /// Whether there is a listener for any of these kinds.
    pub(crate) fn has_listener_for(&self, kinds: &[SystemKind]) -> bool {
        let bits = kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        self.listened_kinds.load(Ordering::Relaxed) & bits != 0
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn add_named(&self, event: &str, priority: i32, f: NamedCallback) -> ListenerId {
        let listener = Self::listener(priority, 0, f);
        let id = listener.id;
        let mut named = self.named.lock();
        let list = named.entry(event.into()).or_insert_with(|| Arc::from([]));
        *list = list_with(list, listener);
        id
    }

    pub(super) fn add_system(
        &self,
        kinds: impl IntoIterator<Item = SystemKind>,
        priority: i32,
        f: SystemCallback,
    ) -> ListenerId {
        let kinds = kinds.into_iter().fold(0, |bits, kind| bits | kind.bit());
        let listener = Self::listener(priority, kinds, f);
        let id = listener.id;
        let mut system = self.system.lock();
        *system = list_with(&system, listener);
        self.listened_kinds.fetch_or(kinds, Ordering::Relaxed);
        id
    }

    fn listener<F>(priority: i32, kinds: u32, f: F) -> Listener<F> {
        let id = ListenerId(NEXT_LISTENER.fetch_add(1, Ordering::Relaxed));
        Listener { id, priority, kinds, f: Foreign::new(f) }
    }

    pub(super) fn remove(&self, id: ListenerId) -> bool {
        // The lists are dropped after their locks, because dropping a listener drops values of the
        // application.
        let mut old = None;
        let mut system = self.system.lock();
        if let Some(list) = list_without(&system, id) {
            let kinds = list.iter().fold(0, |bits, listener| bits | listener.kinds);
            self.listened_kinds.store(kinds, Ordering::Relaxed);
            old = Some(std::mem::replace(&mut *system, list));
        }
        drop(system);
        if old.is_some() {
            return true;
        }
        let mut named = self.named.lock();
        let found =
            named.iter().find_map(|(name, list)| list_without(list, id).map(|list| (name.clone(), list)));
        let Some((name, list)) = found else { return false };
        let old = if list.is_empty() { named.remove(&name) } else { named.insert(name, list) };
        drop(named);
        drop(old);
        true
    }

    pub(super) async fn trigger(&self, event: &Event, data: Raw<'_>) -> Outcome {
        let list = self.named.lock().get(event.name()).cloned();
        let mut outcome = Outcome::default();
        for listener in list.iter().flat_map(|list| list.iter()) {
            let result = run(event, || (listener.f)(event.clone(), data)).await;
            if outcome.record(event, listener.id, result) == Flow::Stop {
                break;
            }
        }
        outcome
    }

    /// Runs listeners for the events that wait, up to `MAX_NOTIFIED_PER_TURN` at a time. Where another task
    /// has taken over meanwhile, the running listener still finishes, and no other one follows.
    pub(crate) async fn notify_pending(&self, hub: &Arc<HubCore>, is_superseded: impl Fn() -> bool) -> Due {
        for _ in 0..MAX_NOTIFIED_PER_TURN {
            let next = self.queue.next(|| self.system.lock().clone());
            let Some(turn) = next else { return Due::Never };
            let number = turn.number;
            if self.notify_next(hub, turn).await == Flow::Stop {
                self.queue.end_event(number);
            }
            if is_superseded() {
                return Due::Never;
            }
        }
        Due::Now
    }

    /// Runs one listener, where it listens to the event. Returns `Stop` where no listener is left.
    async fn notify_next(&self, hub: &Arc<HubCore>, turn: ListenerTurn) -> Flow {
        let ListenerTurn { event: system_event, listeners, index, .. } = turn;
        let Some(listener) = listeners.get(index) else { return Flow::Stop };
        if listener.kinds & system_event.kind().bit() == 0 {
            return Flow::Continue;
        }
        let event = Event::of_system(Hub(hub.clone()), &system_event);
        let result = run(&event, || Ok((listener.f)(event.clone(), system_event))).await;
        let mut outcome = Outcome::default();
        let flow = outcome.record(&event, listener.id, result);
        outcome.failures.into_iter().for_each(|failure| failure.error.discard(&hub.metrics.panics));
        flow
    }
}

impl Outcome {
    fn record(&mut self, event: &Event, listener: ListenerId, result: Result<Flow, Error>) -> Flow {
        self.ran += 1;
        match result {
            Ok(flow) => {
                self.stopped = flow == Flow::Stop;
                flow
            }
            Err(error) => {
                crate::log::limited("listener", || {
                    let name = crate::log::name(event.name());
                    let error = crate::log::error_text(&error).counting(&event.hub.0.metrics.panics);
                    tracing::warn!(target: "hauyna::event", event = %name, ?listener, %error, "a listener failed");
                });
                self.failures.push(Failure { listener, error });
                Flow::Continue
            }
        }
    }
}

/// Runs one listener until it finishes, or until its timeout.
async fn run(event: &Event, call: impl FnOnce() -> Decoded) -> Result<Flow, Error> {
    let hub = &event.hub.0;
    let panicked = |_| Error::other("a listener panicked");
    let future = contain::call(&hub.metrics.panics, call).map_err(panicked)??;
    let ran = Contained::new(&hub.metrics.panics, future);
    match crate::clock::timeout(hub.config.listener_timeout, ran).await {
        Ok(result) => result.map_err(panicked)?,
        Err(late) => Err(late.error(|| Error::protocol(ErrorType::Timeout, "the listener took too long"))),
    }
}

/// Returns the list with one more listener, after those of its priority.
fn list_with<F>(list: &List<F>, listener: Listener<F>) -> List<F> {
    let mut list = list.to_vec();
    let index = list.partition_point(|other| other.priority >= listener.priority);
    list.insert(index, Arc::new(listener));
    list.into()
}

/// Returns the list without one listener; `None` where it does not have it.
fn list_without<F>(list: &List<F>, id: ListenerId) -> Option<List<F>> {
    let others = list.iter().filter(|listener| listener.id != id).cloned().collect::<List<F>>();
    (others.len() < list.len()).then_some(others)
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("listened_kinds", &self.listened_kinds).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Listener<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Maximum number of listeners in one turn, before other tasks of the thread run.
const MAX_NOTIFIED_PER_TURN: usize = 16;
