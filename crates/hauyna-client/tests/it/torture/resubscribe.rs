//! Against the same model, a channel is given up and wanted again from an earlier position, whatever the
//! connection does meanwhile. Each stream delivers everything behind its position once and in order, or
//! reports a gap.

use super::model::{Entry, Model, Turn, passed, trace};
use super::{Told, each_seed, terms};
use crate::script::script;
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{Channel, Client, StreamError, Subscription};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The items of one stream that starts at a position.
#[derive(Debug)]
struct Life {
    since: Position,
    starts_at: usize,
    told: Vec<Told>,
    /// Positions that were delivered, each with its content.
    positions: Vec<(Position, u64)>,
}

/// A subscription that is being made, and the task that reads its stream.
struct Works {
    life: Arc<Mutex<Life>>,
    tasks: [JoinHandle<()>; 2],
}

fn begin(room: &Channel<u64>, since: Position, starts_at: usize) -> Works {
    trace(|| format!("   SINCE {since:?} {starts_at}"));
    let life = Arc::new(Mutex::new(Life { since, starts_at, told: Vec::new(), positions: Vec::new() }));
    let (mut messages, own) = (room.messages(), life.clone());
    let reading = tokio::spawn(async move {
        while let Some(item) = messages.next().await {
            trace(|| format!("   TOLD {item:?}"));
            let mut life = own.lock().unwrap();
            match item {
                Ok(message) => {
                    life.told.push(Told::Content(message.content));
                    life.positions.extend(message.position.map(|at| (at, message.content)));
                }
                Err(StreamError::Gap(_)) => life.told.push(Told::Gap),
                Err(other) => panic!("{other}"),
            }
        }
    });
    let own = room.clone();
    let asking =
        tokio::spawn(
            async move { while own.subscribe().since(since).await.map(Subscription::keep).is_err() {} },
        );
    Works { life, tasks: [reading, asking] }
}

/// Gives up the channel, and wants it again from a position that was delivered before.
async fn begin_again(room: &Channel<u64>, works: &Works, model: &mut Model) -> Works {
    works.tasks.iter().for_each(JoinHandle::abort);
    let own = room.clone();
    tokio::spawn(async move { own.unsubscribe().await });
    for _ in 0..model.dice.below(3) * model.dice.below(4) {
        model.step().await;
    }
    passed(Duration::from_millis(1)).await;
    let life = works.life.lock().unwrap();
    let back = model.dice.below(4) as usize;
    let place = life.positions.iter().rev().nth(back).copied();
    let (since, starts_at) =
        place.map_or((life.since, life.starts_at), |(at, content)| (at, content as usize + 1));
    begin(room, since, starts_at)
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let client: Client = builder.seed(seed).retry(terms()).timeout(Duration::from_secs(3)).connect().unwrap();
    let room: Channel<u64> = client.channel("a");
    let mut model = Model::new(seed, script);
    let mut works = begin(&room, Position { epoch: Epoch::new(1), offset: 0 }, 0);
    let mut lives = vec![works.life.clone()];
    for _ in 0..220 {
        model.step().await;
        if model.dice.chance(30) {
            model.publish();
        }
        if model.dice.chance(4) {
            model.drop_some();
        }
        if model.dice.chance(6) {
            works = begin_again(&room, &works, &mut model).await;
            lives.push(works.life.clone());
        }
        if model.dice.chance(1) {
            let how = [Turn::Kept, Turn::Lost, Turn::Silent][model.dice.below(3) as usize];
            model.turn(how);
        }
        if model.dice.chance(5) {
            model.drain();
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
    let last = lives.len() - 1;
    let judged = lives.iter().enumerate().flat_map(|(at, life)| {
        let faults = judge(&model.published, &life.lock().unwrap(), at == last);
        faults.into_iter().map(move |fault| format!("stream {at} of {last}: {fault}"))
    });
    judged.collect()
}

fn judge(published: &[Entry], life: &Life, is_last: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut next, mut may_skip) = (life.starts_at, false);
    for told in &life.told {
        let Told::Content(content) = told else {
            may_skip = true;
            continue;
        };
        let at = *content as usize;
        if at < next {
            faults.push(format!("received twice or late: {at}"));
        } else if at > next && !may_skip {
            faults.push(format!("lost in silence: {next}..{at}"));
        }
        (next, may_skip) = (next.max(at + 1), false);
    }
    if is_last && next != published.len() {
        faults.push(format!("lost at the end: {next}..{}", published.len()));
    }
    faults
}

#[test]
fn resubscribing_from_a_position_loses_nothing_silently() {
    each_seed(schedule);
}
