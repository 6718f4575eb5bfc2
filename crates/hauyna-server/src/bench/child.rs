//! The server process that a workload ends: this same program as a child, or another process by its id. Sends
//! it SIGTERM and waits for its exit. The workloads `drain` and `storm` use it.

use super::options::Common;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server process. A child is killed when dropped.
#[derive(Debug)]
pub(super) enum Process {
    Child(Child),
    Other(u32),
}

impl Process {
    /// Returns the process with this id. Without an id it starts a child with these options and sets
    /// `common.url` to it.
    pub(super) fn of(pid: Option<u32>, options: &[&str], common: &mut Common) -> anyhow::Result<Self> {
        if let Some(pid) = pid {
            return Ok(Self::Other(pid));
        }
        let (process, url) = Self::start(options)?;
        common.url = url;
        Ok(process)
    }

    /// Starts `hauyna serve` on a free port of this machine. Also returns the URL of its `/chat`.
    fn start(options: &[&str]) -> anyhow::Result<(Self, String)> {
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics", "off", "--log", "warn"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server cannot be started")?;
        let mut line = String::new();
        if let Some(output) = &mut child.stdout {
            // Later output stays in the pipe, which must stay open for the child.
            BufReader::new(output).read_line(&mut line)?;
        }
        let process = Self::Child(child);
        let address = line.trim().split_once("http://").map(|(_, address)| address.to_owned());
        let address = address.with_context(|| format!("the server did not start: {line:?}"))?;
        Ok((process, format!("ws://{address}/chat")))
    }

    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Other(id) => *id,
        }
    }

    /// Sends SIGTERM, as a service manager does.
    pub(super) fn terminate(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("the process id is out of range")?;
        kill_process(id, Signal::TERM).with_context(|| format!("process {id:?} cannot be signalled"))
    }

    /// Waits until the process has ended. The exit code is known only of a child.
    pub(super) async fn ended(&mut self, timeout: Duration) -> anyhow::Result<Option<i32>> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            match self {
                Self::Child(child) => {
                    if let Some(status) = child.try_wait()? {
                        return Ok(Some(status.code().unwrap_or(-1)));
                    }
                }
                Self::Other(id) => {
                    if !std::path::Path::new(&format!("/proc/{id}")).exists() {
                        return Ok(None);
                    }
                }
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the server did not end within {:.0} s", timeout.as_secs_f64());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Child(child) = self {
            // Normally the child has already ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);
