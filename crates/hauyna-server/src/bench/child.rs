//! The server that a workload ends: one of the tool's own, this same program as a child, or another by its process
//! id. Knows how to signal it, and how it ended.

use super::options::Common;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process; one of our own is killed when dropped.
#[derive(Debug)]
pub(super) enum Process {
    Ours(Child),
    Other(u32),
}

impl Process {
    /// The one with this process id, or else one of our own with these options, at which the load is aimed then.
    pub(super) fn of(pid: Option<u32>, options: &[&str], common: &mut Common) -> anyhow::Result<Self> {
        if let Some(pid) = pid {
            return Ok(Self::Other(pid));
        }
        let (process, url) = Self::start(options)?;
        common.url = url;
        Ok(process)
    }

    /// Starts `hauyna serve` on a free port of this machine; gives the URL of its `/chat`, too.
    fn start(options: &[&str]) -> anyhow::Result<(Self, String)> {
        let program = std::env::current_exe().context("this program is not found")?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics", "off", "--log", "warn"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server cannot be started")?;
        let mut line = String::new();
        if let Some(output) = &mut child.stdout {
            // What it says besides stays in the pipe, which has to stay open for it.
            BufReader::new(output).read_line(&mut line)?;
        }
        let this = Self::Ours(child);
        let address = line.trim().split_once("http://").map(|(_, address)| address.to_owned());
        let address = address.with_context(|| format!("the server did not start: {line:?}"))?;
        Ok((this, format!("ws://{address}/chat")))
    }

    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Ours(child) => child.id(),
            Self::Other(id) => *id,
        }
    }

    /// Asks it to end, as a service manager does.
    pub(super) fn terminate(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("this is no process id")?;
        kill_process(id, Signal::TERM).with_context(|| format!("process {id:?} cannot be signalled"))
    }

    /// Waits for its end. The exit code is known of a server of our own alone.
    pub(super) async fn ended(&mut self, patience: Duration) -> anyhow::Result<Option<i32>> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match self {
                Self::Ours(child) => {
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
                bail!("the server has not ended within {:.0} s", patience.as_secs_f64());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Ours(child) = self {
            // It has ended already, where all went well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);
