//! Losses, moves, gaps, new epochs and unsubscribing in any order, drawn from a seed, against a model of the
//! server: every publication comes once and in order, or a gap is told where it is missing.
//! `HAUYNA_SCHEDULES` says how many, `HAUYNA_SEED` repeats one.

mod again;
mod churn;
mod model;
mod moves;
mod sizes;
mod users;

use crate::script::script;
use hauyna_client::protocol::RetryTerms;
use hauyna_client::{Channel, Client, StreamError};
use model::{Entry, Model, Turn, passed, trace};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug)]
enum Told {
    Content(u64),
    Gap,
}

const fn terms() -> RetryTerms {
    RetryTerms { max_attempts: None, base_delay: 50, max_delay: 200, backoff_multiplier: 2.0, jitter: 1.0 }
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let client: Client = builder.seed(seed).retry(terms()).timeout(Duration::from_secs(3)).connect().unwrap();
    let room: Channel<u64> = client.channel("a");
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut messages = room.messages();
    let own = told.clone();
    tokio::spawn(async move {
        while let Some(item) = messages.next().await {
            trace(|| format!("   TOLD {item:?}"));
            own.lock().unwrap().push(match item {
                Ok(message) => Told::Content(message.content),
                Err(StreamError::Gap(_)) => Told::Gap,
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
        if model.dice.chance(30) {
            model.publish();
        }
        if model.dice.chance(4) {
            model.drop_some();
        }
        if starts_at.is_some() && model.dice.chance(2) {
            unsubscribe_for_a_while(&room, &told, &mut model).await;
        }
        if model.dice.chance(1) {
            let how = [Turn::Kept, Turn::Lost, Turn::Silent][model.dice.below(3) as usize];
            model.turn(how);
        }
        if model.dice.chance(3) {
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
    passed(Duration::from_secs(5)).await;
    for _ in 0..100 {
        model.step().await;
    }
    model.publish();
    for _ in 0..200 {
        model.step().await;
    }
    drop(client);
    judge(&model.published, &told.lock().unwrap(), starts_at)
}

/// Gives the channel up and wants it again soon. What comes between is not told, and need not be.
async fn unsubscribe_for_a_while(room: &Channel<u64>, told: &Arc<Mutex<Vec<Told>>>, model: &mut Model) {
    trace(|| "   UNSUBSCRIBE".into());
    told.lock().unwrap().push(Told::Gap);
    let own = room.clone();
    tokio::spawn(async move { own.unsubscribe().await });
    for _ in 0..model.dice.below(3) * model.dice.below(6) {
        model.step().await;
        if model.dice.chance(25) {
            model.publish();
        }
    }
    passed(Duration::from_millis(1)).await;
    trace(|| "   SUBSCRIBE".into());
    let (own, told) = (room.clone(), told.clone());
    tokio::spawn(async move {
        while own.subscribe().await.map(hauyna_client::Subscription::keep).is_err() {}
        told.lock().unwrap().push(Told::Gap);
    });
}

fn judge(published: &[Entry], told: &[Told], starts_at: Option<usize>) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(mut next) = starts_at else { return vec!["never subscribed".into()] };
    let (mut may_skip, mut seen) = (false, std::collections::HashSet::new());
    for told in told {
        let Told::Content(content) = told else {
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

fn each_seed(schedule: impl AsyncFn(u64) -> Vec<String>) {
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
fn nothing_is_lost_in_silence_doubled_or_disordered_whatever_a_server_does() {
    each_seed(schedule);
}
