//! A dashboard: shows the hub's counts once a second on every open page, and as `/metrics` for Prometheus.
//!
//! `cargo run --package hauyna-example-dashboard`, then open <http://127.0.0.1:3009> and make some noise; or
//! `curl http://127.0.0.1:3009/metrics`.

use hauyna::{ChannelOptions, Context, Handler, Hub, Publishers, Reject, Router, SlowConsumer, json};
use hauyna_example_page::Page;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
struct Noise {
    messages: u32,
}

/// Returns the hub. A slow page gets only the latest counts.
fn hub() -> Hub {
    let latest = ChannelOptions::new()
        .publishers(Publishers::Application)
        .slow_consumer(SlowConsumer::Conflate)
        .no_history();
    let noise = ChannelOptions::new().publishers(Publishers::Application).no_history();
    Hub::builder().channels("stats", latest).channels("noise", noise).build()
}

fn handler() -> Handler {
    Handler::new()
        .on_open(|cx| async move {
            cx.subscribe("stats", ()).await?;
            cx.subscribe("noise", ()).await
        })
        .on("noise", noise)
}

/// Sends messages to everybody, so that there is something to count.
async fn noise(cx: Context, Noise { messages }: Noise) -> hauyna::Result {
    if messages > 1000 {
        return Err(Reject::invalid("at most 1,000 at once").into());
    }
    for n in 0..messages {
        cx.channel("noise").broadcast(json!({ "type": "noise", "n": n })).await?;
    }
    Ok(())
}

/// Publishes the counts regularly. Reading them costs some microseconds, whatever the number of connections.
async fn measure(hub: Hub, every: Duration) -> hauyna::Result {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let stats = hub.stats();
        let memory = stats.memory.total();
        hub.channel("stats").broadcast(json!({ "type": "stats", "stats": stats, "memory": memory })).await?;
    }
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3009)?;
    let hub = hub();
    // A real application serves them on a separate listener, since the numbers reveal much about it.
    let pages = PAGE.router().route_service("/metrics", hauyna::metrics::service(&hub));
    let router = Router::new(hub.clone()).websocket("/live", handler()).fallback(pages);
    tokio::select! {
        served = router.into_server().serve_listener(listener) => served,
        failed = measure(hub, Duration::from_secs(1)) => failed,
    }
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};

#[cfg(test)]
mod tests;
