//! Resume and recovery on every kind of network, in virtual time: the real server and this client on the
//! hosts of a simulated network that is cut, held, split and slowed, while the server crashes.
//! `HAUYNA_SCHEDULES` sets the number of schedules, `HAUYNA_SEED` repeats one. The seed does not determine
//! the order of hash maps in the server.

#[cfg(test)]
mod client;
#[cfg(test)]
mod network;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod server;
#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use crate::oracle::Tally;
    use crate::plan::Plan;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok()?.parse().ok()
    }

    #[test]
    fn no_schedule_loses_messages_silently_or_reports_a_leave() {
        if let Some(seed) = number("HAUYNA_SEED") {
            let (tally, faults) = crate::world::run(&Plan::draw(seed));
            assert!(faults.is_empty(), "{faults:#?}");
            return eprintln!("{tally:?}");
        }
        let schedules = number("HAUYNA_SCHEDULES").unwrap_or(SCHEDULES);
        let first = number("HAUYNA_FIRST").unwrap_or(1);
        let (next, result) = (AtomicU64::new(first), Mutex::new((Tally::default(), Vec::new())));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + schedules {
                            return;
                        }
                        let (tally, faults) = crate::world::run(&Plan::draw(seed));
                        let mut result = result.lock().unwrap();
                        result.0.add(&tally);
                        result
                            .1
                            .extend(faults.into_iter().map(|fault| format!("HAUYNA_SEED={seed}: {fault}")));
                    }
                });
            }
        });
        let (tally, faults) = result.into_inner().unwrap();
        eprintln!("{schedules} schedules, {} violations: {tally:#?}", faults.len());
        assert!(faults.is_empty(), "{:#?}", &faults[..faults.len().min(20)]);
        assert!(
            tally.published > schedules && tally.restarts > 0 && tally.turns > 0 && tally.gaps > 0,
            "{tally:?}"
        );
        assert!(tally.resumed > schedules / 4, "{tally:?}");
    }

    /// A client that gave up would never receive everything.
    #[test]
    fn after_long_outages_every_client_is_back_without_silent_losses() {
        for (seed, seconds) in [(1, 60), (2, 60), (3, 600), (4, 600)] {
            let (tally, faults) = crate::world::run(&Plan::outage(seed, Duration::from_secs(seconds)));
            assert!(faults.is_empty(), "{seed}, {seconds} s: {faults:#?}");
            assert!(tally.restarts == 1 && tally.virtual_ms > seconds * 1_000, "{tally:?}");
            assert!(tally.gaps > 0, "a memory that is lost is told: {tally:?}");
            assert!(
                tally.acknowledged > 0 && tally.failed > 0,
                "what cannot be sent in time is told: {tally:?}"
            );
            eprintln!("{seconds} s away: {tally:?}");
        }
    }

    /// Number of schedules that the suite has time for.
    const SCHEDULES: u64 = 300;
}
