//! When one client was connected and when it was away.

use crate::log::{Event, Line};

/// The life of one client.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    /// From when to when it was away, in ms since the Unix epoch; the last may not have ended.
    absences: Vec<(u64, Option<u64>)>,
    /// How long the absences took that ended.
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

    /// For how long it was away, if it was at this moment, in ms. The socket may have been dead for a while before
    /// the client noticed, and a leave be told late; both are within a second here.
    pub(crate) fn away_at(&self, at: u64) -> Option<u64> {
        let here = self.absences.iter().rev().find(|(since, _)| *since <= at + NOTICE)?;
        match here {
            (since, None) => Some(at.saturating_sub(*since)),
            (since, Some(until)) => (at <= until + NOTICE).then(|| until - since),
        }
    }
}

const NOTICE: u64 = 1000;
