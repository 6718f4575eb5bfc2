//! One schedule from start to end: the hosts, the faults at their moments, the calm, and the check of the
//! results.

use crate::client::{ClientShared, Record, Report};
use crate::oracle::{Tally, find_faults};
use crate::plan::{Fault, Plan};
use crate::server::{ServerShared, serve};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turmoil::Sim;

/// Runs a schedule. Returns its counts and its faults.
pub(crate) fn run(plan: &Plan) -> (Tally, Vec<String>) {
    let mut world = World::new(plan.clone());
    let mut faults = Vec::new();
    if let Err(text) = world.disturb().and_then(|()| world.settle()) {
        faults.push(text);
    }
    let records: Vec<Record> =
        world.desks.iter().map(|shared| std::mem::take(&mut *shared.record.lock().unwrap())).collect();
    let restarts = world.restarts;
    let virtual_ms = world.sim.elapsed().as_millis() as u64;
    let published = world.shared.published();
    faults.extend(find_faults(&published, &records, restarts > 0));
    world.shared.end_life();
    let count = |f: fn(&Record) -> usize| records.iter().map(f).sum::<usize>() as u64;
    let tally = Tally {
        published: published.len() as u64,
        acknowledged: count(|record| record.acknowledged.len()),
        failed: count(|record| record.failed.len()),
        received: count(|record| {
            record.reports.iter().filter(|reports| matches!(reports, Report::Message { .. })).count()
        }),
        gaps: count(|record| {
            record.reports.iter().filter(|reports| matches!(reports, Report::Gap(_))).count()
        }),
        resumed: records.iter().map(|record| record.resumed).sum(),
        restarts,
        turns: world.turns,
        virtual_ms,
    };
    if std::env::var_os("HAUYNA_SEED").is_some() {
        eprintln!("{plan:#?}\n{published:#?}\n{records:#?}");
    }
    (tally, faults)
}

struct World {
    plan: Plan,
    sim: Sim<'static>,
    shared: ServerShared,
    desks: Vec<ClientShared>,
    is_calm: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    restarts: u64,
    turns: u64,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(if plan.outage.is_some() { OUTAGE_TICK } else { Duration::from_millis(2) })
            .max_message_latency(plan.latency)
            .simulation_duration(Duration::from_secs(3600))
            .tcp_capacity(100_000)
            .enable_random_order()
            .build();
        let shared = ServerShared::default();
        let (is_calm, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (own_plan, own_shared) = (plan.clone(), shared.clone());
        sim.host("server", move || serve(own_plan.clone(), own_shared.clone()));
        let mut desks = Vec::new();
        for number in 0..plan.clients {
            let record = Arc::new(Mutex::new(Record::default()));
            let shared = ClientShared { number, record, is_calm: is_calm.clone(), is_over: is_over.clone() };
            sim.client(name(number), crate::client::run(plan.clone(), shared.clone()));
            desks.push(shared);
        }
        Self { plan, sim, shared, desks, is_calm, is_over, restarts: 0, turns: 0 }
    }

    fn step(&mut self) -> Result<bool, String> {
        self.sim.step().map_err(|error| format!("a host failed: {error}"))
    }

    /// Runs the time of the faults.
    fn disturb(&mut self) -> Result<(), String> {
        let faults = std::mem::take(&mut self.plan.faults);
        let end = faults.last().map_or(self.plan.calm, |(at, _)| self.plan.calm.max(*at));
        let mut due = faults.into_iter().peekable();
        while self.sim.elapsed() <= end {
            while let Some((_, fault)) = due.next_if(|(at, _)| *at <= self.sim.elapsed()) {
                self.apply(fault);
            }
            self.step()?;
        }
        due.for_each(|(_, fault)| self.apply(fault));
        for number in 0..self.plan.clients {
            self.sim.repair(name(number), "server");
            self.sim.release(name(number), "server");
        }
        self.is_calm.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(client) => self.sim.partition(name(client), "server"),
            Fault::LoseFromClient(client) => self.sim.partition_oneway(name(client), "server"),
            Fault::LoseToClient(client) => self.sim.partition_oneway("server", name(client)),
            Fault::Repair(client) => self.sim.repair(name(client), "server"),
            Fault::Hold(client) => self.sim.hold(name(client), "server"),
            Fault::Release(client) => self.sim.release(name(client), "server"),
            Fault::Crash => {
                self.shared.end_life();
                self.sim.crash("server");
                self.restarts += 1;
            }
            Fault::Restart => self.sim.bounce("server"),
            Fault::ChangeEpoch => {
                self.shared.change_epoch();
                self.turns += 1;
            }
        }
    }

    /// Runs the calm: every client receives everything, then all disconnect, and nothing of them is left.
    fn settle(&mut self) -> Result<(), String> {
        self.wait_until("everybody has published and received all", Self::is_settled)?;
        self.is_over.store(true, Ordering::Relaxed);
        self.wait_until("the clients have closed", |world| {
            world.desks.iter().all(|shared| shared.record.lock().unwrap().is_closed)
        })?;
        self.wait_until("nothing is left in the server", |world| {
            world.shared.hub().is_some_and(|hub| {
                let stats = hub.stats();
                stats.connections == 0
                    && stats.channels == 0
                    && stats.subscriptions == 0
                    && stats.sessions == 0
            })
        })?;
        match self.shared.hub().map_or(0, |hub| hub.stats().panics) {
            0 => Ok(()),
            panics => Err(format!("{panics} panics in the server")),
        }
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = self.sim.elapsed() + TIMEOUT + self.plan.outage.unwrap_or_default() * 2;
        while !is_so(self) {
            if self.sim.elapsed() > end {
                let stats = self.shared.hub().map(|hub| hub.stats());
                return Err(format!("never: {what}: {stats:?}"));
            }
            self.step()?;
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let records: Vec<_> = self.desks.iter().map(|shared| shared.record.lock().unwrap()).collect();
        let marks: Vec<&String> =
            records.iter().filter_map(|record| record.final_publication.as_ref()).collect();
        let last = self.shared.last();
        marks.len() == records.len() && records.iter().all(|record| {
            let has = |wanted: &String| {
                let is_it =
                    |report: &Report| matches!(report, Report::Message { content, .. } if content == wanted);
                record.reports.iter().rev().any(is_it)
            };
            marks.iter().all(|final_publication| has(final_publication)) && last.as_ref().is_some_and(has)
        })
    }
}

fn name(client: usize) -> String {
    format!("client{client}")
}

/// The time step of a schedule that lasts for minutes.
const OUTAGE_TICK: Duration = Duration::from_millis(20);
/// Limit in virtual time.
const TIMEOUT: Duration = Duration::from_secs(24);
