//! The workload `join`: open connections join the presence of one channel, spread evenly over a time. Reports
//! the server's cost of a join and how many messages and bytes it causes.

use super::connection::{Connection, Reader, Writer};
use super::options::Join;
use super::report::{Report, count};
use super::runner::BenchRun;
use super::system;
use anyhow::bail;
use hauyna_websocket::OpCode;
use serde::Deserialize;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;

/// Totals of what all connections received.
#[derive(Debug, Default)]
struct JoinReceived {
    joined: Cell<u32>,
    messages: Cell<u64>,
    bytes: Cell<u64>,
    largest: Cell<usize>,
}

/// Connects all, lets them join, waits until all have joined and nothing more arrives, and reports.
pub(super) async fn run(run: &Rc<BenchRun>, options: &Join) -> anyhow::Result<Report> {
    let opener = run.clone();
    let connections =
        run.open_all(async move |number| opener.open(number, opener.setup(), None).await).await?;
    let received: Rc<JoinReceived> = Rc::default();
    let channel = format!("{}:{:08x}", options.channel, std::process::id());
    let mut writers = Vec::new();
    for Connection { reader, writer } in connections {
        let sent = Rc::new(Cell::new(0));
        spawn_local(listen(run.clone(), received.clone(), reader, sent.clone()));
        writers.push((writer, sent));
    }
    let (start, cpu) = (Instant::now(), options.pid.map(system::cpu_time_of).transpose()?);
    run.recorder.borrow_mut().begin(run.now());
    join(run, &writers, &channel, options.over).await?;
    await_all(run, &received).await?;
    let seconds = start.elapsed().as_secs_f64();
    let used =
        options.pid.map(system::cpu_time_of).transpose()?.zip(cpu).map(|(after, before)| after - before);
    run.close();
    for (writer, _) in &writers {
        writer.queue(OpCode::Close, &1000u16.to_be_bytes());
        // A courtesy: the connection is dropped next.
        let _ = writer.flush();
    }
    Ok(report(run, &received, seconds, used))
}

async fn join(
    run: &BenchRun,
    writers: &[(Rc<Writer>, Rc<Cell<u64>>)],
    channel: &str,
    over: Duration,
) -> anyhow::Result<()> {
    let request = format!(r#"{{"type":"subscribe_channel","id":1,"channel":"{channel}"}}"#);
    run.progress.part("joining", writers.len() as u64);
    let (start, interval) = (Instant::now(), over / run.conns.max(1));
    for (number, (writer, sent)) in (0u32..).zip(writers) {
        tokio::time::sleep_until((start + interval * number).into()).await;
        sent.set(run.now());
        writer.queue(OpCode::Text, request.as_bytes());
        writer.drain().await?;
        run.progress.at(u64::from(number));
        if run.is_draining() {
            bail!("interrupted before all had joined");
        }
    }
    Ok(())
}

async fn listen(run: Rc<BenchRun>, received: Rc<JoinReceived>, mut reader: Reader, sent: Rc<Cell<u64>>) {
    loop {
        let read = reader.read(&run.scratch, |message| {
            if is_answer(message) {
                run.recorder.borrow_mut().note(sent.get(), run.now());
                return received.joined.set(received.joined.get() + 1);
            }
            received.messages.set(received.messages.get() + 1);
            received.bytes.set(received.bytes.get() + message.len() as u64);
            received.largest.set(received.largest.get().max(message.len()));
            if message.len() < MAX_ANSWER_BYTES {
                run.other(message);
            }
        });
        if let Err(end) = read.await {
            return run.ended(end);
        }
    }
}

/// Whether a message answers the subscription. Presence messages are longer or have another type.
fn is_answer(message: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head<'a> {
        r#type: &'a str,
    }
    message.len() < MAX_ANSWER_BYTES
        && serde_json::from_slice::<Head<'_>>(message).is_ok_and(|head| head.r#type == "ack")
}

/// Waits until everybody has an answer, and then until nothing has arrived for `QUIET_TIME`.
async fn await_all(run: &BenchRun, received: &JoinReceived) -> anyhow::Result<()> {
    let mut last = (0, Instant::now());
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = received.messages.get() + u64::from(received.joined.get());
        if now != last.0 {
            last = (now, Instant::now());
        }
        let is_quiet = last.1.elapsed() > QUIET_TIME;
        if is_quiet && received.joined.get() == run.conns {
            return Ok(());
        }
        if last.1.elapsed() > IDLE_TIMEOUT {
            bail!("only {} of {} joined, and nothing more arrives", received.joined.get(), run.conns);
        }
    }
}

fn report(run: &BenchRun, received: &JoinReceived, seconds: f64, used: Option<Duration>) -> Report {
    let per_join = |total: u64| total as f64 / f64::from(run.conns);
    let report = Report::new(run, "join", "joins")
        .throughput(f64::from(run.conns) / seconds, seconds)
        .remark("latency is from the request to its answer")
        .remark(format!(
            "received: {:.1} messages and {} B for each join; the longest has {} B",
            per_join(received.messages.get()),
            count(per_join(received.bytes.get()) as u64),
            count(received.largest.get() as u64)
        ))
        .detail("messages_per_join", per_join(received.messages.get()))
        .detail("bytes_per_join", per_join(received.bytes.get()))
        .detail("largest_bytes", received.largest.get());
    match used {
        None => report.remark("cost: pass --pid with the server's process (Linux)"),
        Some(used) => {
            let micros = used.as_secs_f64() * 1e6 / f64::from(run.conns);
            report
                .remark(format!("cost: {micros:.1} µs of the server's processor time for each join"))
                .detail("server_us_per_join", micros)
        }
    }
}

/// Maximum size of errors and answers, in bytes.
const MAX_ANSWER_BYTES: usize = 2048;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Longer than a diff or a count takes to arrive.
const QUIET_TIME: Duration = Duration::from_millis(1500);
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
