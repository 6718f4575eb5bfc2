//! The program under test as a child process: started on a free port, its address read from its first lines,
//! asked to end when dropped. Tests and benchmarks start it only through here.

use crate::process::Guard;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// A running `hauyna serve`.
pub(crate) struct Server {
    guard: Guard,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the release program on a free port with further `options` of `serve`, and waits until it listens.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or does not print an address in time.
    pub(crate) fn start(workspace: &Workspace, options: &[&str]) -> Result<Server> {
        Server::spawn(workspace, workspace.command(&workspace.program().to_string_lossy()), options)
    }

    /// Starts a program of ours in the same way, on the first core only.
    ///
    /// # Errors
    ///
    /// As [`start`](Server::start).
    pub(crate) fn start_pinned(workspace: &Workspace, program: &Path, options: &[&str]) -> Result<Server> {
        Server::spawn(workspace, pinned(workspace, &program.to_string_lossy()), options)
    }

    fn spawn(workspace: &Workspace, mut command: Command, options: &[&str]) -> Result<Server> {
        let log = File::create(workspace.scratch.join("server.log"))?;
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut guard = Guard(child.context("cannot start the server")?);
        let output = guard.0.stdout.take().context("the server has no output")?;
        match addresses_in(output).recv_timeout(START) {
            Ok(address) => Ok(Server { guard, address }),
            Err(RecvTimeoutError::Timeout) => bail!("the server printed no address in {} s", START.as_secs()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = guard.wait(Duration::from_secs(1))?;
                bail!(
                    "the server ended ({status:?}) before it listened; see server.log in {}",
                    workspace.scratch.display()
                )
            }
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.guard.0.id()
    }

    /// Asks the server to end.
    ///
    /// # Errors
    ///
    /// It does not end in time, or not with success.
    pub(crate) fn stop(mut self) -> Result<()> {
        match self.guard.stop(END)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the server ended with {status} after SIGTERM"),
            None => bail!("the server did not end within {} s of SIGTERM", END.as_secs()),
        }
    }
}

/// A command on the first core, where `taskset` is there.
pub(crate) fn pinned(workspace: &Workspace, program: &str) -> Command {
    match on_path(&["taskset"]) {
        Some(taskset) => {
            let mut command = workspace.command(&taskset.to_string_lossy());
            command.args(["-c", "0", program]);
            command
        }
        None => workspace.command(program),
    }
}

/// Reads the output to its end, so that the server never waits for us, and passes the first address on.
fn addresses_in(output: ChildStdout) -> Receiver<SocketAddr> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // A second address has nobody waiting for it.
                let _ = sender.try_send(address);
            }
        }
    });
    receiver
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let at = line.find("127.0.0.1:")?;
    let rest = &line[at..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}

const START: Duration = Duration::from_secs(20);
/// The program gives its connections ten seconds to take what is queued for them.
const END: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_wherever_it_stands_in_the_line() {
        for line in [
            "hauyna listens on http://127.0.0.1:8080/",
            "127.0.0.1:8080.",
            "\u{1b}[1m127.0.0.1:8080\u{1b}[0m",
        ] {
            assert_eq!(address_in(line), Some(([127, 0, 0, 1], 8080).into()), "{line}");
        }
        assert_eq!(address_in("starting"), None);
    }
}
