//! When one client was connected and when it was absent. `checker` builds one for each client.

use crate::log::{Event, Line};

/// The connections and absences of one client.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    /// Start and end of each absence, in ms since the Unix epoch. The last may not have ended.
    absences: Vec<(u64, Option<u64>)>,
    /// Lengths of the absences that ended, in ms.
    pub(crate) recoveries: Vec<u64>,
    pub(crate) reconnects: u64,
    pub(crate) resumed: u64,
    pub(crate) closed: u64,
}

impl Journey {
    pub(crate) fn of(lines: &[&Line]) -> Self {
        let (mut journey, mut was_connected) = (Self::default(), false);
        for line in lines {
            let Event::State { state, resumed, .. } = &line.event else { continue };
            if state == "connected" {
                if was_connected {
                    journey.reconnects += 1;
                    journey.resumed += u64::from(*resumed);
                }
                was_connected = true;
                if let Some((since, until @ None)) = journey.absences.last_mut() {
                    *until = Some(line.at);
                    journey.recoveries.push(line.at.saturating_sub(*since));
                }
            } else if was_connected {
                if journey.absences.last().is_none_or(|(_, until)| until.is_some()) {
                    journey.absences.push((line.at, None));
                }
                journey.closed += u64::from(state == "closed");
            }
        }
        journey
    }

    /// Returns how long, in ms, it was absent at this moment, if it was. The client may notice a dead socket
    /// late, and the leave may arrive late; both stay within a second here.
    pub(crate) fn away_at(&self, at: u64) -> Option<u64> {
        let absence = self.absences.iter().rev().find(|(since, _)| *since <= at + NOTICE)?;
        match absence {
            (since, None) => Some(at.saturating_sub(*since)),
            (since, Some(until)) => (at <= until + NOTICE).then(|| until - since),
        }
    }
}

const NOTICE: u64 = 1000;
