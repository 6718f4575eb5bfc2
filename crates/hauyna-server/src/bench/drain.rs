//! The workload `drain`: sends SIGTERM to a server that is full of active subscribers. Reports how evenly it
//! closes the connections, how many publications were lost, and how the process ended.

use super::child::Process;
use super::connection::{Connection, End, Reader, Writer};
use super::mark::{Envelope, Mark};
use super::order::{Order, OrderCheck};
use super::report::{Report, count};
use super::runner::{BenchRun, Phase};
use anyhow::bail;
use hauyna_websocket::OpCode;
use serde::Deserialize;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinSet, spawn_local};

/// A channel and the acknowledgements of its publisher.
#[derive(Debug)]
struct Channel {
    name: String,
    /// When each publication was acknowledged, by number, in nanoseconds since the run began.
    acknowledged: RefCell<Vec<u64>>,
}

/// How one connection ended; times in nanoseconds since the run began.
#[derive(Debug, Clone, Copy)]
struct Ended {
    /// When the `reconnect` message arrived.
    notified_at: Option<u64>,
    at: u64,
    lost: u64,
}

/// Times of a drain and the server's exit code.
struct Course {
    /// When the server was asked to end, in nanoseconds since the run began.
    begun: u64,
    window: Duration,
    /// How long the server took to end.
    took: Duration,
    /// Exit code; `None` if the process is not a child.
    exit_code: Option<i32>,
}

/// Connects all, lets them publish, ends the server and reports.
pub(super) async fn run(
    run: &Rc<BenchRun>,
    mut process: Process,
    window: Duration,
) -> anyhow::Result<Report> {
    let channels: Rc<[Rc<Channel>]> = (0..run.conns.div_ceil(MEMBERS))
        .map(|number| {
            let name = format!("drain-{:08x}:{number}", std::process::id());
            Rc::new(Channel { name, acknowledged: RefCell::default() })
        })
        .collect();
    let (opener, names) = (run.clone(), channels.clone());
    let connections = run
        .open_all(async move |number| {
            let channel = &names[(number / MEMBERS) as usize].name;
            opener.open(number, opener.setup(), Some(channel)).await
        })
        .await?;
    run.recorder.borrow_mut().begin(run.now());
    let mut readers = JoinSet::new();
    for (number, Connection { reader, writer }) in connections.into_iter().enumerate() {
        let channel = channels[number / MEMBERS as usize].clone();
        if number % MEMBERS as usize == 0 {
            spawn_local(publish(run.clone(), channel.clone(), writer.clone()));
        }
        readers.spawn_local(listen(run.clone(), channel, reader, writer));
    }
    tokio::time::sleep(TALK).await;
    let begun = run.now();
    process.terminate()?;
    run.progress.part("draining", u64::from(run.conns));
    let mut ends = Vec::new();
    let timeout = window + IDLE_TIMEOUT;
    let ending = async {
        while let Some(ended) = readers.join_next().await {
            ends.extend(ended.ok().flatten());
            run.progress.at(ends.len() as u64);
        }
    };
    if tokio::time::timeout(timeout, ending).await.is_err() {
        bail!("{} connections were not closed within {:.0} s", readers.len(), timeout.as_secs_f64());
    }
    let exit_code = process.ended(timeout).await?;
    let took = Duration::from_nanos(run.now() - begun);
    run.close();
    run.faults.borrow_mut().lost += ends.iter().map(|ended| ended.lost).sum::<u64>();
    if exit_code.is_some_and(|code| code != 0) {
        run.faults.borrow_mut().error("the server's exit code is not 0");
    }
    if took > window + LATEST {
        run.faults.borrow_mut().error("the server ended later than 5 s after the window");
    }
    Ok(report(run, &ends, &Course { begun, window, took, exit_code }))
}

