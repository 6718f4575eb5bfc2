//! Large histories over slow links, and a slow broker: a replay does not count as lag, and its memory is
//! bounded.

use crate::broker::LATENCY;
use crate::client::{Pace, frames};
use crate::order::{Order, Verb};
use crate::server::HISTORY;
use crate::stage::Stage;
use anyhow::{Context, Result};
use std::time::Duration;

/// Recovers 800 × 6 kB over a slow link while others publish a little.
pub(crate) async fn slow_link(stage: &mut Stage) -> Result<()> {
    let witness = stage.readers("witness", 1, &[]).await?;
    let position = stage.clients[witness.start].subscribe("long:1").await?;
    let history = stage.order(Order::new(Verb::Channel, "long:1", 800, 6000)).await?;
    stage.await_orders().await?;
    stage.bounds.published = 0;
    stage.begin().await?;
    let bytes = usize::try_from(stage.choose(200_000, 50_000))?;
    let slow = stage.slow_reader("slow", Pace::Slow(bytes)).await?;
    stage.expect(witness.start..slow + 1, history, 800);
    let request = recover(&position, "long:1")?;
    stage.clients[slow].request(&request).await?;
    let live = stage.order(Order::new(Verb::Channel, "long:1", 20, 6000)).await?;
    stage.expect(witness.start..slow + 1, live, 20);
    stage.await_orders().await?;
    stage.settle().await;
    stage.require_whole(slow);
    Ok(())
}

/// Lets readers of 18 kB a second recover a history that is then replaced, one after the other.
pub(crate) async fn trickling(stage: &mut Stage) -> Result<()> {
    outlived(stage, Pace::Slow(900), &["long:0"], Stock { messages: HISTORY.into(), bytes: 10_000 }).await
}

/// Lets readers that read nothing recover 128 channels in one packet, whose histories are then replaced.
pub(crate) async fn many_channels(stage: &mut Stage) -> Result<()> {
    let channels: Vec<_> = (0..128).map(|channel| format!("live:{channel}")).collect();
    let channels: Vec<_> = channels.iter().map(String::as_str).collect();
    outlived(stage, Pace::Stalled, &channels, Stock { messages: 64, bytes: 2000 }).await
}

/// Contents of one channel's history.
struct Stock {
    messages: u64,
    bytes: usize,
}

/// Replaces the histories in each round while the readers of earlier rounds still hold what they recovered.
async fn outlived(stage: &mut Stage, pace: Pace, channels: &[&str], stock: Stock) -> Result<()> {
    let Stock { messages, bytes } = stock;
    let witness = stage.readers("witness", 1, &[]).await?;
    let mut positions = Vec::new();
    for channel in channels {
        positions.push(stage.clients[witness.start].subscribe(channel).await?);
    }
    stage.begin().await?;
    stage.bounds.kept = messages * channels.len() as u64;
    let prefix = channels[0].trim_end_matches('0');
    for round in 0..stage.choose(6, 12) {
        let order = Order::new(Verb::Channel, prefix, messages, bytes).across(channels.len() as u64);
        let source = stage.order(order).await?;
        for channel in 0..channels.len() as u64 {
            stage.expect(witness.clone(), source + channel, messages);
        }
        stage.await_orders().await?;
        stage.settle_on(witness.start, source, messages).await;
        // The witness has read everything, so inboxes hold at most one round.
        stage.bounds.published = messages * channels.len() as u64;
        let slow = stage.slow_reader(&format!("slow{round}"), pace).await?;
        let requests: Vec<_> = channels
            .iter()
            .zip(&positions)
            .map(|(channel, position)| recover_from(position, channel, round * messages))
            .collect::<Result<_>>()?;
        stage.clients[slow].send_frames(&frames(requests)).await?;
        stage.pause(300).await;
    }
    Ok(())
}

/// Publishes much while a subscription waits three seconds for its history.
pub(crate) async fn slow_broker(stage: &mut Stage) -> Result<()> {
    let reader = stage.readers("reader", 1, &[]).await?;
    stage.begin().await?;
    stage.clients[reader.start]
        .send("{\"type\":\"subscribe_channel\",\"id\":1,\"channel\":\"slow:1\"}")
        .await?;
    stage.pause(300).await; // the subscription waits for its history
    stage.order(Order::new(Verb::Channel, "slow:1", 6000, 20_000)).await?;
    stage.bounds.kept = HISTORY.into();
    // No reader is subscribed yet, so nothing goes to a shard.
    stage.bounds.published = 0;
    stage.await_orders().await?;
    stage.pause(u64::try_from(LATENCY.as_millis())? + 500).await;
    let is_answered = stage.clients[reader.start].state(|state| state.answers == 1 || state.end.is_some());
    if !is_answered {
        stage.fail("the subscription that waited for its history is not answered");
    }
    Ok(())
}

/// Lets the application subscribe a connection while the broker never answers: the call must end.
pub(crate) async fn hanging_broker(stage: &mut Stage) -> Result<()> {
    stage.readers("reader", 1, &[]).await?;
    stage.begin().await?;
    stage.order(Order::new(Verb::Subscribe, "reader0", 1, 0)).await?;
    stage.forget_order();
    stage.server.report("done", Duration::from_secs(70)).await.map(drop)
}

fn recover(position: &str, channel: &str) -> Result<String> {
    recover_from(position, channel, 0)
}

/// Returns a subscription from an offset in the epoch of an earlier answer.
fn recover_from(position: &str, channel: &str, offset: u64) -> Result<String> {
    let answer: serde_json::Value = serde_json::from_str(position)?;
    let epoch = answer["data"]["epoch"].as_str().context("an answer with an epoch")?;
    Ok(format!(
        "{{\"type\":\"subscribe_channel\",\"id\":1,\"channel\":\"{channel}\",\
         \"recover\":{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}}}"
    ))
}
