//! Control messages that a client does not read: state changes, presence lists and answers.

use crate::client::{Pace, frames};
use crate::order::{Order, Verb};
use crate::stage::Stage;
use anyhow::Result;
use std::time::Duration;
use tokio::time::timeout;

/// Calls `Connection::set_state` in a loop, for a connection that reads nothing.
pub(crate) async fn states(stage: &mut Stage) -> Result<()> {
    stage.slow_reader("stalled", Pace::Stalled).await?;
    stage.begin().await?;
    let count = stage.choose(300_000, 600_000);
    stage.order(Order::new(Verb::State, "stalled", count, 0)).await?;
    stage.await_orders().await
}

/// Subscribes a connection that reads nothing to 128 channels with presence lists, in one packet.
pub(crate) async fn presence_lists(stage: &mut Stage) -> Result<()> {
    let rooms: Vec<_> = (0..128).map(|room| format!("room:{room}")).collect();
    let names: Vec<_> = rooms.iter().map(String::as_str).collect();
    let people = stage.choose(30, 50);
    let people = stage.readers("person", people, &names[..1]).await?;
    for person in people {
        let pad = "x".repeat(3800);
        let request =
            format!("{{\"type\":\"update_status\",\"id\":1,\"status\":\"away\",\"pad\":\"{pad}\"}}");
        stage.clients[person].request(&request).await?;
        for room in &names[1..] {
            stage.clients[person].subscribe(room).await?;
        }
    }
    let slow = stage.slow_reader("stalled", Pace::Stalled).await?;
    stage.begin().await?;
    let requests =
        rooms.iter().map(|room| format!("{{\"type\":\"subscribe_channel\",\"channel\":\"{room}\"}}"));
    stage.clients[slow].send_frames(&frames(requests)).await?;
    stage.pause(1000).await;
    Ok(())
}

/// Requests the history of a channel repeatedly on a connection that reads nothing.
pub(crate) async fn answers(stage: &mut Stage) -> Result<()> {
    stage.order(Order::new(Verb::Channel, "long:1", 1000, 1000)).await?;
    stage.await_orders().await?;
    let slow = stage.slow_reader("stalled", Pace::Stalled).await?;
    stage.clients[slow].send("{\"type\":\"subscribe_channel\",\"channel\":\"long:1\"}").await?;
    stage.begin().await?;
    let request = "{\"type\":\"history\",\"id\":1,\"channel\":\"long:1\"}".to_owned();
    let requests = frames(std::iter::repeat_n(request, 20_000));
    // The server should stop reading, so a timeout is expected.
    let _ = timeout(Duration::from_secs(2), stage.clients[slow].send_frames(&requests)).await;
    Ok(())
}
