//! A child process that gets orders as lines on its standard input and writes reports as lines to its
//! standard output. It is killed when its owner ends. `run` uses it for servers and drivers.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A running child.
pub(crate) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    orders: Option<ChildStdin>,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a program whose standard error goes into `log`.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let complaints = std::fs::File::create(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        let orders = process.stdin.take();
        let reports = process.stdout.take().context("a child has an output")?;
        Ok(Self { name, process, orders, reports: BufReader::new(reports).lines() })
    }

    /// Sends an order.
    ///
    /// # Errors
    ///
    /// Returns an error if the child has ended.
    pub(crate) async fn order(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("the child was already asked to end")?;
        let sent = orders.write_all(format!("{order}\n").as_bytes()).await;
        sent.with_context(|| format!("the {} is gone", self.name))
    }

    /// Waits for a report that begins with `word`, and returns the rest of it.
    ///
    /// # Errors
    ///
    /// Returns an error if the report does not arrive in time, or the child ends.
    pub(crate) async fn report(&mut self, word: &str, wait: Duration) -> Result<String> {
        let awaited = async {
            while let Some(line) = self.reports.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            bail!("the {} ended before it reported `{word}`", self.name)
        };
        let report = timeout(wait, awaited).await;
        report.with_context(|| format!("the {} did not report `{word}` within {wait:?}", self.name))?
    }

    /// Closes its input and checks that it ends successfully.
    ///
    /// # Errors
    ///
    /// Returns an error if it fails, or does not end in time.
    pub(crate) async fn end(mut self, wait: Duration) -> Result<()> {
        drop(self.orders.take());
        let ended = timeout(wait, self.process.wait()).await;
        let status = ended.with_context(|| format!("the {} did not end in {wait:?}", self.name))??;
        anyhow::ensure!(status.success(), "the {} ended with {status}", self.name);
        Ok(())
    }
}

/// Returns the orders to this process. The channel closes when the standard input ends.
pub(crate) fn orders() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Returns the processor time of this process on all cores, in seconds; 0 if the system does not provide it.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // proc(5): user time is field 14, system time 15, in ticks of 10 ms; the first two fields are cut off.
    let ticks =
        |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