/// Publishes once a second until its connection is closed.
async fn publish(run: Rc<BenchRun>, channel: Rc<Channel>, writer: Rc<Writer>) {
    let head = format!(r#"{{"type":"channel_message","id":1,"channel":"{}","content":""#, channel.name);
    let envelope = Envelope { head: &head, split: "", tail: "\"}" };
    let mut template = run.marks.template(envelope, run.size);
    for number in 0.. {
        writer.queue(OpCode::Text, template.fill(Mark { number, nanos: run.now() }));
        // A closed connection accepts nothing more; its reader learns the reason.
        if run.phase() == Phase::Over || writer.flush().is_err() {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Reads until the close frame, which must have the close code of a drain.
async fn listen(
    run: Rc<BenchRun>,
    channel: Rc<Channel>,
    mut reader: Reader,
    writer: Rc<Writer>,
) -> Option<Ended> {
    let (mut order, mut notified_at) = (Order::default(), None);
    let end = loop {
        let read = reader.read(&run.scratch, |message| {
            let now = run.now();
            if let Some(mark) = run.marks.find(message) {
                run.recorder.borrow_mut().note(mark.nanos, now);
                match order.note(mark.number) {
                    OrderCheck::InOrder => {}
                    OrderCheck::Late => run.faults.borrow_mut().reordered += 1,
                    OrderCheck::Again => run.faults.borrow_mut().duplicated += 1,
                }
                return;
            }
            match kind(message) {
                Some("ack") => channel.acknowledged.borrow_mut().push(now),
                Some("reconnect") => notified_at = Some(now),
                _ => run.other(message),
            }
        });
        if let Err(end) = read.await {
            break end;
        }
    };
    let at = run.now();
    writer.queue(OpCode::Close, &DRAIN.to_be_bytes());
    // The server waits briefly for this answer and ends the connection without it, too.
    let _ = writer.flush();
    if !matches!(end, End::Closed(code) if code.as_u16() == DRAIN) {
        run.ended(end);
        return None;
    }
    // Count what was acknowledged before the close, minus a margin for the order in which this tool reads.
    let due = channel.acknowledged.borrow().partition_point(|acknowledged| acknowledged + SLACK < at);
    Some(Ended { notified_at, at, lost: order.lost(due as u64) })
}

fn kind(message: &[u8]) -> Option<&str> {
    #[derive(Deserialize)]
    struct Head<'a> {
        r#type: &'a str,
    }
    serde_json::from_slice::<Head<'_>>(message).ok().map(|head| head.r#type)
}

fn report(run: &BenchRun, ends: &[Ended], course: &Course) -> Report {
    let Course { begun, window, took, exit_code } = *course;
    let part = (window.as_nanos() as u64 / PARTS as u64).max(1);
    let mut parts = [0_u64; PARTS];
    for ended in ends {
        let index = ended.at.saturating_sub(begun) / part;
        parts[usize::try_from(index).unwrap_or(PARTS).min(PARTS - 1)] += 1;
    }
    let even = ends.len() as f64 / PARTS as f64;
    let share = |count: Option<&u64>| count.map_or(0.0, |count| *count as f64 / even.max(f64::MIN_POSITIVE));
    let (min, max) = (share(parts.iter().min()), share(parts.iter().max()));
    let seconds = |nanos: Option<u64>| nanos.map_or(0.0, |at| at.saturating_sub(begun) as f64 / 1e9);
    let last_notified = seconds(ends.iter().filter_map(|ended| ended.notified_at).max());
    let last = seconds(ends.iter().map(|ended| ended.at).max());
    let unnotified = ends.iter().filter(|ended| ended.notified_at.is_none()).count();
    let exit = exit_code
        .map_or("exit code unknown, as the process is not a child of this tool".to_owned(), |code| {
            format!("exit code {code}")
        });
    Report::new(run, "drain", "closes")
        .throughput(ends.len() as f64 / last.max(1e-9), took.as_secs_f64())
        .term(format!("window {:.1} s", window.as_secs_f64()))
        .remark("latency is from publishing to reading, before and during the drain")
        .remark(format!(
            "closes in each tenth of the window: {:.1} % to {:.1} % of even ({})",
            min * 100.0,
            max * 100.0,
            count(even as u64)
        ))
        .remark(format!(
            "all notified after {:.0} ms; the last close after {last:.2} s",
            last_notified * 1000.0
        ))
        .remark(format!("the server ended after {:.2} s: {exit}", took.as_secs_f64()))
        .detail("window_s", window.as_secs_f64())
        .detail("least_of_even", min)
        .detail("most_of_even", max)
        .detail("told_s", last_notified)
        .detail("untold", unnotified)
        .detail("last_close_s", last)
        .detail("ended_s", took.as_secs_f64())
        .detail("exit_code", exit_code)
}

/// Subscribers of a channel.
const MEMBERS: u32 = 100;
const PARTS: usize = 10;
const DRAIN: u16 = 3001;
/// Margin between an acknowledgement and the close, in nanoseconds.
const SLACK: u64 = 500_000_000;
/// How long the publishers run before the server is asked to end.
const TALK: Duration = Duration::from_secs(2);
const PACE: Duration = Duration::from_secs(1);
/// Maximum time that a server may take after the window.
const LATEST: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
