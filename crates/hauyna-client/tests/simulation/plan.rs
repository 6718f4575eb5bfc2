//! The events of one schedule, drawn from its seed: the network, the channel, and the faults with their
//! moments.

use std::time::Duration;

/// Random numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One schedule.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    /// Number of publications per client.
    pub(crate) messages: u64,
    pub(crate) latency: Duration,
    pub(crate) history: History,
    /// The longest time until a connection is cut; `None` if the network cuts none.
    pub(crate) cut_after: Option<Duration>,
    /// The faults, in order of their moments.
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// The moment from which the network has no faults.
    pub(crate) calm: Duration,
    /// The longest pause between two publications of a client.
    pub(crate) pause: u64,
    /// Duration of the outage, in a schedule that consists of one. Clients then reconnect by the default
    /// policy.
    pub(crate) outage: Option<Duration>,
}

/// How much history the channel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    Long,
    /// The history is too short for most losses.
    Short,
    None,
}

/// A fault of the network between one client and the server, or of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Nothing arrives in either direction, and what is sent is lost.
    Partition(usize),
    /// Nothing that the client sends arrives.
    LoseFromClient(usize),
    /// Nothing that the server sends arrives.
    LoseToClient(usize),
    Repair(usize),
    /// What is sent waits.
    Hold(usize),
    Release(usize),
    /// The server ends without closing its connections, and loses its memory.
    Crash,
    Restart,
    /// The channel restarts under another epoch, while the server lives.
    ChangeEpoch,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random(seed);
        let clients = 2 + random.below(3) as usize;
        let calm = random.between(200, 700);
        let mut plan = Self {
            seed,
            clients,
            messages: 3 + random.below(10),
            latency: random.between(1, 25),
            history: match random.below(10) {
                0 => History::None,
                1 | 2 => History::Short,
                _ => History::Long,
            },
            cut_after: random.chance(70).then(|| random.between(30, 400)),
            faults: Vec::new(),
            calm,
            pause: 60,
            outage: None,
        };
        for _ in 0..random.below(5) {
            plan.disturb(&mut random);
        }
        if random.chance(20) {
            let at = random.between(40, calm.as_millis() as u64);
            plan.faults.push((at, Fault::Crash));
            plan.faults.push((at + random.between(5, 150), Fault::Restart));
        }
        if plan.history != History::None && random.chance(25) {
            plan.faults.push((random.between(20, calm.as_millis() as u64 + 200), Fault::ChangeEpoch));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Returns a schedule in which the server is away for this time and has lost its memory when it is back.
    pub(crate) fn outage(seed: u64, length: Duration) -> Self {
        let begin = Duration::from_millis(500);
        let faults = vec![(begin, Fault::Crash), (begin + length, Fault::Restart)];
        let (messages, calm) = (24, begin + length);
        // Some publications are made before the outage, most during it, and the last ones after it.
        let pause = length.as_millis() as u64 * 2 / messages;
        let plan = Self::draw(seed);
        Self {
            messages,
            history: History::Long,
            cut_after: None,
            faults,
            calm,
            pause,
            outage: Some(length),
            ..plan
        }
    }

    fn disturb(&mut self, random: &mut Random) {
        let client = random.below(self.clients as u64) as usize;
        let at = random.between(10, self.calm.as_millis() as u64);
        let (begin, end) = match random.below(4) {
            0 => (Fault::Partition(client), Fault::Repair(client)),
            1 => (Fault::LoseFromClient(client), Fault::Repair(client)),
            2 => (Fault::LoseToClient(client), Fault::Repair(client)),
            _ => (Fault::Hold(client), Fault::Release(client)),
        };
        self.faults.push((at, begin));
        self.faults.push((at + random.between(5, 300), end));
    }
}
