//! The server process. It gets orders on its standard input and writes reports to its standard output. It is
//! killed when its owner ends. `stage` uses it.

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
    /// Returns an error if it does not start.
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

    /// Returns the identifier of the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the server has ended.
    pub(crate) fn id(&self) -> Result<u32> {
        self.process.id().context("the server has ended")
    }

    /// Sends an order.
    ///
    /// # Errors
    ///
    /// Returns an error if the server has ended.
    pub(crate) async fn order(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).await.context("the server has ended")
    }

    /// Waits for a report that begins with `word`, and returns the rest of it.
    ///
    /// # Errors
    ///
    /// Returns an error if the report does not arrive in time, or the server ends.
    pub(crate) async fn report(&mut self, word: &str, wait: Duration) -> Result<String> {
        let awaited = async {
            while let Some(line) = self.reports.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            anyhow::bail!("the server ended before it reported `{word}`")
        };
        timeout(wait, awaited)
            .await
            .with_context(|| format!("the server did not report `{word}` within {wait:?}"))?
    }

    /// Ends the process.
    pub(crate) async fn kill(mut self) {
        // An error means that the process has already ended.
        let _ = self.process.kill().await;
    }
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
