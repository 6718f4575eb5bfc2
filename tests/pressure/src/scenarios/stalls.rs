//! Stalled and slow readers beside healthy ones: the policy affects only the slow reader, and the messages
//! that wait for it are bounded. When it reads again, it gets everything or a gap.

use crate::client::{Pace, frames};
use crate::order::{Order, Verb, content};
use crate::stage::Stage;
use anyhow::Result;

/// Runs a reader that reads nothing until everything is published.
pub(crate) async fn stalled(stage: &mut Stage) -> Result<()> {
    beside_slow(stage, Pace::Stalled).await
}

/// Runs a reader of 40 kB a second.
pub(crate) async fn trickling(stage: &mut Stage) -> Result<()> {
    beside_slow(stage, Pace::Slow(2000)).await
}

/// Runs a reader that reads nothing in a channel where users change their status meanwhile: a gap counts
/// publications.
pub(crate) async fn with_presence(stage: &mut Stage) -> Result<()> {
    let people = stage.readers("person", 3, &["room:1"]).await?;
    let slow = stage.slow_reader("slow", Pace::Stalled).await?;
    stage.clients[slow].send("{\"type\":\"subscribe_channel\",\"channel\":\"room:1\"}").await?;
    stage.begin().await?;
    let count = stage.choose(12_000, 40_000);
    let source = stage.order(Order::new(Verb::Channel, "room:1", count, 500)).await?;
    stage.expect(people.start..slow + 1, source, count);
    let request = |number| format!("{{\"type\":\"update_status\",\"status\":\"away\",\"at\":{number}}}");
    for round in 0..20 {
        for person in people.clone() {
            let requests = frames((0..10).map(|step| request(10 * round + step)));
            stage.clients[person].send_frames(&requests).await?;
        }
        stage.pause(10).await;
    }
    stage.await_orders().await?;
    stage.clients[slow].release();
    Ok(())
}

/// Runs a reader that reads nothing while others send client events. No policy affects these, so it gets
/// every publication.
pub(crate) async fn beside_client_events(stage: &mut Stage) -> Result<()> {
    let people = stage.readers("person", 8, &["event:1"]).await?;
    let slow = stage.slow_reader("slow", Pace::Stalled).await?;
    stage.clients[slow].send("{\"type\":\"subscribe_channel\",\"channel\":\"event:1\"}").await?;
    stage.begin().await?;
    stage.bounds.message = 2000;
    let sources: Vec<_> = people.clone().map(|person| (person, stage.source())).collect();
    let event = |source, number| {
        let data = content(source, number, 2000);
        format!("{{\"type\":\"client_event\",\"channel\":\"event:1\",\"event\":\"cursor\",\"data\":{data}}}")
    };
    let rounds = stage.choose(60, 200);
    for round in 0..rounds {
        for (person, source) in &sources {
            let events = frames((1..=10).map(|step| event(*source, 10 * round + step)));
            stage.clients[*person].send_frames(&events).await?;
        }
        stage.bounds.published += 10 * people.len() as u64;
        stage.pause(50).await;
    }
    // As many publications as the outbox holds.
    let source = stage.order(Order::new(Verb::Channel, "event:1", 200, 500)).await?;
    stage.expect(people.start..slow + 1, source, 200);
    stage.await_orders().await?;
    stage.clients[slow].release();
    stage.settle().await;
    stage.require_whole(slow);
    Ok(())
}

async fn beside_slow(stage: &mut Stage, pace: Pace) -> Result<()> {
    let readers = stage.readers("reader", 5, &["plain:1", "live:1"]).await?;
    let slow = stage.slow_reader("slow", pace).await?;
    // The reader still gets the answers, since the socket is empty.
    for channel in ["plain:1", "live:1"] {
        let request = format!("{{\"type\":\"subscribe_channel\",\"channel\":\"{channel}\"}}");
        stage.clients[slow].send(&request).await?;
    }
    stage.begin().await?;
    let count = stage.choose(12_000, 60_000);
    let plain = stage.order(Order::new(Verb::Channel, "plain:1", count, 500)).await?;
    let live = stage.order(Order::new(Verb::Channel, "live:1", count, 500)).await?;
    for source in [plain, live] {
        stage.expect(readers.start..slow + 1, source, count);
    }
    stage.await_orders().await?;
    stage.clients[slow].release();
    Ok(())
}
