//! The workloads `fanout` and `slow`: subscribers spread over channels and one publisher per channel, at a
//! fixed rate or with a fixed number of publications outstanding. Checks the order at each subscriber.

use super::connection::{Connection, End, Reader, Setup, Writer};
use super::mark::{Envelope, Mark, Template};
use super::options::Channels;
use super::order::{Order, OrderCheck};
use super::outstanding::Outstanding;
use super::protocol;
use super::report::{Report, count, number, thousands};
use super::runner::{BenchRun, Phase};
use super::stalled;
use anyhow::bail;
use hauyna_websocket::OpCode;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_local};

/// Channels, pace and stalled subscribers of a run.
#[derive(Debug)]
pub(super) struct Plan {
    channels: u32,
    name: String,
    pace: Pace,
    /// Number of subscribers that stop reading: the last ones.
    stalled: u32,
}

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// A number of outstanding publications.
    Window(u32),
    /// Publications per second.
    Rate(f64),
}

impl Plan {
    /// Returns the plan of `fanout`.
    pub(super) fn of(channels: Channels, run: &BenchRun) -> anyhow::Result<Self> {
        if channels.channels > run.conns {
            bail!(
                "--channels must be at most --conns: {} channels, {} connections",
                channels.channels,
                run.conns
            );
        }
        let pace = match (channels.rate, channels.window) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, window) => Pace::Window(window.unwrap_or(1)),
        };
        Ok(Self { channels: channels.channels, name: channels.channel, pace, stalled: 0 })
    }

    /// Returns the plan of `slow`.
    pub(super) fn stalled(
        mut channels: Channels,
        stalled: Option<u32>,
        run: &BenchRun,
    ) -> anyhow::Result<Self> {
        if channels.window.is_none() {
            channels.rate.get_or_insert(SLOW_RATE);
        }
        let stalled = stalled.unwrap_or((run.conns / 10).max(1));
        let plan = Self::of(channels, run)?;
        if stalled == 0 || stalled > run.conns - plan.channels {
            bail!(
                "--stalled must be from 1 to {}, so that every channel keeps its publisher",
                run.conns - plan.channels
            );
        }
        Ok(Self { stalled, ..plan })
    }

    fn terms(&self) -> (String, String) {
        let channels = number(self.channels, "channel");
        let pace = match self.pace {
            Pace::Window(window) => format!("closed loop, {} outstanding", count(window)),
            Pace::Rate(rate) => format!("open loop, {}/s", thousands(rate)),
        };
        (channels, pace)
    }
}

struct Fanout {
    run: Rc<BenchRun>,
    plan: Plan,
    /// Number of reading subscribers, by channel.
    members: RefCell<Vec<u32>>,
    orders: RefCell<Vec<Order>>,
    outstanding: RefCell<Outstanding>,
    sent: Cell<u64>,
    /// Publications that were due in the measured part.
    measured: Cell<u64>,
    /// Notified when a publication may be due.
    wake: Arc<Notify>,
}

/// Connects, measures and reports.
pub(super) async fn run(run: &Rc<BenchRun>, plan: Plan) -> anyhow::Result<Report> {
    let healthy = run.conns - plan.stalled;
    let connections = connect(run, &plan, healthy).await?;
    let mut members = vec![0; plan.channels as usize];
    for number in 0..healthy {
        members[(number % plan.channels) as usize] += 1;
    }
    let arrivals = u64::from(members[0]);
    let mut orders = Vec::new();
    orders.resize_with(healthy as usize, Order::default);
    let fanout = Rc::new(Fanout {
        run: run.clone(),
        plan,
        members: members.into(),
        orders: orders.into(),
        outstanding: RefCell::default(),
        sent: Cell::new(0),
        measured: Cell::new(0),
        wake: Arc::default(),
    });
    let mut writers = Vec::new();
    let mut stalled = JoinSet::new();
    for (number, Connection { reader, writer }) in (0..).zip(connections) {
        writers.push(writer);
        if number < healthy {
            spawn_local(fanout.clone().listen(number, reader));
        } else {
            stalled.spawn_local(stalled::hold(run.clone(), reader));
        }
    }
    let publisher = spawn_local(fanout.clone().publish(writers[..fanout.plan.channels as usize].to_vec()));
    run.drive(arrivals, "deliveries").await;
    run.wait_for_rest(|| fanout.outstanding.borrow().deliveries()).await;
    // The publisher has sent everything by now, or is stuck because the server does not read.
    publisher.abort();
    fanout.tally();
    run.close();
    if fanout.plan.stalled > 0 {
        run.progress.say("the stalled subscribers read again".to_owned());
    }
    let stalled = stalled::Outcome::of(stalled).await;
    for writer in writers {
        writer.queue(OpCode::Close, &NORMAL);
        // A courtesy: the connection is dropped next.
        let _ = writer.flush();
    }
    Ok(fanout.report(&stalled))
}

