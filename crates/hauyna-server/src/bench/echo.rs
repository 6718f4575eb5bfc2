//! The workload `echo`: every connection keeps a number of requests outstanding and checks the order of the
//! answers.

use super::connection::{Connection, End, Writer};
use super::mark::{Envelope, Mark, Template};
use super::order::{Order, OrderCheck};
use super::protocol::PING;
use super::report::{Report, count};
use super::runner::{BenchRun, Phase};
use hauyna_websocket::OpCode;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use tokio::task::spawn_local;

/// What the server sends back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The protocol's `ping`, answered by a `pong` with its `id`.
    Ping,
    /// Any message, answered by itself.
    Raw,
}

struct Echo {
    run: Rc<BenchRun>,
    pipeline: u32,
    kind: Kind,
    connections: RefCell<Vec<EchoConnection>>,
    outstanding: Cell<u64>,
    /// Requests sent in the measured part.
    requested: Cell<u64>,
}

/// One connection's requests.
#[derive(Debug, Default)]
struct EchoConnection {
    sent: u64,
    order: Order,
}

/// Connects, measures and reports.
pub(super) async fn run(run: &Rc<BenchRun>, pipeline: u32, kind: Kind) -> anyhow::Result<Report> {
    let opener = run.clone();
    let connections =
        run.open_all(async move |number| opener.open(number, opener.setup(), None).await).await?;
    let mut sequences = Vec::new();
    sequences.resize_with(connections.len(), EchoConnection::default);
    let echo = Rc::new(Echo {
        run: run.clone(),
        pipeline,
        kind,
        connections: sequences.into(),
        outstanding: Cell::new(0),
        requested: Cell::new(0),
    });
    let writers: Vec<_> = connections.iter().map(|connection| connection.writer.clone()).collect();
    for (number, connection) in connections.into_iter().enumerate() {
        spawn_local(echo.clone().talk_on_connection(number, connection));
    }
    run.drive(1, "rounds").await;
    run.wait_for_rest(|| echo.outstanding.get()).await;
    run.faults.borrow_mut().lost +=
        echo.connections.borrow().iter().map(|talk| talk.order.lost(talk.sent)).sum::<u64>();
    run.close();
    for writer in writers {
        writer.queue(OpCode::Close, &1000u16.to_be_bytes());
        // Polite, not needed: the connection is dropped next.
        let _ = writer.flush();
    }
    Ok(echo.report())
}

impl Echo {
    async fn talk_on_connection(self: Rc<Self>, number: usize, mut connection: Connection) {
        let mut template = self.template();
        let writer = connection.writer.clone();
        let mut due = self.pipeline;
        loop {
            for _ in 0..due {
                self.ask(number, &mut template, &writer);
            }
            due = 0;
            let is_flushed = match writer.flush() {
                Ok(is_flushed) => is_flushed,
                Err(error) => return self.broke(number, &error),
            };
            let mut now = None;
            let read = connection.reader.read(&self.run.scratch, |message| {
                let now = *now.get_or_insert_with(|| self.run.now());
                due += u32::from(self.answered(number, message, now));
            });
            tokio::select! {
                ended = read => {
                    if let Err(end) = ended {
                        return self.left(number, end);
                    }
                }
                written = writer.drain(), if !is_flushed => {
                    if let Err(error) = written {
                        return self.broke(number, &error);
                    }
                }
            }
        }
    }

    /// Sends the next request, unless the run ends.
    fn ask(&self, connection: usize, template: &mut Template, writer: &Writer) {
        let phase = self.run.phase();
        let is_last = self.run.msgs.is_some_and(|msgs| self.requested.get() >= msgs);
        if is_last {
            self.run.finish();
        }
        if is_last || phase >= Phase::Drain {
            return;
        }
        self.requested.set(self.requested.get() + u64::from(phase == Phase::Measure));
        self.outstanding.set(self.outstanding.get() + 1);
        let talk = &mut self.connections.borrow_mut()[connection];
        let mark = Mark { number: talk.sent, nanos: self.run.now() };
        talk.sent += 1;
        writer.queue(OpCode::Text, template.fill(mark));
    }

    /// Whether the message is the first answer to a request; records it.
    fn answered(&self, connection: usize, message: &[u8], now: u64) -> bool {
        let Some(mark) = self.run.marks.find(message) else {
            self.run.other(message);
            return false;
        };
        match self.connections.borrow_mut()[connection].order.note(mark.number) {
            OrderCheck::InOrder => {}
            OrderCheck::Late => self.run.faults.borrow_mut().reordered += 1,
            OrderCheck::Again => {
                self.run.faults.borrow_mut().duplicated += 1;
                return false;
            }
        }
        self.outstanding.set(self.outstanding.get().saturating_sub(1));
        self.run.recorder.borrow_mut().note(mark.nanos, now);
        true
    }

    fn broke(&self, connection: usize, error: &io::Error) {
        self.run.faults.borrow_mut().error(format!("sending: {error}"));
        self.left(connection, End::Lost);
    }

    /// Records the end of a connection, whose answers will not arrive any more.
    fn left(&self, connection: usize, end: End) {
        self.run.ended(end);
        let talk = &self.connections.borrow()[connection];
        self.outstanding.set(self.outstanding.get().saturating_sub(talk.order.lost(talk.sent)));
    }

    fn template(&self) -> Template {
        let envelope = match self.kind {
            Kind::Ping => PING,
            Kind::Raw => Envelope::default(),
        };
        self.run.marks.template(envelope, self.run.size)
    }

    fn report(&self) -> Report {
        let kind = match self.kind {
            Kind::Ping => "ping",
            Kind::Raw => "raw",
        };
        Report::new(&self.run, "echo", "rounds")
            .term(kind)
            .term(format!("{} B", count(self.run.size as u64)))
            .term(format!("{} outstanding on each", count(self.pipeline)))
            .detail("kind", kind)
            .detail("pipeline", self.pipeline)
    }
}
