//! What all workloads share: the target, the clock, the phases of a run, and the counters. Opens the
//! connections and runs the warm-up, the measurement and the wait for what is still outstanding.

use super::connection::{Connection, End, Setup};
use super::mark::Marks;
use super::options::Common;
use super::progress::Progress;
use super::protocol;
use super::recorder::{Faults, Recorder};
use super::report::thousands;
use super::system;
use super::target::{Reach, Target};
use anyhow::Context;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One run of the tool.
#[derive(Debug)]
pub(super) struct BenchRun {
    pub(super) url: String,
    pub(super) target: Target,
    pub(super) conns: u32,
    pub(super) size: usize,
    pub(super) msgs: Option<u64>,
    pub(super) marks: Marks,
    pub(super) scratch: RefCell<Vec<u8>>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) faults: RefCell<Faults>,
    pub(super) progress: Progress,
    burst: u32,
    warmup: Duration,
    limit: Duration,
    origin: Instant,
    phase: watch::Sender<Phase>,
    interrupted: Cell<bool>,
    connect_s: Cell<Option<f64>>,
    cpu_share: Cell<Option<f64>>,
}

/// Phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    WarmUp,
    Measure,
    /// Nothing more is sent, arrivals still count.
    Drain,
    /// Nothing more is counted.
    Over,
}