async fn connect(run: &Rc<BenchRun>, plan: &Plan, healthy: u32) -> anyhow::Result<Vec<Connection>> {
    let (opener, name, channels) = (run.clone(), plan.name.clone(), plan.channels);
    run.open_all(async move |number| {
        let setup = opener.setup();
        let receive_buffer = (number >= healthy).then_some(stalled::RECEIVE_BUFFER);
        let channel = format!("{name}:{}", number % channels);
        opener.open(number, Setup { receive_buffer, ..setup }, Some(&channel)).await
    })
    .await
}

impl Fanout {
    async fn listen(self: Rc<Self>, number: u32, mut reader: Reader) {
        loop {
            let mut now = None;
            let read = reader.read(&self.run.scratch, |message| {
                let now = *now.get_or_insert_with(|| self.run.now());
                self.delivered(number, message, now);
            });
            if let Err(end) = read.await {
                self.left(number, end);
                return;
            }
        }
    }

    fn delivered(&self, subscriber: u32, message: &[u8], now: u64) {
        let Some(Mark { number, nanos }) = self.run.marks.find(message) else {
            self.run.other(message);
            return;
        };
        if self.run.phase() == Phase::Over {
            return;
        }
        let channels = u64::from(self.plan.channels);
        if number % channels != u64::from(subscriber) % channels {
            self.run.faults.borrow_mut().error("a message of another channel was delivered");
            return;
        }
        match self.orders.borrow_mut()[subscriber as usize].note(number / channels) {
            OrderCheck::InOrder => {}
            OrderCheck::Late => self.run.faults.borrow_mut().reordered += 1,
            OrderCheck::Again => {
                self.run.faults.borrow_mut().duplicated += 1;
                return;
            }
        }
        self.run.recorder.borrow_mut().note(nanos, now);
        if self.outstanding.borrow_mut().settle(number) {
            self.wake.notify_one();
        }
    }

    /// Settles the outstanding deliveries of a subscriber whose connection has ended.
    fn left(&self, subscriber: u32, end: End) {
        self.run.ended(end);
        let channels = u64::from(self.plan.channels);
        let channel = u64::from(subscriber) % channels;
        self.members.borrow_mut()[channel as usize] -= 1;
        let mut outstanding = self.outstanding.borrow_mut();
        let order = &self.orders.borrow()[subscriber as usize];
        for number in outstanding.numbers().filter(|number| number % channels == channel) {
            if order.awaits(number / channels) {
                outstanding.settle(number);
            }
        }
        self.wake.notify_one();
    }

