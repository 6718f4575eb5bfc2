//! The whole run: starts the server and the drivers, injects faults through the proxy, cuts all clients off
//! for a moment, replaces the server halfway, waits until nothing more arrives, and checks the logs.

use crate::checker::{Circumstances, check};
use crate::child::Child;
use crate::report::{Report, Scale};
use crate::{log, server};
use anyhow::{Context, Result};
use hauyna_test::{Cut, FaultProxy, Schedule};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::process::Command;
use tokio::time::sleep;

/// The options of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the clients publish
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Clients of each language
    #[arg(long, default_value_t = 200)]
    clients: u32,
    /// Publications per second, of all clients together
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Channels; each client subscribes to two of them
    #[arg(long, default_value_t = 20)]
    channels: u32,
    /// Faults that each client meets in a minute
    #[arg(long, default_value_t = 4)]
    faults: u32,
    /// The seed of faults and publications
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The driver of the TypeScript clients, for Node; without one there are none
    #[arg(long)]
    node: Option<PathBuf>,
    /// Run only the clients of one language: rust or ts
    #[arg(long)]
    only: Option<String>,
    /// Directory for the logs
    #[arg(long, default_value = "target/torture")]
    logs: PathBuf,
}

/// Performs the run. Returns whether all targets were met.
///
/// # Errors
///
/// Returns an error if a process cannot be started, or does not follow an order in time.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    std::fs::create_dir_all(&options.logs)?;
    let began = SystemTime::now();
    let (mut first, address) = start_server(options, "server-1").await?;
    let proxy = FaultProxy::start(address).await;
    let mut drivers = start_drivers(options, proxy.address())?;
    for driver in drivers.values_mut() {
        driver.report("ready", TIMEOUT).await?;
    }
    for driver in drivers.values_mut() {
        driver.order("go").await?;
    }
    let all = options.clients * u32::try_from(drivers.len())?;
    let every = Duration::from_secs(60) / (options.faults * all).max(1);
    proxy.follow(Schedule::new(options.seed).every(every).duration(STALL));
    let half = Duration::from_secs(options.seconds) / 2;
    sleep(half / 2).await;
    // All connections are lost at once, and no client can connect for a moment.
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    sleep(BLACKOUT).await;
    proxy.admit();
    sleep((half / 2).saturating_sub(BLACKOUT)).await;

    let drained = now();
    let (mut second, address) = start_server(options, "server-2").await?;
    proxy.set_target(address);
    first.order("drain").await?;
    let mut server_cpu: f64 = first.report("cpu", TIMEOUT).await?.parse()?;
    first.end(TIMEOUT).await?;
    // Clients that were stalled meanwhile reconnect a little later.
    let restart = (drained, now() + u64::try_from((STALL + AFTERWARDS).as_millis())?);
    sleep(half.saturating_sub(Duration::from_millis(now() - drained))).await;

    proxy.undisturbed();
    for driver in drivers.values_mut() {
        driver.order("stop").await?;
    }
    for driver in drivers.values_mut() {
        driver.report("stopped", SETTLING).await?;
    }
    for driver in drivers.values_mut() {
        driver.order("end").await?;
    }
    let mut cpu = BTreeMap::new();
    for (language, mut driver) in drivers {
        cpu.insert(language.to_owned(), driver.report("cpu", TIMEOUT).await?.parse()?);
        driver.end(TIMEOUT).await?;
    }
    second.order("cpu").await?;
    server_cpu += second.report("cpu", TIMEOUT).await?.parse::<f64>()?;
    second.end(TIMEOUT).await?;

    let logs =
        cpu.keys().map(|language| log::read(&log_of(options, language))).collect::<Result<Vec<_>>>()?;
    let grace = u64::try_from(server::GRACE.as_millis())?;
    let verdict = check(&logs, Circumstances { restart: Some(restart), grace });
    let scale = Scale { seed: options.seed, seconds: options.seconds, took: began.elapsed()?, server_cpu };
    let is_violated = verdict.together().is_violated();
    print!("{}", Report { verdict, faults: proxy.faults(), cpu, scale });
    Ok(!is_violated)
}

async fn start_server(options: &Options, name: &str) -> Result<(Child, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("server");
    let mut server = Child::start("server", command, &options.logs.join(format!("{name}.err")))?;
    let address = server.report("listening", TIMEOUT).await?;
    Ok((server, address.parse().context("the server's address")?))
}

/// Starts one process for each language.
fn start_drivers(options: &Options, proxy: SocketAddr) -> Result<BTreeMap<&'static str, Child>> {
    let mut commands = BTreeMap::new();
    let mut rust = Command::new(std::env::current_exe()?);
    rust.arg("clients");
    commands.insert("rust", rust);
    if let Some(driver) = &options.node {
        let mut node = Command::new("node");
        node.arg(driver);
        commands.insert("ts", node);
    }
    commands.retain(|language, _| options.only.as_ref().is_none_or(|only| only == language));
    anyhow::ensure!(!commands.is_empty(), "there are no clients");
    let rate = options.rate / u32::try_from(commands.len())?;
    let mut drivers = BTreeMap::new();
    for (language, mut command) in commands {
        command.args(["--url", &format!("ws://{proxy}/"), "--language", language]);
        for (option, number) in [
            ("--clients", options.clients.into()),
            ("--channels", options.channels.into()),
            ("--rate", rate.into()),
            ("--seed", options.seed),
        ] {
            command.args([option, &number.to_string()]);
        }
        command.arg("--log").arg(log_of(options, language));
        let complaints = options.logs.join(format!("{language}.err"));
        drivers.insert(language, Child::start("driver", command, &complaints)?);
    }
    Ok(drivers)
}

fn log_of(options: &Options, language: &str) -> PathBuf {
    Path::new(&options.logs).join(format!("{language}.jsonl"))
}

/// Returns the milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum time for a child to follow an order.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time until all clients are back and have received the last publication.
const SETTLING: Duration = Duration::from_secs(120);
/// How long no client can connect.
const BLACKOUT: Duration = Duration::from_secs(1);
/// Maximum length of a stall: longer than the heartbeat timeout.
const STALL: Duration = Duration::from_secs(8);
/// Maximum time after a stall until a client is back: the heartbeat timeout and one attempt.
const AFTERWARDS: Duration = Duration::from_secs(7);
