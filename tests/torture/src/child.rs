//! A child process that is spoken to in lines: orders into its standard input, reports out of its standard output. It is
//! killed with its owner.

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
    /// Starts a program; what it complains of goes into `log`.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let complaints = std::fs::File::create(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        let orders = process.stdin.take();
        let reports = process.stdout.take().context("a child has an output")?;
        Ok(Self { name, process, orders, reports: BufReader::new(reports).lines() })
    }

    /// Tells it what to do next.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) async fn order(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("it was told to end")?;
        let sent = orders.write_all(format!("{order}\n").as_bytes()).await;
        sent.with_context(|| format!("the {} is gone", self.name))
    }

    /// Waits for a report that begins with `word`, and gives the rest of it.
    ///
    /// # Errors
    ///
    /// It does not come in time, or the child ends.
    pub(crate) async fn report(&mut self, word: &str, patience: Duration) -> Result<String> {
        let awaited = async {
            while let Some(line) = self.reports.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            bail!("the {} ended before it said `{word}`", self.name)
        };
        let report = timeout(patience, awaited).await;
        report.with_context(|| format!("the {} did not say `{word}` in {patience:?}", self.name))?
    }

    /// Lets it end, and sees that it ends well.
    ///
    /// # Errors
    ///
    /// It fails, or does not end in time.
    pub(crate) async fn end(mut self, patience: Duration) -> Result<()> {
        drop(self.orders.take());
        let ended = timeout(patience, self.process.wait()).await;
        let status = ended.with_context(|| format!("the {} did not end in {patience:?}", self.name))??;
        anyhow::ensure!(status.success(), "the {} ended with {status}", self.name);
        Ok(())
    }
}

/// The orders that this process is given. They end with who gives them.
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

/// How long this process has been at work, on all cores; 0 where the system does not tell.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // proc(5): user time is field 14, system time 15, in ticks of 10 ms; the first two are cut off.
    let ticks =
        |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
