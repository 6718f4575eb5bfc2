//! One running scenario: the server, the clients, the expected messages, and at the end the outcome. `run`
//! opens it, and the scenarios use it.

use crate::bystander::{Bystanders, p99};
use crate::child::ServerProcess;
use crate::client::{Client, LAG, Pace};
use crate::memory::{self, Bounds};
use crate::order::{Order, Verb};
use crate::run::Scale;
use crate::server::Options;
use crate::tally::Difference;
use anyhow::Result;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A running scenario.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) scale: Scale,
    pub(crate) server: ServerProcess,
    pub(crate) clients: Vec<Arc<Client>>,
    pub(crate) bounds: Bounds,
    bystanders: Option<Bystanders>,
    base: u64,
    next_source: u64,
    open_orders: usize,
    /// Clients that write, with their sources.
    writers: Vec<(usize, u64)>,
    failures: Vec<String>,
}

/// The outcome of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) readers: usize,
    /// Number of readers that lagged.
    pub(crate) lagging: usize,
    /// Number of lagging readers that were closed, which is allowed.
    pub(crate) closed_lagging: usize,
    /// Number of closed readers that did not lag.
    pub(crate) closed: usize,
    /// First close code of these readers.
    pub(crate) code: Option<u16>,
    /// Number of readers that did not lag and got a gap.
    pub(crate) dropped: usize,
    pub(crate) difference: Difference,
    pub(crate) memory: Memory,
    pub(crate) latency: Latency,
    /// Other failures.
    pub(crate) failures: Vec<String>,
}

/// Memory of the server process, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) base: u64,
    pub(crate) peak: u64,
    /// Sum of base and bounds.
    pub(crate) allowed: u64,
}

/// The bystanders' 99th percentile, without and with pressure.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) alone: Duration,
    pub(crate) beside: Duration,
}

