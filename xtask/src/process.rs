//! Runs a child process with a deadline, its output in a log file, and ends it with all that it started. Every
//! step goes through here, so that none can hang and none leaves a process behind.

use crate::house::House;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs `command` and returns what it wrote to either stream. The log is `target/xtask/NAME.log`.
///
/// # Errors
///
/// The command cannot be started, does not end in time, or ends with a failure; the error carries its last lines.
pub(crate) fn run(house: &House, name: &str, command: &mut Command, limit: Duration) -> Result<String> {
    let log = house.scratch.join(format!("{name}.log"));
    let status = run_into(command, &log, limit)?;
    let output = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if house.verbose {
        std::io::stdout().write_all(output.as_bytes())?;
    }
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => bail!("{status}\n{}", last_lines(&output)),
        None => bail!("not done within {} s\n{}", limit.as_secs(), last_lines(&output)),
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

/// A child that does not outlive its owner: dropped while it runs, it is asked to end (SIGTERM), and after two
/// seconds it is killed together with its descendants.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    /// Waits until the child ends or `limit` has passed (none).
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

    /// Asks the child to end and waits for it. Returns its status, or none where it had to be killed.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(Some(status));
        }
        let family = descendants(self.0.id());
        signal("-TERM", &[self.0.id()]);
        let status = self.wait(patience)?;
        if status.is_none() {
            self.0.kill()?;
            self.0.wait()?;
        }
        signal("-KILL", &family.into_iter().filter(|&id| is_orphan(id)).collect::<Vec<_>>());
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
        eprintln!("kill cannot be run: {problem}");
    }
}

/// The children of a process, their children, and so on.
fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, parent(id)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&member) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

/// Whether a former descendant lost its parent, so that nobody else will end it.
fn is_orphan(id: u32) -> bool {
    parent(id) == Some(1)
}

fn parent(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

const POLL: Duration = Duration::from_millis(20);
const SHOWN: usize = 120;
