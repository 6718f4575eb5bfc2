//! Queries of the operating system: descriptors for the connections, memory and processor time of the server.

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Raises the soft limit of descriptors as far as needed and allowed. Fails if there are too few for the
/// connections.
pub(super) fn allow_descriptors(conns: u32) -> anyhow::Result<()> {
    let limits = getrlimit(Resource::Nofile);
    let needed = u64::from(conns) + OWN_DESCRIPTORS;
    let mut allowed = limits.current.unwrap_or(u64::MAX);
    if allowed < needed {
        let wanted = limits.maximum.map_or(needed, |maximum| maximum.min(needed));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limits.maximum }).is_ok() {
            allowed = wanted;
        }
    }
    if allowed < needed {
        bail!(
            "{conns} connections need {needed} open files, but the limit is {allowed}: raise it with `ulimit -Hn`"
        );
    }
    Ok(())
}

/// Returns the resident memory of a process, in bytes.
pub(super) fn resident(pid: u32) -> anyhow::Result<u64> {
    if !cfg!(target_os = "linux") {
        bail!("--pid reads /proc, which only Linux has");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| anyhow::anyhow!("--pid {pid}: {error}"))?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let kib: u64 = kib.with_context(|| format!("--pid {pid}: the process has no user memory"))?;
    Ok(kib * 1024)
}

/// Returns the processor time of another process: user and system time of all its threads.
pub(super) fn cpu_time_of(pid: u32) -> anyhow::Result<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|error| anyhow::anyhow!("--pid {pid}: {error}"))?;
    let mut nanos = 0;
    for thread in threads {
        // A thread that has just ended has no file any more.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Returns the processor time of this process, user and system.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Descriptors of the standard streams and the runtime, and some spare ones.
const OWN_DESCRIPTORS: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_descriptors_are_refused() {
        assert!(allow_descriptors(10).is_ok());
        if getrlimit(Resource::Nofile).maximum.is_some_and(|maximum| maximum < u64::from(u32::MAX)) {
            assert!(allow_descriptors(u32::MAX).unwrap_err().to_string().contains("ulimit"));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_memory_of_a_process_is_read() {
        assert!(resident(std::process::id()).unwrap() > 100_000);
        assert!(resident(u32::MAX).is_err());
        assert!(cpu_time_of(std::process::id()).unwrap() > Duration::ZERO);
        assert!(cpu_time_of(u32::MAX).is_err());
    }
}
