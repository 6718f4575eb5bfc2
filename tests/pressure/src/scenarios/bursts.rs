//! Bursts by every verb, to readers that read at once: no reader lags, so none may be closed or lose
//! messages.

use crate::client::frames;
use crate::order::{Order, Verb, content};
use crate::stage::Stage;
use anyhow::Result;

/// Number of requests in one write.
const BURST: u64 = 1300;

/// Sends many `private` requests from one user to another in one write.
pub(crate) async fn private(stage: &mut Stage) -> Result<()> {
    request_burst(stage, "live:1", |number, source| {
        format!("{{\"type\":\"private\",\"to\":\"reader0\",\"message\":{}}}", content(source, number, 32))
    })
    .await
}

/// Sends the same burst to a group.
pub(crate) async fn group(stage: &mut Stage) -> Result<()> {
    stage.join_group("reader0").await?;
    stage.join_group("writer0").await?;
    let source = stage.source();
    let reader = stage.readers("reader", 1, &[]).await?;
    let writer = stage.readers("reader", 1, &[]).await?;
    stage.begin().await?;
    let requests = (1..=BURST).map(|number| {
        format!("{{\"type\":\"group\",\"room\":\"reader0\",\"message\":{}}}", content(source, number, 32))
    });
    stage.expect(reader.start..writer.end, source, BURST);
    stage.clients[writer.start].send_frames(&frames(requests)).await
}

/// Sends the same burst to everybody.
pub(crate) async fn broadcast(stage: &mut Stage) -> Result<()> {
    request_burst(stage, "live:1", |number, source| {
        format!("{{\"type\":\"broadcast\",\"message\":{}}}", content(source, number, 32))
    })
    .await
}

/// Publishes the same burst in a channel.
pub(crate) async fn channel(stage: &mut Stage) -> Result<()> {
    request_burst(stage, "live:1", |number, source| {
        let content = content(source, number, 32);
        format!("{{\"type\":\"channel_message\",\"channel\":\"live:1\",\"content\":{content}}}")
    })
    .await
}

async fn request_burst(stage: &mut Stage, channel: &str, request: impl Fn(u64, u64) -> String) -> Result<()> {
    let source = stage.source();
    let reader = stage.readers("reader", 1, &[channel]).await?;
    let writer = stage.readers("writer", 1, &[channel]).await?;
    stage.begin().await?;
    stage.expect(reader, source, BURST);
    let burst = frames((1..=BURST).map(|number| request(number, source)));
    stage.clients[writer.start].send_frames(&burst).await
}

/// Calls `connections().broadcast` with 60 kB in a loop.
pub(crate) async fn everybody_large(stage: &mut Stage) -> Result<()> {
    let count = stage.choose(8, 40);
    application_burst(stage, Order::new(Verb::Everybody, "", count, 60_000), 20).await
}

/// Calls `connections().broadcast` with a few bytes in a loop.
pub(crate) async fn everybody_small(stage: &mut Stage) -> Result<()> {
    let count = stage.choose(2200, 10_000);
    application_burst(stage, Order::new(Verb::Everybody, "", count, 10), 20).await
}

/// Calls `User::send` in a loop.
pub(crate) async fn user_send(stage: &mut Stage) -> Result<()> {
    stage.readers("reader", 1, &[]).await?;
    application_burst(stage, Order::new(Verb::User, "reader0", 5000, 100), 1).await
}

/// Calls `Groups::send` in a loop.
pub(crate) async fn group_send(stage: &mut Stage) -> Result<()> {
    stage.join_group("reader0").await?;
    application_burst(stage, Order::new(Verb::Group, "reader0", 5000, 100), 1).await
}

/// Calls `Connection::send` in a loop. It never waits, so the loop sends no more than an idle socket accepts.
pub(crate) async fn connection_send(stage: &mut Stage) -> Result<()> {
    application_burst(stage, Order::new(Verb::Send, "reader0", 4000, 100), 1).await
}

async fn application_burst(stage: &mut Stage, order: Order, readers: u64) -> Result<()> {
    let readers = 0..stage.readers("reader", readers, &[]).await?.end;
    stage.begin().await?;
    let count = order.count;
    let source = stage.order(order).await?;
    stage.expect(readers, source, count);
    stage.await_orders().await
}

/// Sends `update_status` from a user who shares 100 presence channels with others.
pub(crate) async fn status(stage: &mut Stage) -> Result<()> {
    let readers = stage.choose(10, 50);
    let rooms: Vec<_> = (0..100).map(|room| format!("room:{room}")).collect();
    let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
    let readers = stage.readers("reader", readers, &rooms).await?;
    let writer = stage.readers("writer", 1, &rooms).await?;
    stage.begin().await?;
    let (source, count) = (stage.source(), stage.choose(3, 10));
    for room in 0..100 {
        stage.expect(readers.clone(), source + room, count);
    }
    for number in 1..=count {
        let pad = "x".repeat(3800);
        let request = format!(
            "{{\"type\":\"update_status\",\"id\":1,\"status\":\"away\",\"seq\":[{source},{number}],\"pad\":\"{pad}\"}}"
        );
        stage.clients[writer.start].request(&request).await?;
    }
    Ok(())
}

/// Publishes in each of a connection's 128 channels.
pub(crate) async fn many_channels(stage: &mut Stage) -> Result<()> {
    let channels: Vec<_> = (0..128).map(|channel| format!("plain:{channel}")).collect();
    let channels: Vec<_> = channels.iter().map(String::as_str).collect();
    let readers = stage.readers("reader", 3, &channels).await?;
    stage.begin().await?;
    let count = stage.choose(3, 12);
    let source = stage.order(Order::new(Verb::Channel, "plain:", count, 2100).across(128)).await?;
    for channel in 0..128 {
        stage.expect(readers.clone(), source + channel, count);
    }
    stage.await_orders().await
}

/// Publishes small messages in two channels in turn, to subscribers of both.
pub(crate) async fn two_channels(stage: &mut Stage) -> Result<()> {
    let readers = stage.readers("reader", 5, &["live:0", "live:1"]).await?;
    stage.begin().await?;
    let count = stage.choose(3000, 20_000);
    let source = stage.order(Order::new(Verb::Channel, "live:", count, 40).across(2)).await?;
    stage.expect(readers.clone(), source, count);
    stage.expect(readers, source + 1, count);
    stage.await_orders().await
}
