//! The workload `churn`: connections that connect, subscribe, publish once, receive and close, over and over.

use super::connection::{Connection, End};
use super::mark::{Envelope, Mark};
use super::protocol;
use super::report::{Report, count};
use super::runner::{BenchRun, Phase};
use anyhow::bail;
use hauyna_websocket::{CloseCode, OpCode};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

struct Churn {
    run: Rc<BenchRun>,
    channel: String,
    begun: Cell<u64>,
    /// Cycles that began in the measured part.
    measured: Cell<u64>,
    broken: Cell<u64>,
}

/// Tries one cycle, then measures and reports.
pub(super) async fn run(run: &Rc<BenchRun>, channel: &str) -> anyhow::Result<Report> {
    let churn = Rc::new(Churn {
        run: run.clone(),
        channel: channel.to_owned(),
        begun: Cell::new(0),
        measured: Cell::new(0),
        broken: Cell::new(0),
    });
    churn.attempt(0).await?;
    let mut slots = JoinSet::new();
    for slot in 0..run.conns {
        slots.spawn_local(churn.clone().repeat(slot));
    }
    run.drive(1, "cycles").await;
    // Each cycle has a deadline, so this ends.
    while slots.join_next().await.is_some() {}
    run.close();
    Ok(Report::new(run, "churn", "cycles")
        .term(format!("{} B", count(run.size as u64)))
        .remark("latency is a whole cycle: connect, subscribe, publish, receive, close")
        .detail("cycles", churn.begun.get())
        .detail("broken", churn.broken.get()))
}

impl Churn {
    async fn repeat(self: Rc<Self>, slot: u32) {
        while !self.is_over() {
            let start = self.run.now();
            match self.attempt(slot).await {
                Ok(()) => self.run.recorder.borrow_mut().note(start, self.run.now()),
                Err(error) => {
                    self.broken.set(self.broken.get() + 1);
                    self.run.faults.borrow_mut().error(error.to_string());
                    // Do not hammer a server that refuses.
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Runs one cycle within `CYCLE`.
    async fn attempt(&self, slot: u32) -> anyhow::Result<()> {
        match tokio::time::timeout(CYCLE, self.cycle(slot)).await {
            Ok(done) => done,
            Err(_) => bail!("a cycle took more than {} s", CYCLE.as_secs()),
        }
    }

    /// Whether no further cycle may begin. Counts the cycle that is about to begin otherwise.
    fn is_over(&self) -> bool {
        if self.run.phase() == Phase::Measure {
            if self.run.msgs.is_some_and(|msgs| self.measured.get() >= msgs) {
                self.run.finish();
            } else {
                self.measured.set(self.measured.get() + 1);
            }
        }
        self.run.is_draining()
    }

    async fn cycle(&self, slot: u32) -> anyhow::Result<()> {
        let number = self.begun.replace(self.begun.get() + 1);
        let channel = format!("{}:{slot}", self.channel);
        let mut connection = self.run.open(number as u32, self.run.setup(), Some(&channel)).await?;
        let head = protocol::publication(&channel);
        let envelope = Envelope { head: &head, split: "", tail: "\"}" };
        let mut template = self.run.marks.template(envelope, self.run.size);
        let mark = Mark { number, nanos: self.run.now() };
        connection.writer.queue(OpCode::Text, template.fill(mark));
        connection.writer.drain().await?;
        let mut times = 0;
        while times == 0 {
            self.read(&mut connection, mark, &mut times).await.map_err(|end| anyhow::anyhow!("{end}"))?;
        }
        connection.writer.queue(OpCode::Close, &CloseCode::NORMAL.as_u16().to_be_bytes());
        connection.writer.drain().await?;
        let end = loop {
            if let Err(end) = self.read(&mut connection, mark, &mut times).await {
                break end;
            }
        };
        self.run.faults.borrow_mut().duplicated += times - 1;
        if end != End::Closed(CloseCode::NORMAL) {
            bail!("closing with 1000: {end}");
        }
        Ok(())
    }

    /// Reads once and adds to `times` how often the mark arrived.
    async fn read(&self, connection: &mut Connection, mark: Mark, times: &mut u64) -> Result<(), End> {
        let read = connection.reader.read(&self.run.scratch, |message| match self.run.marks.find(message) {
            Some(found) => *times += u64::from(found == mark),
            None => self.run.other(message),
        });
        read.await
    }
}

const CYCLE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
