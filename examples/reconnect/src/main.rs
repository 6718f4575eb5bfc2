//! A reconnect that loses nothing: numbers are published all the time, and a page whose socket is cut gets
//! the missed numbers, in order and once, because it sends its last position.
//!
//! `cargo run --package hauyna-example-reconnect`, then open <http://127.0.0.1:3003> and cut the socket.

use hauyna::connection::RetryPolicy;
use hauyna::{ChannelOptions, CloseCode, Context, Handler, Hub, Publishers, Router, json};
use hauyna_example_page::Page;
use serde::de::IgnoredAny;
use std::time::Duration;

/// Returns the hub. It keeps ten minutes, which is more than one recovery replays (1,000 numbers, 200 s).
fn hub() -> Hub {
    let numbers =
        ChannelOptions::new().history(3_000, Duration::from_secs(600)).publishers(Publishers::Application);
    Hub::builder().channels("numbers", numbers).build()
}

fn handler() -> Handler {
    let retry = RetryPolicy::aggressive().max_attempts(None);
    Handler::new().retry_policy(retry).on("cut_me_off", cut_off)
}

/// Closes the connection with a code after which the client reconnects.
async fn cut_off(cx: Context, _: IgnoredAny) -> hauyna::Result {
    cx.connection().close(CloseCode::FORCED_RECONNECT, "as you wished");
    Ok(())
}

/// Publishes 1, 2, 3 and so on, with or without subscribers.
async fn count(hub: Hub, every: Duration) -> hauyna::Result {
    let mut ticks = tokio::time::interval(every);
    let numbers = hub.channel("numbers");
    for n in 1_u64.. {
        ticks.tick().await;
        numbers.broadcast(json!({ "type": "number", "n": n })).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3003)?;
    let hub = hub();
    let router = Router::new(hub.clone()).websocket("/live", handler()).fallback(PAGE.router());
    tokio::select! {
        served = router.into_server().serve_listener(listener) => served,
        failed = count(hub, Duration::from_millis(200)) => failed,
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
