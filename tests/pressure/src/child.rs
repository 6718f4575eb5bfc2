//! The server process: orders into its standard input, reports out of its standard output. It is killed with its owner.

use crate::order::Order;
use crate::server::Options;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    process: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
}

impl ServerProcess {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) async fn start(options: Options) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("server").args([
            "--runtime",
            &name(&options.runtime),
            "--policy",
            &name(&options.policy),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start the server")?;
        let orders = process.stdin.take().context("a child has an input")?;
        let reports = BufReader::new(process.stdout.take().context("a child has an output")?).lines();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { process, orders, reports, address };
        server.address = server.report("listening", Duration::from_secs(10)).await?.parse()?;
        Ok(server)
    }

    /// The identifier of the process.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) fn id(&self) -> Result<u32> {
        self.process.id().context("the server has ended")
    }

    /// Tells it what to do.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) async fn order(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).await.context("the server has ended")
    }

    /// Waits for a report that begins with `word`, and gives the rest of it.
    ///
    /// # Errors
    ///
    /// It does not come in time, or the server ends.
    pub(crate) async fn report(&mut self, word: &str, patience: Duration) -> Result<String> {
        let awaited = async {
            while let Some(line) = self.reports.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            anyhow::bail!("the server ended before it said `{word}`")
        };
        timeout(patience, awaited)
            .await
            .with_context(|| format!("the server did not say `{word}` in {patience:?}"))?
    }

    /// Ends the process.
    pub(crate) async fn kill(mut self) {
        // One that has ended already needs no killing.
        let _ = self.process.kill().await;
    }
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
