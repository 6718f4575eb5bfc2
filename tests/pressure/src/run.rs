//! The run: each scenario with each of its policies, on each kind of runtime, one after the other. `main`
//! calls it.

use crate::report;
use crate::scenarios::{SCENARIOS, Scenario};
use crate::server::{Options as ServerOptions, Policy, Runtime};
use crate::stage::{Outcome, Stage};
use anyhow::Result;
use std::time::Duration;
use tokio::time::timeout;

/// The options of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer messages, and the kinds of runtime in turn instead of each scenario on all of them
    #[arg(long)]
    short: bool,
    /// Run only these scenarios
    #[arg(long)]
    only: Vec<String>,
    /// Run only this policy
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Run only this kind of runtime
    #[arg(long, value_enum)]
    runtime: Option<Runtime>,
}

/// Number of messages of the scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Short,
    Full,
}

/// Runs the selected scenarios. Returns whether no required count is violated.
///
/// # Errors
///
/// Returns an error if a scenario does not exist, or a server does not start.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    for name in &options.only {
        let is_known = SCENARIOS.iter().any(|scenario| scenario.name == name);
        anyhow::ensure!(is_known, "unknown scenario {name}");
    }
    report::print_head();
    let (mut rows, mut turn) = (Vec::new(), 0);
    for scenario in SCENARIOS.iter().filter(|scenario| is_wanted(options, scenario)) {
        for policy in scenario.policies.iter().copied().filter(|one| options.policy.is_none_or(|p| p == *one))
        {
            for runtime in runtimes(options, turn) {
                let server = ServerOptions { runtime, policy };
                let scale = if options.short { Scale::Short } else { Scale::Full };
                let mut outcome = perform(scenario, server, scale).await?;
                report::print_row(scenario.name, server, &outcome);
                if outcome.is_in_doubt() {
                    outcome = perform(scenario, server, scale).await?;
                    report::print_row(scenario.name, server, &outcome);
                }
                rows.push(outcome);
            }
            turn += 1;
        }
    }
    report::print_sum(&rows);
    let doubtful = rows.iter().filter(|row| row.is_in_doubt()).count();
    let is_certain = rows.iter().any(|row| row.is_violated() && !row.is_in_doubt());
    Ok(!is_certain && doubtful <= if options.short { DOUBTFUL } else { 0 })
}

fn is_wanted(options: &Options, scenario: &Scenario) -> bool {
    let is_named = options.only.is_empty() || options.only.iter().any(|name| name == scenario.name);
    is_named && (scenario.in_short || !options.short || !options.only.is_empty())
}

fn runtimes(options: &Options, turn: usize) -> Vec<Runtime> {
    let all = [Runtime::Multi, Runtime::PerCore, Runtime::Streams];
    match options.runtime {
        Some(runtime) => vec![runtime],
        None if options.short => vec![all[turn % all.len()]],
        None => all.to_vec(),
    }
}

async fn perform(scenario: &Scenario, server: ServerOptions, scale: Scale) -> Result<Outcome> {
    let mut stage = Stage::open(server, scale).await?;
    let end = timeout(LIMIT, (scenario.run)(&mut stage)).await;
    let end = end.unwrap_or_else(|_| Err(anyhow::anyhow!("the scenario took longer than {LIMIT:?}")));
    Ok(stage.finish(end).await)
}

/// Number of rows that may be in doubt in the short run, since it runs on machines of any speed. Faults of
/// the server violate dozens of rows.
const DOUBTFUL: usize = 3;
/// Maximum time of one scenario.
const LIMIT: Duration = Duration::from_secs(150);