    async fn publish(self: Rc<Self>, writers: Vec<Rc<Writer>>) {
        let start = self.run.now();
        if let Pace::Rate(rate) = self.plan.pace
            && let Err(error) = pace(&self.wake, self.run.instant(start), rate)
        {
            self.stop(&error);
            return;
        }
        let mut templates: Vec<Template> =
            (0..self.plan.channels).map(|channel| self.template(channel)).collect();
        let mut dirty = Vec::new();
        while !self.run.is_draining() {
            let mut batch = 0;
            while batch < BATCH
                && let Some(nanos) = self.due(start)
            {
                let number = self.sent.replace(self.sent.get() + 1);
                let channel = (number % u64::from(self.plan.channels)) as usize;
                writers[channel].queue(OpCode::Text, templates[channel].fill(Mark { number, nanos }));
                self.outstanding.borrow_mut().push(self.members.borrow()[channel]);
                dirty.push(channel);
                batch += 1;
            }
            for channel in dirty.drain(..) {
                if let Err(error) = writers[channel].drain().await {
                    self.stop(&error);
                    return;
                }
            }
            if batch == BATCH {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.run.reaches(Phase::Drain) => {}
            }
        }
    }

    /// Returns when the next publication was due and counts it; `None` if none is due now.
    fn due(&self, start: u64) -> Option<u64> {
        let now = self.run.now();
        let due = match self.plan.pace {
            Pace::Window(window) => {
                (self.outstanding.borrow().publications() < u64::from(window)).then_some(now)?
            }
            Pace::Rate(rate) => start + (self.sent.get() as f64 / rate * 1e9) as u64,
        };
        if due > now {
            return None;
        }
        if self.run.recorder.borrow().measures(due) {
            if self.run.msgs.is_some_and(|msgs| self.measured.get() >= msgs) {
                self.run.finish();
                return None;
            }
            self.measured.set(self.measured.get() + 1);
        }
        Some(due)
    }

    fn template(&self, channel: u32) -> Template {
        let head = protocol::publication(&format!("{}:{channel}", self.plan.name));
        self.run.marks.template(Envelope { head: &head, split: "", tail: "\"}" }, self.run.size)
    }

    fn stop(&self, error: &io::Error) {
        self.run.faults.borrow_mut().error(format!("publishing: {error}"));
        self.run.finish();
    }

    fn tally(&self) {
        let (sent, channels) = (self.sent.get(), u64::from(self.plan.channels));
        let orders = self.orders.borrow();
        let lost = orders.iter().zip(0..).map(|(order, number): (_, u64)| {
            let channel = number % channels;
            order.lost(sent / channels + u64::from(sent % channels > channel))
        });
        self.run.faults.borrow_mut().lost += lost.sum::<u64>();
    }

    fn report(&self, stalled: &stalled::Outcome) -> Report {
        let plan = &self.plan;
        let name = if plan.stalled == 0 { "fanout" } else { "slow" };
        let (channels, pace) = plan.terms();
        let (window, rate) = match plan.pace {
            Pace::Window(window) => (Some(window), None),
            Pace::Rate(rate) => (None, Some(rate)),
        };
        let report = Report::new(&self.run, name, "deliveries")
            .term(channels)
            .term(format!("{} B", count(self.run.size as u64)))
            .term(pace)
            .detail("channels", plan.channels)
            .detail("window", window)
            .detail("rate", rate)
            .detail("published", self.sent.get());
        if plan.stalled == 0 { report } else { stalled.add_to(report, plan.stalled) }
    }
}

/// Starts a thread that wakes the publisher whenever a publication is due. The runtime's timers have a
/// resolution of only one millisecond. The thread ends with the publisher.
fn pace(wake: &Arc<Notify>, start: Instant, rate: f64) -> io::Result<()> {
    let interval = Duration::from_secs_f64(1.0 / rate).max(MIN_INTERVAL);
    let wake = Arc::downgrade(wake);
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        let mut next = start;
        while let Some(wake) = wake.upgrade() {
            wake.notify_one();
            drop(wake);
            next += interval;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    })?;
    Ok(())
}

/// Maximum of publications between two polls of the sockets.
const BATCH: u32 = 256;
const MIN_INTERVAL: Duration = Duration::from_micros(100);
/// Publications per second in `slow`.
const SLOW_RATE: f64 = 100.0;
/// The payload of a close frame with 1000.
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();
