//! The workload `storm`: cuts all subscribers at once. They reconnect by the server's retry policy with full
//! jitter and resume their sessions where the server offers it. Reports the time until all are back, and the
//! cost.

use super::connection::Connection;
use super::options::Storm;
use super::report::{Report, count};
use super::runner::BenchRun;
use super::session::{Policy, Session, is_recovered, resume, subscribe};
use super::system;
use anyhow::bail;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Totals of all reconnects.
#[derive(Debug, Default)]
struct Outcome {
    back: Cell<u32>,
    resumed: Cell<u32>,
    recovered: Cell<u32>,
    attempts: Cell<u64>,
    refused: Cell<u64>,
    /// When the last subscriber was back, in nanoseconds since the run began.
    last: Cell<u64>,
}

/// Connects all subscribers, cuts them, waits until they are back and reports.
pub(super) async fn run(run: &Rc<BenchRun>, pid: u32, options: &Storm) -> anyhow::Result<Report> {
    let (opener, prefix) = (run.clone(), format!("{}-{:08x}", options.channel, std::process::id()));
    let subscribers = run
        .open_all(async move |number| {
            let setup = opener.setup();
            let mut connection = Connection::open_session(&opener.target, number, setup, None).await?;
            let mut session = Session::read(&mut connection, &opener.scratch).await?;
            let channel = format!("{prefix}:{}", number / MEMBERS);
            session.position = Some(subscribe(&mut connection, &channel, None, &opener.scratch).await?);
            session.channel = channel;
            Ok((connection, session))
        })
        .await?;
    let mut sessions = Vec::with_capacity(subscribers.len());
    let cpu = system::cpu_time_of(pid)?;
    for (connection, session) in subscribers {
        drop(connection); // the kernel closes it without a close frame
        sessions.push(session);
    }
    run.recorder.borrow_mut().begin(run.now());
    run.progress.part("reconnecting", u64::from(run.conns));
    let (begun, outcome) = (run.now(), Rc::new(Outcome::default()));
    let mut returning = JoinSet::new();
    for (number, session) in (0..).zip(sessions) {
        returning.spawn_local(reconnect_all(run.clone(), outcome.clone(), number, session));
    }
    let mut connections = Vec::new();
    while let Some(returned) = returning.join_next().await {
        connections.extend(returned?);
        run.progress.at(connections.len() as u64);
    }
    let used = system::cpu_time_of(pid)?.saturating_sub(cpu);
    run.close();
    if outcome.back.get() < run.conns {
        let lost = run.conns - outcome.back.get();
        run.faults.borrow_mut().error(format!("{lost} connections gave up"));
    }
    drop(connections);
    Ok(report(run, &outcome, begun, used))
}

/// Attempts to connect by the policy until one attempt succeeds.
async fn reconnect_all(
    run: Rc<BenchRun>,
    outcome: Rc<Outcome>,
    number: u32,
    mut session: Session,
) -> Option<Connection> {
    let mut policy = Policy::of(&session, number);
    while let Some(delay) = policy.next_delay() {
        tokio::time::sleep(delay).await;
        outcome.attempts.set(outcome.attempts.get() + 1);
        match tokio::time::timeout(ATTEMPT, attempt(&run, &outcome, number, &mut session)).await {
            Ok(Ok(connection)) => {
                outcome.back.set(outcome.back.get() + 1);
                outcome.last.set(run.now());
                return Some(connection);
            }
            Ok(Err(_)) | Err(_) => outcome.refused.set(outcome.refused.get() + 1),
        }
    }
    None
}

async fn attempt(
    run: &BenchRun,
    outcome: &Outcome,
    number: u32,
    session: &mut Session,
) -> anyhow::Result<Connection> {
    let start = run.now();
    let token = session.token.clone();
    let mut connection = Connection::open_session(&run.target, number, run.setup(), token.as_deref()).await?;
    run.recorder.borrow_mut().note(start, run.now());
    let Some(position) = session.position.clone() else { bail!("the session has no position") };
    if token.is_some() {
        resume(&connection, &session.channel, &position).await?;
    }
    let current = Session::read(&mut connection, &run.scratch).await?;
    let is_recovered = if current.resumed {
        outcome.resumed.set(outcome.resumed.get() + 1);
        current.recovered
    } else {
        let answer = subscribe(&mut connection, &session.channel, Some(&position), &run.scratch).await?;
        is_recovered(&answer)
    };
    outcome.recovered.set(outcome.recovered.get() + u32::from(is_recovered));
    session.token = current.token;
    Ok(connection)
}

fn report(run: &BenchRun, outcome: &Outcome, begun: u64, used: Duration) -> Report {
    let seconds = outcome.last.get().saturating_sub(begun) as f64 / 1e9;
    let (back, resumed, recovered) = (outcome.back.get(), outcome.resumed.get(), outcome.recovered.get());
    let micros = used.as_secs_f64() * 1e6 / f64::from(back.max(1));
    Report::new(run, "storm", "reconnects")
        .throughput(f64::from(back) / seconds.max(1e-9), seconds)
        .term("all cut at once")
        .remark("latency is connecting and the handshake of an attempt")
        .remark(format!(
            "all reconnected after {seconds:.2} s, by the server's retry policy with full jitter"
        ))
        .remark(format!(
            "{} resumed · {} recovered what they had missed · {} attempts, {} of them refused or lost",
            count(resumed),
            count(recovered),
            count(outcome.attempts.get()),
            count(outcome.refused.get())
        ))
        .remark(format!("cost: {micros:.0} µs of the server's processor time for each, the loss included"))
        .detail("back", back)
        .detail("back_s", seconds)
        .detail("resumed", resumed)
        .detail("recovered", recovered)
        .detail("attempts", outcome.attempts.get())
        .detail("refused", outcome.refused.get())
        .detail("server_us_per_reconnect", micros)
}

/// Subscribers of a channel.
const MEMBERS: u32 = 100;
/// Timeout of one attempt: handshake, resume or subscription.
const ATTEMPT: Duration = Duration::from_secs(10);
