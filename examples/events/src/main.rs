//! Events inside the server: listeners with priorities that may send a request to the client, stop later
//! listeners, or fail without harm; and listeners for events of the hub itself.
//!
//! `cargo run --package hauyna-example-events`, then open <http://127.0.0.1:3008> and order something.

use hauyna::events::{Event, Flow, SystemEvent, SystemKind};
use hauyna::{Context, Handler, Hub, Reject, Router, json};
use hauyna_example_page::Page;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Deserialize, Serialize)]
struct Order {
    item: String,
    cups: u32,
}

/// Builds the hub and registers the listeners. The highest priority runs first, and no listener knows the
/// others.
fn hub(timeout: Duration) -> Hub {
    let hub = Hub::new();
    let events = hub.events();
    events.priority(20).on("order_placed", check);
    events.priority(10).on("order_placed", move |event, order| confirm(event, order, timeout));
    events.on("order_placed", brew);
    events.on("order_placed", |event: Event, _: Order| async move {
        tell(&event, "count", "the till is out of paper: this listener fails, the next one runs")?;
        Err::<(), _>(hauyna::Error::other("out of paper"))
    });
    events.priority(-10).on("order_placed", announce);
    events.on_system([SystemKind::Opened, SystemKind::Closed], greet);
    hub
}

/// Stops invalid orders before other listeners see them.
async fn check(event: Event, order: Order) -> hauyna::Result<Flow> {
    if (1..=12).contains(&order.cups) && order.item.len() <= 100 {
        tell(&event, "check", "one to twelve cups: fine")?;
        return Ok(Flow::Continue);
    }
    tell(&event, "check", "not one to twelve cups: stopped")?;
    Ok(Flow::Stop)
}

/// Asks the user who ordered and waits for the answer. No answer in time means no.
async fn confirm(event: Event, order: Order, timeout: Duration) -> hauyna::Result<Flow> {
    let Some(connection) = event.connection().filter(|_| order.cups > 3) else { return Ok(Flow::Continue) };
    let question = json!({ "text": format!("{} cups of {}: really?", order.cups, order.item) });
    let answer = connection.request::<bool>("confirm", question).timeout(timeout).await;
    let (text, flow) = match answer {
        Ok(true) => ("you are sure".to_owned(), Flow::Continue),
        Ok(false) => ("you are not sure: stopped".to_owned(), Flow::Stop),
        Err(error) => (format!("{error}: stopped"), Flow::Stop),
    };
    tell(&event, "confirm", &text)?;
    Ok(flow)
}

async fn brew(event: Event, order: Order) -> hauyna::Result {
    tell(&event, "brew", &format!("{} × {}", order.cups, order.item))
}

/// Announces the order to everybody.
async fn announce(event: Event, order: Order) -> hauyna::Result {
    let who = event.connection().map(|connection| connection.user().to_string());
    let news = json!({ "type": "ordered", "user": who, "item": order.item, "cups": order.cups });
    event.hub().channel(NEWS).broadcast(news).await?;
    tell(&event, "announce", "everybody knows")
}

/// Greets users by events of the hub.
async fn greet(event: Event, occurrence: SystemEvent) -> hauyna::Result {
    let (who, what) = match &occurrence {
        SystemEvent::Opened { connection, .. } => (connection.user(), "came in"),
        SystemEvent::Closed { connection, .. } => (connection.user(), "left"),
        _ => return Ok(()),
    };
    let news = json!({ "type": "news", "text": format!("{who} {what}") });
    event.hub().channel(NEWS).broadcast(news).await?;
    Ok(())
}

/// Reports the steps to the user who ordered.
fn tell(event: &Event, listener: &str, text: &str) -> hauyna::Result {
    match event.connection() {
        Some(connection) => connection.send(json!({ "type": "step", "listener": listener, "text": text })),
        None => Ok(()),
    }
}

fn handler() -> Handler {
    Handler::new()
        .identify(|request| match request.query("user_id") {
            Some(name) if !name.trim().is_empty() => Ok(name),
            _ => Err(Reject::unauthorized("user_id is required")),
        })
        .on_open(|cx| async move { cx.subscribe(NEWS, ()).await })
        .on("order", order)
}

/// Emits the order to the listeners. Decoding has already validated it.
async fn order(cx: Context, order: Order) -> hauyna::Result<hauyna::Value> {
    let outcome = cx.hub().events().trigger("order_placed", Some(&cx.connection()), order).await?;
    Ok(json!({ "ran": outcome.ran, "stopped": outcome.stopped, "failed": outcome.failures.len() }))
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3008)?;
    let hub = hub(Duration::from_secs(10));
    let router = Router::new(hub).websocket("/live", handler()).fallback(PAGE.router());
    router.into_server().serve_listener(listener).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
const NEWS: &str = "news";

#[cfg(test)]
mod tests;
