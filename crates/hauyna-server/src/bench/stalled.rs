//! Subscribers that stop reading, and how the server treated them. The workload `slow` uses it.

use super::connection::{End, Reader};
use super::report::{Report, count};
use super::runner::{BenchRun, Phase};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Reads during the warm-up, stops reading, and reads the rest after the run. Returns how the connection
/// ended, if it did.
pub(super) async fn hold(run: Rc<BenchRun>, mut reader: Reader) -> Option<End> {
    tokio::select! {
        end = read_on(&run, &mut reader) => return Some(end),
        () = run.reaches(Phase::Measure) => {}
    }
    run.reaches(Phase::Over).await;
    tokio::time::timeout(LAST_CHECK, read_on(&run, &mut reader)).await.ok()
}

async fn read_on(run: &BenchRun, reader: &mut Reader) -> End {
    loop {
        if let Err(end) = reader.read(&run.scratch, |_| {}).await {
            return end;
        }
    }
}

/// How many stalled subscribers the server closed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    cut: u64,
    codes: BTreeMap<u16, u64>,
}

impl Outcome {
    pub(super) async fn of(mut stalled: JoinSet<Option<End>>) -> Self {
        let mut outcome = Self::default();
        while let Some(ended) = stalled.join_next().await {
            if let Ok(Some(end)) = ended {
                outcome.cut += 1;
                *outcome.codes.entry(end.code()).or_default() += 1;
            }
        }
        outcome
    }

    pub(super) fn add_to(&self, report: Report, stalled: u32) -> Report {
        let codes: serde_json::Map<_, _> =
            self.codes.iter().map(|(code, number)| (code.to_string(), (*number).into())).collect();
        let with = self.codes.iter().map(|(code, number)| match code {
            1006 => format!("{} without a close code", count(*number)),
            _ => format!("{} with {code}", count(*number)),
        });
        let with = with.collect::<Vec<_>>().join(", ");
        let cut = match (self.cut, with) {
            (0, _) => {
                "the server cut none, as its buffers held everything; raise --secs, --size or --rate to fill them"
                    .to_owned()
            }
            (cut, with) => format!("the server cut {}: {with}", count(cut)),
        };
        report
            .term(format!("{} stalled", count(stalled)))
            .remark(format!("{} stalled: {cut}", count(stalled)))
            .remark("figures are those of the subscribers that read")
            .detail("stalled", stalled)
            .detail("stalled_cut", self.cut)
            .detail("stalled_codes", codes)
    }
}

/// Receive buffer in bytes: small, so that a connection that is not read shows soon.
pub(super) const RECEIVE_BUFFER: u32 = 4096;
/// How long a stalled connection is read after the run if it was not cut.
const LAST_CHECK: Duration = Duration::from_secs(2);