impl Stage {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not start.
    pub(crate) async fn open(options: Options, scale: Scale) -> Result<Self> {
        Ok(Self {
            scale,
            server: ServerProcess::start(options).await?,
            clients: Vec::new(),
            bounds: Bounds::default(),
            bystanders: None,
            base: 0,
            next_source: 1000,
            open_orders: 0,
            writers: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// Returns the number for the short or the full run.
    pub(crate) fn choose(&self, short: u64, full: u64) -> u64 {
        if self.scale == Scale::Short { short } else { full }
    }

    /// Connects readers, each subscribed to the same channels. Their users are called `name0`, `name1`, …
    ///
    /// # Errors
    ///
    /// Returns an error if the server refuses.
    pub(crate) async fn readers(
        &mut self,
        name: &str,
        count: u64,
        channels: &[&str],
    ) -> Result<Range<usize>> {
        let first = self.clients.len();
        for number in 0..count {
            let client = Client::connect(self.server.address, &format!("{name}{number}"), Pace::Fast).await?;
            for channel in channels {
                client.subscribe(channel).await?;
            }
            self.clients.push(Arc::new(client));
        }
        Ok(first..self.clients.len())
    }

    /// Connects one client that reads at `pace`.
    ///
    /// # Errors
    ///
    /// Returns an error if the server refuses.
    pub(crate) async fn slow_reader(&mut self, user: &str, pace: Pace) -> Result<usize> {
        let client = Client::connect(self.server.address, user, pace).await?;
        self.clients.push(Arc::new(client));
        Ok(self.clients.len() - 1)
    }

    /// Expects that the readers get the numbers 1 to `count` of a source.
    pub(crate) fn expect(&self, readers: Range<usize>, source: u64, count: u64) {
        for client in &self.clients[readers] {
            client.state(|state| state.tally.expect(source, count));
        }
    }

    /// Notes that a client writes the messages of a source.
    pub(crate) fn note_writer(&mut self, client: usize, source: u64) {
        self.writers.push((client, source));
    }

    /// Reduces the expected numbers of a source whose writer was closed: all readers must get as much as one
    /// of them got.
    fn limit_to_received(&self, source: u64) {
        let last = |client: &Arc<Client>| client.state(|state| state.tally.last(source));
        let max = self.clients.iter().map(last).max().unwrap_or(0);
        for client in &self.clients {
            client.state(|state| state.tally.limit(source, max));
        }
    }

    /// Returns an unused source, with room for 999 numbered channels.
    pub(crate) fn source(&mut self) -> u64 {
        self.next_source += 1000;
        self.next_source
    }

    /// Measures the memory and the bystanders without pressure, after everything is connected.
    ///
    /// # Errors
    ///
    /// Returns an error if the server has ended.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        let bystanders = Bystanders::start(self.server.address);
        sleep(Duration::from_millis(self.choose(150, 1500))).await;
        self.base = memory::resident(self.server.id()?)?;
        bystanders.begin_pressure();
        self.bystanders = Some(bystanders);
        Ok(())
    }

    /// Sends an order to the application. Returns the source of its messages.
    ///
    /// # Errors
    ///
    /// Returns an error if the server has ended.
    pub(crate) async fn order(&mut self, mut order: Order) -> Result<u64> {
        order.source = self.source();
        self.bounds.message = self.bounds.message.max(order.bytes as u64);
        self.bounds.published += order.count * order.channels.max(1);
        self.server.order(&order).await?;
        self.open_orders += 1;
        Ok(order.source)
    }

    /// Waits until the application has completed all orders, and records failed ones.
    ///
    /// # Errors
    ///
    /// Returns an error if an order is not completed in time.
    pub(crate) async fn await_orders(&mut self) -> Result<()> {
        while self.open_orders > 0 {
            let report = self.server.report("done", ORDER).await?;
            self.open_orders -= 1;
            if let Some((_, error)) = report.split_once(" error ") {
                self.failures.push(format!("application: {error}"));
            }
        }
        Ok(())
    }

    /// Makes the user a member of the group of the same name.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`Stage::await_orders`].
    pub(crate) async fn join_group(&mut self, name: &str) -> Result<()> {
        self.order(Order::new(Verb::Join, name, 1, 0)).await?;
        self.await_orders().await
    }

    /// Waits until all readers have everything, or nothing has arrived for some seconds.
    pub(crate) async fn settle(&self) {
        let received =
            || self.clients.iter().map(|client| client.state(|state| state.tally.received())).sum::<u64>();
        let mut last = (received(), Instant::now());
        let is_settled =
            |client: &Arc<Client>| client.state(|state| state.end.is_some() || state.tally.is_complete());
        let deadline = Instant::now() + SETTLING;
        while !self.clients.iter().all(is_settled) && Instant::now() < deadline {
            let now = received();
            if now > last.0 {
                last = (now, Instant::now());
            }
            if last.1.elapsed() > QUIET {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Waits for one message for at most `QUIET`.
    pub(crate) async fn settle_on(&self, reader: usize, source: u64, number: u64) {
        let deadline = Instant::now() + QUIET;
        let is_there =
            || self.clients[reader].state(|state| state.end.is_some() || state.tally.last(source) >= number);
        while !is_there() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }

    /// Waits while the server continues.
    pub(crate) async fn pause(&self, milliseconds: u64) {
        sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Stops waiting for the last order.
    pub(crate) fn forget_order(&mut self) {
        self.open_orders -= 1;
    }

    /// Requires that this slow reader was not closed and got no gap.
    pub(crate) fn require_whole(&mut self, reader: usize) {
        let failure = self.clients[reader].state(|state| {
            let received = state.tally.received();
            match state.end {
                Some(end) => {
                    Some(format!("a slow link was closed with {} after {received} messages", end.code))
                }
                None if state.tally.reported_missing() > 0 => {
                    Some(format!("{} messages were dropped", state.tally.reported_missing()))
                }
                None if !state.tally.is_complete() => Some(format!("only {received} messages arrived")),
                None => None,
            }
        });
        self.failures.extend(failure);
    }

    /// Records a failure.
    pub(crate) fn fail(&mut self, failure: impl Into<String>) {
        self.failures.push(failure.into());
    }

    /// Compares received with expected messages, and ends the server. `end` is the result of the scenario
    /// itself.
    pub(crate) async fn finish(mut self, end: Result<()>) -> Outcome {
        if let Err(problem) = end {
            self.failures.push(format!("{problem:#}"));
        }
        self.settle().await;
        for (writer, source) in &self.writers {
            if self.clients[*writer].state(|state| state.end.is_some()) {
                self.limit_to_received(*source);
            }
        }
        let mut outcome = Outcome { readers: self.clients.len(), ..Outcome::default() };
        for client in &self.clients {
            outcome.judge(client);
        }
        self.bounds.lagging = outcome.lagging as u64;
        match self.server.id().and_then(memory::peak) {
            Ok(peak) => {
                let allowed = self.base + self.bounds.sum();
                outcome.memory = Memory { base: self.base, peak, allowed };
            }
            Err(error) => self.failures.push(format!("{error:#}")),
        }
        if let Some(bystanders) = self.bystanders.take() {
            let ended = tokio::task::spawn_blocking(|| bystanders.end()).await;
            let (measured, failures) = ended.unwrap_or_default();
            outcome.latency = Latency { alone: p99(&measured.alone), beside: p99(&measured.beside) };
            self.failures.extend(failures);
        }
        outcome.failures.append(&mut self.failures);
        self.server.kill().await;
        outcome
    }
}

impl Outcome {
    fn judge(&mut self, client: &Client) {
        client.state(|state| {
            let lagged = client.is_slow() || state.greatest_backlog >= LAG;
            self.lagging += usize::from(lagged);
            match state.end {
                Some(end) if !client.is_slow() && !end.was_lagging => {
                    self.closed += 1;
                    self.code.get_or_insert(end.code);
                }
                Some(_) => self.closed_lagging += 1,
                None => {}
            }
            self.dropped += usize::from(!client.is_slow() && state.needless_gaps > 0);
            let difference = state.tally.difference(state.end.is_some());
            self.difference.lost += difference.lost;
            self.difference.disorder += difference.disorder;
            self.difference.duplicates += difference.duplicates;
            self.difference.overcounted += difference.overcounted;
            if let Some(error) = state.errors.first().filter(|_| self.failures.len() < SHOWN) {
                self.failures.push(format!("client: {error}"));
            }
        });
    }

    /// Whether the only violations are closes and gaps of readers that seemed not to lag. A reader considers
    /// its socket empty when a read returns less than requested, although the kernel may hold more in
    /// transit; so such a row is run once more.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let certain = Self { closed: 0, dropped: 0, failures: self.failures.clone(), ..*self };
        self.is_violated() && !certain.is_violated()
    }

    /// Whether a required count is violated.
    pub(crate) fn is_violated(&self) -> bool {
        self.closed > 0
            || self.dropped > 0
            || self.difference != Difference::default()
            || self.memory.ratio() > MAX_MEMORY_RATIO
            || !self.failures.is_empty()
    }
}

impl Memory {
    /// Returns the peak divided by the allowed memory.
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    pub(crate) fn ratio(&self) -> f64 {
        if self.allowed == 0 { 0.0 } else { self.peak as f64 / self.allowed as f64 }
    }
}

impl Latency {
    /// Returns the factor by which answers take longer under pressure.
    pub(crate) fn ratio(&self) -> f64 {
        if self.alone.is_zero() { 0.0 } else { self.beside.as_secs_f64() / self.alone.as_secs_f64() }
    }
}

/// Maximum ratio of the peak memory to the sum of base and bounds.
const MAX_MEMORY_RATIO: f64 = 1.2;
/// Maximum time of the application for one order.
const ORDER: Duration = Duration::from_secs(90);
/// Maximum time for readers to receive everything after it was published.
const SETTLING: Duration = Duration::from_secs(60);
/// Silence after which readers get nothing more.
const QUIET: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(5);
/// Maximum of client failures that are shown.
const SHOWN: usize = 2;
