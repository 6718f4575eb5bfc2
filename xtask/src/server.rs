//! The program under test as a child process: starts it on a free port, reads its address from its first
//! lines, and ends it when dropped. All tests and benchmarks of xtask use it.

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
    /// Starts the release program on a free port with more `options` of `serve`, and waits until it listens.
    ///
    /// # Errors
    ///
    /// Returns an error if the program cannot be started, or does not print an address in time.
    pub(crate) fn start(workspace: &Workspace, options: &[&str]) -> Result<Server> {
        Server::spawn(workspace, workspace.command(&workspace.program().to_string_lossy()), options)
    }

    /// Starts a build of the program in the same way, pinned to the first core.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`start`](Server::start).
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

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.guard.0.id()
    }

    /// Asks the server to end.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not end in time, or fails.
    pub(crate) fn stop(mut self) -> Result<()> {
        match self.guard.stop(END)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the server ended with {status} after SIGTERM"),
            None => bail!("the server did not end within {} s of SIGTERM", END.as_secs()),
        }
    }
}

/// Returns a command that runs on the first core, if `taskset` is installed.
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

/// Reads the output to its end, so that the server never blocks on it, and passes on the first address.
fn addresses_in(output: ChildStdout) -> Receiver<SocketAddr> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // Nobody waits for a second address.
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
/// Maximum time for the program to end; it drains its connections for up to ten seconds.
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
