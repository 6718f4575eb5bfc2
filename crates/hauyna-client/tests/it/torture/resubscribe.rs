//! Against the same model, a channel is given up and wanted again from an earlier position, whatever the
//! connection does meanwhile. Each stream delivers everything after its position once and in order, or
//! reports a gap.

use super::model::{Entry, EpochChange, Model, advance, trace};
use super::schedule::{Report, each_seed, terms};
use crate::script::script;
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{Channel, Client, StreamError, Subscription};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The items of one stream that starts at a position.
#[derive(Debug)]
struct StreamRecord {
    since: Position,
    starts_at: usize,
    reports: Vec<Report>,
    /// Positions that were delivered, each with its content.
    positions: Vec<(Position, u64)>,
}

/// A subscription that is being made, and the task that reads its stream.
struct Reader {
    record: Arc<Mutex<StreamRecord>>,
    tasks: [JoinHandle<()>; 2],
}

fn start_reader(room: &Channel<u64>, since: Position, starts_at: usize) -> Reader {
    trace(|| format!("   SINCE {since:?} {starts_at}"));
    let record =
        Arc::new(Mutex::new(StreamRecord { since, starts_at, reports: Vec::new(), positions: Vec::new() }));
    let (mut messages, own) = (room.messages(), record.clone());
    let reading = tokio::spawn(async move {
        while let Some(item) = messages.next().await {
            trace(|| format!("   TOLD {item:?}"));
            let mut record = own.lock().unwrap();
            match item {
                Ok(message) => {
                    record.reports.push(Report::Content(message.content));
                    record.positions.extend(message.position.map(|at| (at, message.content)));
                }
                Err(StreamError::Gap(_)) => record.reports.push(Report::Gap),
                Err(other) => panic!("{other}"),
            }
        }
    });
    let own = room.clone();
    let asking =
        tokio::spawn(
            async move { while own.subscribe().since(since).await.map(Subscription::keep).is_err() {} },
        );
    Reader { record, tasks: [reading, asking] }
}

/// Gives up the channel, and wants it again from a position that was delivered before.
async fn resubscribe(room: &Channel<u64>, reader: &Reader, model: &mut Model) -> Reader {
    reader.tasks.iter().for_each(JoinHandle::abort);
    let room_clone = room.clone();
    tokio::spawn(async move { room_clone.unsubscribe().await });
    for _ in 0..model.random.below(3) * model.random.below(4) {
        model.step().await;
    }
    advance(Duration::from_millis(1)).await;
    let record = reader.record.lock().unwrap();
    let back = model.random.below(4) as usize;
    let place = record.positions.iter().rev().nth(back).copied();
    let (since, starts_at) =
        place.map_or((record.since, record.starts_at), |(at, content)| (at, content as usize + 1));
    start_reader(room, since, starts_at)
}

async fn schedule(seed: u64) -> Vec<String> {
    let (script, builder) = script();
    let client: Client = builder.seed(seed).retry(terms()).timeout(Duration::from_secs(3)).connect().unwrap();
    let room: Channel<u64> = client.channel("a");
    let mut model = Model::new(seed, script);
    let mut reader = start_reader(&room, Position { epoch: Epoch::new(1), offset: 0 }, 0);
    let mut records = vec![reader.record.clone()];
    for _ in 0..220 {
        model.step().await;
        if model.random.chance(30) {
            model.publish();
        }
        if model.random.chance(4) {
            model.drop_waiting();
        }
        if model.random.chance(6) {
            reader = resubscribe(&room, &reader, &mut model).await;
            records.push(reader.record.clone());
        }
        if model.random.chance(1) {
            let how =
                [EpochChange::Kept, EpochChange::Lost, EpochChange::Silent][model.random.below(3) as usize];
            model.change_epoch(how);
        }
        if model.random.chance(5) {
            model.drain();
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
    let last = records.len() - 1;
    let faults_of_all = records.iter().enumerate().flat_map(|(at, record)| {
        let faults = find_faults(&model.published, &record.lock().unwrap(), at == last);
        faults.into_iter().map(move |fault| format!("stream {at} of {last}: {fault}"))
    });
    faults_of_all.collect()
}

fn find_faults(published: &[Entry], record: &StreamRecord, is_last: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut next, mut may_skip) = (record.starts_at, false);
    for report in &record.reports {
        let Report::Content(content) = report else {
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
