//! Runs a child process with a deadline and a log file for its output, and ends it with all its descendants.
//! Every step uses it, so that no step can hang or leave a process behind.

use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs `command` and returns its output of both streams. The log is `target/xtask/NAME.log`.
///
/// # Errors
///
/// Returns an error with the last lines of output if the command cannot be started, does not end in time, or
/// fails.
pub(crate) fn run(
    workspace: &Workspace,
    name: &str,
    command: &mut Command,
    limit: Duration,
) -> Result<String> {
    let log = workspace.scratch.join(format!("{name}.log"));
    let status = run_into(command, &log, limit)?;
    let output = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if workspace.verbose {
        std::io::stdout().write_all(output.as_bytes())?;
    }
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => bail!("{status}\n{}", last_lines(&output)),
        None => bail!("took longer than {} s\n{}", limit.as_secs(), last_lines(&output)),
    }
}

fn run_into(command: &mut Command, log: &Path, limit: Duration) -> Result<Option<ExitStatus>> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut guard = Guard(child);
    guard.wait(limit)
}

/// A child that does not outlive its owner. Dropping it sends SIGTERM, and after two seconds kills it
/// together with its descendants.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    /// Waits until the child ends. Returns `None` if `limit` has passed.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends SIGTERM and waits for the child. Returns its status, or `None` if it had to be killed.
    pub(crate) fn stop(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(Some(status));
        }
        let family = descendants(self.0.id());
        signal("-TERM", &[self.0.id()]);
        let status = self.wait(limit)?;
        if status.is_none() {
            self.0.kill()?;
            self.0.wait()?;
        }
        let survivors = family.into_iter().filter(|member| Process::read(member.id).as_ref() == Some(member));
        signal("-KILL", &survivors.map(|member| member.id).collect::<Vec<_>>());
        Ok(status)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(problem) = self.stop(Duration::from_secs(2)) {
            eprintln!("process {} may still be running: {problem}", self.0.id());
        }
    }
}

fn signal(which: &str, ids: &[u32]) {
    if ids.is_empty() {
        return;
    }
    let sent =
        Command::new("kill").arg(which).args(ids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
    if let Err(problem) = sent {
        eprintln!("cannot run kill: {problem}");
    }
}

/// A process. Its start time distinguishes it from a later one with the same id.
#[derive(Clone, Copy)]
struct Process {
    id: u32,
    parent: u32,
    started: u64,
}

impl Process {
    fn read(id: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // proc(5): state is field 3, parent 4, start time 22; the first two fields are cut off. A zombie has
        // ended.
        if fields.first() == Some(&"Z") {
            return None;
        }
        Some(Process { id, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        (self.id, self.started) == (other.id, other.started)
    }
}

/// Returns the descendants of a process.
fn descendants(root: u32) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = ids.filter_map(Process::read).collect();
    let mut found: Vec<Process> = all.iter().filter(|process| process.parent == root).copied().collect();
    let mut next = 0;
    while let Some(member) = found.get(next).copied() {
        found.extend(all.iter().filter(|process| process.parent == member.id));
        next += 1;
    }
    found
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

const POLL: Duration = Duration::from_millis(20);
const SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_what_it_started_are_ended_when_their_owner_goes() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & trap '' TERM; while :; do sleep 1000; done"]).stdout(Stdio::null());
        let guard = Guard(shell.spawn().expect("a shell"));
        let id = guard.0.id();
        await_that(|| descendants(id).len() == 2);
        let family = descendants(id);
        drop(guard);
        await_that(|| family.iter().all(|member| Process::read(member.id).as_ref() != Some(member)));
    }

    fn await_that(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "not within ten seconds");
            std::thread::yield_now();
        }
    }
}
