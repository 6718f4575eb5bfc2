//! The command `hauyna bench`: checks the options, starts a server where the workload needs one, runs the
//! workload within its deadline and under signals, and prints its report.

use super::child::Process;
use super::options::{Churn, Common, Echo, Fanout, Options, Slow, Workload};
use super::report::Report;
use super::runner::BenchRun;
use super::{churn, drain, echo, fanout, idle, join, storm};
use crate::output;
use crate::signal::{Signals, exit_code};
use anyhow::{Context as _, bail};
use rustix::process::Signal;
use std::rc::Rc;
use tokio::task::LocalSet;

/// Runs one workload and prints its report.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = LocalSet::new().block_on(&runtime, measure(options.workload))?;
    if let Ended::BySignal(code) = ended {
        output::finish();
        std::process::exit(code);
    }
    Ok(())
}

/// How a successful run ended.
enum Ended {
    Reported,
    /// A signal ended it. The value is the exit code that shells expect. A child server has been ended, too.
    BySignal(i32),
}

/// Runs one workload, and starts a server for it where it needs one.
async fn measure(workload: Workload) -> anyhow::Result<Ended> {
    // Listen before a child server is started: it would outlive a tool that a signal kills.
    let signals = Signals::new().context("cannot listen for signals")?;
    match workload {
        Workload::Fanout(Fanout { common, channels }) => {
            let run = BenchRun::prepare(&common, SIZE, 0)?;
            let plan = fanout::Plan::of(channels, &run)?;
            with_time_limit(&run, &common, signals, fanout::run(&run, plan)).await
        }
        Workload::Slow(Slow { common, channels, stalled }) => {
            let run = BenchRun::prepare(&common, SLOW_SIZE, 0)?;
            let plan = fanout::Plan::stalled(channels, stalled, &run)?;
            with_time_limit(&run, &common, signals, fanout::run(&run, plan)).await
        }
        Workload::Echo(Echo { common, pipeline, raw }) => {
            let run = BenchRun::prepare(&common, SIZE, 0)?;
            let kind = if raw { echo::Kind::Raw } else { echo::Kind::Ping };
            with_time_limit(&run, &common, signals, echo::run(&run, pipeline, kind)).await
        }
        Workload::Idle(options) => {
            let run = BenchRun::prepare(&options.common, SIZE, 0)?;
            with_time_limit(&run, &options.common, signals, idle::run(&run, &options)).await
        }
        Workload::Join(options) => {
            let run = BenchRun::prepare(&options.common, LIST_SIZE, 0)?;
            with_time_limit(&run, &options.common, signals, join::run(&run, &options)).await
        }
        Workload::Storm(mut options) => {
            let process = Process::of(options.pid, &[], &mut options.common)?;
            // Each reconnect uses another port, and the first port stays in TIME_WAIT for a while.
            let run = BenchRun::prepare(&options.common, SIZE, options.common.conns.saturating_mul(2))?;
            with_time_limit(&run, &options.common, signals, storm::run(&run, process.id(), &options)).await
        }
        Workload::Drain(mut options) => {
            let window = format!("{}ms", options.window.as_millis());
            let process = Process::of(options.pid, &["--drain", &window], &mut options.common)?;
            let run = BenchRun::prepare(&options.common, SIZE, 0)?;
            with_time_limit(&run, &options.common, signals, drain::run(&run, process, options.window)).await
        }
        Workload::Churn(Churn { common, channel }) => {
            // Each cycle uses another port, which stays in TIME_WAIT for a while.
            let run = BenchRun::prepare(&common, SIZE, u32::MAX)?;
            with_time_limit(&run, &common, signals, churn::run(&run, &channel)).await
        }
    }
}

/// Runs a workload within its deadline and under signals, and prints its report.
async fn with_time_limit(
    run: &Rc<BenchRun>,
    common: &Common,
    mut signals: Signals,
    workload: impl Future<Output = anyhow::Result<Report>>,
) -> anyhow::Result<Ended> {
    let deadline = common.deadline();
    let ended = tokio::select! {
        done = tokio::time::timeout(deadline, workload) => Ok(done),
        signal = stop_on_signal(run, &mut signals) => Err(signal),
    };
    run.progress.clear();
    let report = match ended {
        Ok(Ok(done)) => done?,
        Ok(Err(_)) => bail!("the run took longer than {:.0} s: raise --timeout", deadline.as_secs_f64()),
        Err(signal) => return Ok(Ended::BySignal(exit_code(signal))),
    };
    tokio::select! {
        printed = output::print_on_thread(report.text(common.json)?) => printed?,
        signal = signals.next() => return Ok(Ended::BySignal(exit_code(signal))),
    }
    report.verdict()?;
    Ok(Ended::Reported)
}

/// Waits for the signal that ends the run. The first Ctrl-C only ends the measurement.
async fn stop_on_signal(run: &BenchRun, signals: &mut Signals) -> Signal {
    let first = signals.next().await;
    if first != Signal::INT {
        return first;
    }
    run.interrupt();
    signals.next().await
}

const SIZE: usize = 128;
/// Message size that has room for the member list of a channel.
const LIST_SIZE: usize = 2 << 20;
/// Message size that fills the buffers of a stalled connection (some MiB) at the default rate and duration.
const SLOW_SIZE: usize = 16 << 10;
