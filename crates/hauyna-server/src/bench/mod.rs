//! `hauyna bench`: the load tool. One thread, one task per connection, on the project's own codec in the client's
//! role. This file runs a workload between its checks and its report; each workload is a file of its own.

mod child;
mod churn;
mod connection;
mod drain;
mod echo;
mod fanout;
mod idle;
mod join;
mod mark;
mod options;
mod order;
mod outstanding;
mod progress;
mod protocol;
mod recorder;
mod report;
mod run;
mod session;
mod stalled;
mod storm;
mod system;
mod target;

pub(crate) use options::Options;

use anyhow::bail;
use child::Process;
use options::{Churn, Common, Echo, Fanout, Slow, Workload};
use report::Report;
use run::Run;
use std::rc::Rc;
use tokio::task::LocalSet;

/// Runs one workload and prints what it measured.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Options { workload } = options;
    LocalSet::new().block_on(&runtime, async {
        match workload {
            Workload::Fanout(Fanout { common, channels }) => {
                let run = Run::prepare(&common, SIZE, 0)?;
                let plan = fanout::Plan::of(channels, &run)?;
                bounded(&run, &common, fanout::run(&run, plan)).await
            }
            Workload::Slow(Slow { common, channels, stalled }) => {
                let run = Run::prepare(&common, SLOW_SIZE, 0)?;
                let plan = fanout::Plan::stalled(channels, stalled, &run)?;
                bounded(&run, &common, fanout::run(&run, plan)).await
            }
            Workload::Echo(Echo { common, pipeline, raw }) => {
                let run = Run::prepare(&common, SIZE, 0)?;
                let kind = if raw { echo::Kind::Raw } else { echo::Kind::Ping };
                bounded(&run, &common, echo::run(&run, pipeline, kind)).await
            }
            Workload::Idle(options) => {
                let run = Run::prepare(&options.common, SIZE, 0)?;
                bounded(&run, &options.common, idle::run(&run, &options)).await
            }
            Workload::Join(options) => {
                let run = Run::prepare(&options.common, LISTS, 0)?;
                bounded(&run, &options.common, join::run(&run, &options)).await
            }
            Workload::Storm(mut options) => {
                let process = Process::of(options.pid, &[], &mut options.common)?;
                // Every connection takes another port, and its first one rests for a while.
                let run = Run::prepare(&options.common, SIZE, options.common.conns.saturating_mul(2))?;
                bounded(&run, &options.common, storm::run(&run, process.id(), &options)).await
            }
            Workload::Drain(mut options) => {
                let window = format!("{}ms", options.window.as_millis());
                let process = Process::of(options.pid, &["--drain", &window], &mut options.common)?;
                let run = Run::prepare(&options.common, SIZE, 0)?;
                bounded(&run, &options.common, drain::run(&run, process, options.window)).await
            }
            Workload::Churn(Churn { common, channel }) => {
                // Every cycle takes another port, which rests for a while after it.
                let run = Run::prepare(&common, SIZE, u32::MAX)?;
                bounded(&run, &common, churn::run(&run, &channel)).await
            }
        }
    })
}

/// Runs a workload within its deadline and under Ctrl-C, and prints its report.
async fn bounded(
    run: &Rc<Run>,
    common: &Common,
    workload: impl Future<Output = anyhow::Result<Report>>,
) -> anyhow::Result<()> {
    tokio::task::spawn_local(run.clone().heed_interrupts());
    let deadline = common.deadline();
    let Ok(done) = tokio::time::timeout(deadline, workload).await else {
        run.progress.clear();
        bail!("not done within {:.0} s (--timeout)", deadline.as_secs_f64());
    };
    run.progress.clear();
    let report = done?;
    report.print(common.json)?;
    report.verdict()
}

const SIZE: usize = 128;
/// Room for the list of a channel.
const LISTS: usize = 2 << 20;
/// At the default rate enough to fill the buffers of a stalled connection, some MiB, within the default time.
const SLOW_SIZE: usize = 16 << 10;
