//! The workload `idle`: opens connections, keeps them idle, and reports the connect rate and the memory of
//! each.

use super::connection::Connection;
use super::options::Idle;
use super::report::{Report, count};
use super::runner::BenchRun;
use super::system;
use hauyna_websocket::OpCode;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;

/// Connects, waits and reports.
pub(super) async fn run(run: &Rc<BenchRun>, options: &Idle) -> anyhow::Result<Report> {
    let before = options.pid.map(system::resident).transpose()?;
    run.recorder.borrow_mut().begin(run.now());
    let connections = connect(run, (!options.no_subscribe).then_some(&options.channel)).await?;
    let mut writers = Vec::new();
    for Connection { mut reader, writer } in connections {
        writers.push(writer);
        let run = run.clone();
        spawn_local(async move {
            // Reading answers pings. Nobody publishes, so any message may be an error.
            loop {
                if let Err(end) = reader.read(&run.scratch, |message| run.other(message)).await {
                    return run.ended(end);
                }
            }
        });
    }
    let start = Instant::now();
    run.pause().await;
    let idle_time = start.elapsed();
    let after = options.pid.map(system::resident).transpose()?;
    run.close();
    for writer in writers {
        writer.queue(OpCode::Close, &1000u16.to_be_bytes());
        // A courtesy: the connection is dropped next.
        let _ = writer.flush();
    }
    Ok(report(run, before.zip(after), idle_time, !options.no_subscribe))
}

async fn connect(run: &Rc<BenchRun>, channel: Option<&String>) -> anyhow::Result<Vec<Connection>> {
    let (opener, channel) = (run.clone(), channel.cloned());
    run.open_all(async move |number| {
        let channel = channel.as_ref().map(|name| format!("{name}:{}", number / MEMBERS));
        let start = opener.now();
        let connection = opener.open(number, opener.setup(), channel.as_deref()).await?;
        opener.recorder.borrow_mut().note(start, opener.now());
        Ok(connection)
    })
    .await
}

fn report(run: &BenchRun, memory: Option<(u64, u64)>, idle_time: Duration, subscribed: bool) -> Report {
    let report = Report::new(run, "idle", "connects")
        .throughput(f64::from(run.conns) / run.connect_s().unwrap_or(f64::INFINITY), idle_time.as_secs_f64())
        .term(if subscribed { "each subscribed" } else { "without subscriptions" })
        .remark("latency is connecting, the handshake and subscribing")
        .detail("subscribed", subscribed);
    let Some((before, after)) = memory else {
        return report.remark(
            "memory: pass --pid with the server's process to measure the memory of a connection (Linux)",
        );
    };
    let each = after.saturating_sub(before) / u64::from(run.conns);
    let reused = if each == 0 { "; the server reuses freed memory: start a new one" } else { "" };
    report
        .remark(format!(
            "memory: {} B for each connection ({:.1} MB before, {:.1} MB after{reused})",
            count(each),
            before as f64 / 1e6,
            after as f64 / 1e6
        ))
        .detail("rss_bytes_per_conn", each)
        .detail("rss_before_bytes", before)
        .detail("rss_after_bytes", after)
}

/// Subscribers of a channel.
const MEMBERS: u32 = 100;