impl BenchRun {
    /// Checks everything that can be checked before connecting. `ports` is the number of local ports, for
    /// workloads that use more than one per connection.
    pub(super) fn prepare(common: &Common, size: usize, ports: u32) -> anyhow::Result<Rc<Self>> {
        let reach = if common.allow_remote { Reach::Anywhere } else { Reach::Loopback };
        let target = Target::resolve(&common.url, reach, common.conns.max(ports))?;
        system::allow_descriptors(common.conns)?;
        let id = RandomState::new().build_hasher().finish() as u32;
        Ok(Rc::new(Self {
            url: common.url.clone(),
            target,
            conns: common.conns,
            size: common.size.unwrap_or(size),
            msgs: common.msgs,
            marks: Marks::new(id),
            scratch: RefCell::new(vec![0; READ]),
            recorder: RefCell::new(Recorder::new()),
            faults: RefCell::default(),
            progress: Progress::new(common.json),
            burst: common.burst,
            warmup: common.warmup,
            limit: common.limit(),
            origin: Instant::now(),
            phase: watch::Sender::new(Phase::WarmUp),
            interrupted: Cell::new(false),
            connect_s: Cell::default(),
            cpu_share: Cell::default(),
        }))
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn instant(&self, nanos: u64) -> Instant {
        self.origin + Duration::from_nanos(nanos)
    }

    pub(super) fn setup(&self) -> Setup {
        Setup { message: self.size + ENVELOPE, receive_buffer: None }
    }

    /// Returns the seconds that connecting took; `None` for workloads that connect as they run.
    pub(super) fn connect_s(&self) -> Option<f64> {
        self.connect_s.get()
    }

    /// Returns the share of a core that the tool itself used during the measurement.
    pub(super) fn cpu_share(&self) -> Option<f64> {
        self.cpu_share.get()
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.phase() >= Phase::Drain
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until the run has reached `phase`.
    pub(super) async fn reaches(&self, phase: Phase) {
        // This cannot fail: `self` holds the sender.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Ends the sending part.
    pub(super) fn finish(&self) {
        self.advance(Phase::Drain);
    }

    /// Ends the counting.
    pub(super) fn close(&self) {
        self.advance(Phase::Over);
    }

    /// Records a connection that ended unexpectedly.
    pub(super) fn ended(&self, end: End) {
        if self.phase() == Phase::Over {
            return;
        }
        let mut faults = self.faults.borrow_mut();
        *faults.closed.entry(end.code()).or_default() += 1;
        faults.error(end.to_string());
    }

    /// Handles a message that is no delivery: counts an error, ignores anything else.
    pub(super) fn other(&self, message: &[u8]) {
        if let Some(complaint) = protocol::complaint(message) {
            self.faults.borrow_mut().error(complaint);
        }
    }

    /// Opens all connections, `--burst` at a time. Returns the first error.
    pub(super) async fn open_all<T: 'static>(
        self: &Rc<Self>,
        open: impl AsyncFn(u32) -> anyhow::Result<T> + 'static,
    ) -> anyhow::Result<Vec<T>> {
        self.progress.part("connecting", u64::from(self.conns));
        let start = Instant::now();
        let opened: Rc<RefCell<Vec<Option<T>>>> = Rc::default();
        opened.borrow_mut().resize_with(self.conns as usize, || None);
        let (next, done, open) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(open));
        let mut openers = JoinSet::new();
        for _ in 0..self.burst.min(self.conns) {
            let (run, opened) = (self.clone(), opened.clone());
            let (next, done, open) = (next.clone(), done.clone(), open.clone());
            openers.spawn_local(async move {
                while next.get() < run.conns && !run.is_draining() {
                    let number = next.replace(next.get() + 1);
                    let connection = open(number).await?;
                    opened.borrow_mut()[number as usize] = Some(connection);
                    done.set(done.get() + 1);
                    run.progress.at(done.get());
                }
                anyhow::Ok(())
            });
        }
        let connecting = async {
            while let Some(ended) = openers.join_next().await {
                ended.context("a connecting task failed")??;
            }
            Ok(())
        };
        tokio::select! {
            done = connecting => done,
            () = self.reaches(Phase::Drain) => Err(anyhow::anyhow!("interrupted before anything was measured")),
        }?;
        self.connect_s.set(Some(start.elapsed().as_secs_f64()));
        Ok(opened.take().into_iter().flatten().collect())
    }

    /// Opens one connection, and subscribes it if `channel` is given.
    pub(super) async fn open(
        &self,
        number: u32,
        setup: Setup,
        channel: Option<&str>,
    ) -> anyhow::Result<Connection> {
        let mut connection = Connection::open(&self.target, number, setup)
            .await
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.url))?;
        if let Some(channel) = channel {
            protocol::subscribe(&mut connection, channel, &self.scratch).await?;
        }
        Ok(connection)
    }

    /// Runs the warm-up and the measurement, and returns when sending is over. `arrivals` is the number of
    /// arrivals per message, counted in `unit`.
    pub(super) async fn drive(&self, arrivals: u64, unit: &str) {
        self.progress.part("warming up", millis(self.warmup));
        self.pass(self.warmup, || 0.0).await;
        self.recorder.borrow_mut().begin(self.now());
        self.advance(Phase::Measure);
        self.progress.part("measuring", millis(self.limit));
        let (start, cpu) = (Instant::now(), system::cpu_time());
        let expected = self.msgs.map_or(f64::INFINITY, |msgs| msgs.saturating_mul(arrivals) as f64);
        self.pass(self.limit, || {
            let recorder = self.recorder.borrow();
            self.progress.say(format!("{} {unit}/s", thousands(recorder.throughput())));
            recorder.count() as f64 / expected
        })
        .await;
        let used = system::cpu_time().saturating_sub(cpu);
        self.cpu_share.set(Some(used.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-9)));
        self.finish();
        self.progress.say("waiting for the last".to_owned());
    }

    /// Waits while the connections are idle.
    pub(super) async fn pause(&self) {
        self.progress.part("idle", millis(self.limit));
        self.pass(self.limit, || 0.0).await;
    }

    /// Waits until `time` has passed or the run ends. `done` returns the share of the work that is done.
    async fn pass(&self, time: Duration, done: impl Fn() -> f64) {
        let start = Instant::now();
        while let Some(remaining) = time.checked_sub(start.elapsed()).filter(|remaining| !remaining.is_zero())
        {
            let tick = remaining.min(TICK);
            if tokio::time::timeout(tick, self.reaches(Phase::Drain)).await.is_ok() {
                return;
            }
            self.progress.at(millis(start.elapsed().max(time.mul_f64(done().min(1.0)))));
        }
    }

    /// Waits until nothing is outstanding, as long as something still arrives; then one tick more, for
    /// duplicates.
    pub(super) async fn wait_for_rest(&self, outstanding: impl Fn() -> u64) {
        let (mut fewest, mut since) = (outstanding(), Instant::now());
        while fewest > 0 && since.elapsed() < IDLE_TIMEOUT {
            tokio::time::sleep(TICK / 10).await;
            let now = outstanding();
            if now < fewest {
                (fewest, since) = (now, Instant::now());
            }
        }
        tokio::time::sleep(TICK).await;
    }

    /// Ends the measurement early. The report covers what was measured so far.
    pub(super) fn interrupt(&self) {
        self.interrupted.set(true);
        self.finish();
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_later = to > *phase;
            *phase = to.max(*phase);
            is_later
        });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Size of the read buffer, in bytes.
const READ: usize = 64 << 10;
/// Bytes that a server may add to the content.
const ENVELOPE: usize = 16 << 10;
const TICK: Duration = Duration::from_millis(100);
/// How long to wait for outstanding messages while none arrives.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
