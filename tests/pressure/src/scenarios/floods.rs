//! Publishers that are faster than their subscribers: the publishers wait, readers lose nothing, memory stays
//! bounded.

use crate::client::{Client, frames};
use crate::order::{Order, Verb, content};
use crate::server::HISTORY;
use crate::stage::Stage;
use anyhow::Result;
use std::ops::Range;
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

/// Lets the application publish in a loop.
pub(crate) async fn application(stage: &mut Stage) -> Result<()> {
    let readers = stage.choose(8, 100);
    let readers = stage.readers("reader", readers, &["plain:1"]).await?;
    stage.begin().await?;
    let count = stage.choose(80_000, 200_000);
    let source = stage.order(Order::new(Verb::Channel, "plain:1", count, 500)).await?;
    stage.expect(readers, source, count);
    stage.await_orders().await
}

/// Lets clients publish as fast as the server accepts it.
pub(crate) async fn clients(stage: &mut Stage) -> Result<()> {
    let readers = stage.choose(8, 300);
    stage.readers("reader", readers, &["plain:1"]).await?;
    let writers = stage.choose(2, 4);
    let writers = stage.readers("writer", writers, &["plain:1"]).await?;
    let count = stage.choose(20_000, 10_000);
    flood(stage, writers, count, |source, number| {
        let content = content(source, number, 500);
        format!("{{\"type\":\"channel_message\",\"channel\":\"plain:1\",\"content\":{content}}}")
    })
    .await
}

/// Lets callbacks publish in a loop, each on the task of a connection that also receives the messages.
pub(crate) async fn callbacks(stage: &mut Stage) -> Result<()> {
    let readers = stage.choose(8, 50);
    let readers = stage.readers("reader", readers, &["plain:1"]).await?;
    stage.begin().await?;
    stage.bounds.message = 500;
    let count = stage.choose(40_000, 100_000);
    for writer in 0..2 {
        let source = stage.source();
        stage.expect(readers.clone(), source, count);
        stage.bounds.published += count;
        stage.note_writer(writer, source);
        let request = format!("{{\"type\":\"flood\",\"source\":{source},\"count\":{count}}}");
        stage.clients[writer].send(&request).await?;
    }
    Ok(())
}

/// Subscribes readers while the application publishes: each gets everything after the position in its answer.
pub(crate) async fn arrivals(stage: &mut Stage) -> Result<()> {
    stage.begin().await?;
    let count = stage.choose(30_000, 100_000);
    let source = stage.order(Order::new(Verb::Channel, "long:1", count, 200)).await?;
    stage.bounds.kept = HISTORY.into();
    for number in 0..stage.choose(20, 100) {
        let reader = stage.readers(&format!("reader{number}-"), 1, &[]).await?;
        let client = &stage.clients[reader.start];
        client.expect_from_answer(source, count);
        client.subscribe("long:1").await?;
    }
    stage.await_orders().await
}

/// Lets clients write to one user as fast as the server accepts it.
pub(crate) async fn private(stage: &mut Stage) -> Result<()> {
    let reader = stage.readers("reader", 1, &[]).await?;
    let writers = stage.readers("writer", 2, &[]).await?;
    let count = stage.choose(30_000, 100_000);
    stage.begin().await?;
    stage.bounds.message = 500;
    let sources: Vec<_> = writers.clone().map(|_| stage.source()).collect();
    sources.iter().for_each(|source| stage.expect(reader.clone(), *source, count));
    write_all(stage, writers, sources, count, |source, number| {
        let content = content(source, number, 500);
        format!("{{\"type\":\"private\",\"to\":\"reader0\",\"message\":{content}}}")
    })
    .await
}

/// Lets the application send to a user in a loop.
pub(crate) async fn send(stage: &mut Stage) -> Result<()> {
    let reader = stage.readers("reader", 1, &[]).await?;
    stage.begin().await?;
    let count = stage.choose(100_000, 400_000);
    let source = stage.order(Order::new(Verb::User, "reader0", count, 500)).await?;
    stage.expect(reader, source, count);
    stage.await_orders().await
}

async fn flood(
    stage: &mut Stage,
    writers: Range<usize>,
    count: u64,
    request: fn(u64, u64) -> String,
) -> Result<()> {
    stage.begin().await?;
    stage.bounds.message = 500;
    let sources: Vec<_> = writers.clone().map(|_| stage.source()).collect();
    sources.iter().for_each(|source| stage.expect(0..writers.end, *source, count));
    write_all(stage, writers, sources, count, request).await
}

/// Sends each writer's requests as fast as the server accepts them, on a thread with low priority, so that
/// the writers do not starve readers and bystanders.
async fn write_all(
    stage: &mut Stage,
    writers: Range<usize>,
    sources: Vec<u64>,
    count: u64,
    request: fn(u64, u64) -> String,
) -> Result<()> {
    stage.bounds.published += count * sources.len() as u64;
    writers.clone().zip(&sources).for_each(|(writer, source)| stage.note_writer(writer, *source));
    let sinks: Vec<Arc<Client>> = stage.clients[writers.clone()].to_vec();
    let (sender, done) = oneshot::channel();
    std::thread::spawn(move || {
        // The scenario also works if the system does not allow it.
        let _ = rustix::process::nice(NICE);
        let runtime = Builder::new_current_thread().enable_all().build();
        let written = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
            let writing =
                sinks.into_iter().zip(sources).map(|(sink, source)| write(sink, source, count, request));
            runtime.block_on(write_together(writing.collect()))
        });
        // The receiver is gone if the scenario timed out.
        let _ = sender.send(written);
    });
    let written = done.await?;
    // A writer that lags may be closed like any reader; the rest of its writes then fails.
    let is_ended = |writer: usize| stage.clients[writer].state(|state| state.end.is_some());
    if writers.into_iter().any(is_ended) { Ok(()) } else { written }
}

async fn write_together<F: Future<Output = Result<()>> + 'static>(writing: Vec<F>) -> Result<()> {
    LocalSet::new()
        .run_until(async {
            let tasks: Vec<_> = writing.into_iter().map(spawn_local).collect();
            for task in tasks {
                task.await??;
            }
            Ok(())
        })
        .await
}

async fn write(sink: Arc<Client>, source: u64, count: u64, request: fn(u64, u64) -> String) -> Result<()> {
    let mut number = 1;
    while number <= count {
        let batch = (number..=count).take(BATCH);
        sink.send_frames(&frames(batch.map(|number| request(source, number)))).await?;
        number += BATCH as u64;
    }
    Ok(())
}

/// Number of requests in one write.
const BATCH: usize = 100;
/// Value added to the niceness of the writing thread.
const NICE: i32 = 10;
