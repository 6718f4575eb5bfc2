//! Losses, moves, gaps, new epochs and unsubscribing in random order, against a model of the server: every
//! publication is delivered once and in order, or a gap is reported in its place. `HAUYNA_SCHEDULES` sets the
//! number of schedules, `HAUYNA_SEED` repeats one.

use super::model::{Entry, EpochChange, Model, advance, trace};
use crate::script::script;
use hauyna_client::protocol::RetryTerms;
use hauyna_client::{Channel, Client, StreamError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug)]
pub(super) enum Report {
    Content(u64),
    Gap,
}

pub(super) const fn terms() -> RetryTerms {
    RetryTerms { max_attempts: None, base_delay: 50, max_delay: 200, backoff_multiplier: 2.0, jitter: 1.0 }
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let client: Client = builder.seed(seed).retry(terms()).timeout(Duration::from_secs(3)).connect().unwrap();
    let room: Channel<u64> = client.channel("a");
    let reports = Arc::new(Mutex::new(Vec::new()));
    let mut messages = room.messages();
    let own = reports.clone();
    tokio::spawn(async move {
        while let Some(item) = messages.next().await {
            trace(|| format!("   TOLD {item:?}"));
            own.lock().unwrap().push(match item {
                Ok(message) => Report::Content(message.content),
                Err(StreamError::Gap(_)) => Report::Gap,
                Err(other) => panic!("{other}"),
            });
        }
    });
    let start = Arc::new(Mutex::new(None));
    let (begun, own) = (start.clone(), room.clone());
    tokio::spawn(async move {
        loop {
            if let Ok(subscription) = own.subscribe().await {
                *begun.lock().unwrap() = subscription.position().copied();
                subscription.keep();
                return;
            }
        }
    });
    let mut model = Model::new(seed, script);
    let mut starts_at = None;
    for _ in 0..220 {
        model.step().await;
        if model.random.chance(30) {
            model.publish();
        }
        if model.random.chance(4) {
            model.drop_waiting();
        }
        if starts_at.is_some() && model.random.chance(2) {
            unsubscribe_for_a_while(&room, &reports, &mut model).await;
        }
        if model.random.chance(1) {
            let how =
                [EpochChange::Kept, EpochChange::Lost, EpochChange::Silent][model.random.below(3) as usize];
            model.change_epoch(how);
        }
        if model.random.chance(3) {
            model.drain();
        }
        if starts_at.is_some() {
            model.subscribe_by_application();
        } else if let Some(position) = *start.lock().unwrap() {
            let is_it = |start: &&(String, u64, usize)| {
                start.0 == position.epoch.to_string() && start.1 == position.offset
            };
            starts_at = model.starts.iter().rfind(is_it).map(|start| start.2);
        }
    }
    model.is_calm = true;
    for _ in 0..300 {
        model.step().await;
    }
    advance(Duration::from_secs(5)).await;
    for _ in 0..100 {
        model.step().await;
    }
    model.publish();
    for _ in 0..200 {
        model.step().await;
    }
    drop(client);
    find_faults(&model.published, &reports.lock().unwrap(), starts_at)
}

/// Gives up the channel and wants it again soon. Publications between the two need not be delivered.
async fn unsubscribe_for_a_while(room: &Channel<u64>, reports: &Arc<Mutex<Vec<Report>>>, model: &mut Model) {
    trace(|| "   UNSUBSCRIBE".into());
    reports.lock().unwrap().push(Report::Gap);
    let room_clone = room.clone();
    tokio::spawn(async move { room_clone.unsubscribe().await });
    for _ in 0..model.random.below(3) * model.random.below(6) {
        model.step().await;
        if model.random.chance(25) {
            model.publish();
        }
    }
    advance(Duration::from_millis(1)).await;
    trace(|| "   SUBSCRIBE".into());
    let (room_clone, reports) = (room.clone(), reports.clone());
    tokio::spawn(async move {
        while room_clone.subscribe().await.map(hauyna_client::Subscription::keep).is_err() {}
        reports.lock().unwrap().push(Report::Gap);
    });
}

fn find_faults(published: &[Entry], reports: &[Report], starts_at: Option<usize>) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(mut next) = starts_at else { return vec!["never subscribed".into()] };
    let (mut may_skip, mut seen) = (false, std::collections::HashSet::new());
    for report in reports {
        let Report::Content(content) = report else {
            may_skip = true;
            continue;
        };
        let at = *content as usize;
        if !seen.insert(at) {
            faults.push(format!("received twice: {at}"));
        }
        if at < next {
            faults.push(format!("received late: {at}"));
        } else if at > next && !may_skip {
            faults.push(format!("lost in silence: {next}..{at}"));
        }
        (next, may_skip) = (at + 1, false);
    }
    if next != published.len() {
        faults.push(format!("lost at the end: {next}..{}", published.len()));
    }
    faults
}

pub(super) fn each_seed(schedule: impl AsyncFn(u64) -> Vec<String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let only = number("HAUYNA_SEED");
    let seeds = only.map_or(1..=number("HAUYNA_SCHEDULES").unwrap_or(40), |seed| seed..=seed);
    let mut faults = Vec::new();
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let found = runtime.block_on(schedule(seed));
        faults.extend(found.into_iter().map(|fault| format!("seed {seed}: {fault}")));
    }
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(30)]);
}

#[test]
fn nothing_is_silently_lost_doubled_or_reordered() {
    each_seed(schedule);
}
