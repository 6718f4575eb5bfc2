//! The chat of the README, line by line. Run `cargo run --package hauyna-example-chat`, then connect with any
//! WebSocket client to `ws://127.0.0.1:8080/chat?user_id=ann`.
#![cfg_attr(rustfmt, rustfmt_skip)] // the lines are those of the README
#![allow(clippy::print_stdout, reason = "the program prints where it listens")]

use hauyna::{json, Context, Handler, Heartbeat, Hub, Reject, Router};
use serde::Deserialize;
use std::net::TcpListener;
use std::time::Duration;

#[derive(Deserialize)]
struct ChatMessage { content: String }

async fn welcome(cx: Context) -> hauyna::Result {
    cx.presence().track(json!({ "status": "online" })).await?;
    cx.subscribe("general", ()).await?;
    cx.channel("general").broadcast(json!({ "type": "system", "message": format!("{} joined", cx.user()) })).await?;
    Ok(())
}

async fn say(cx: Context, message: ChatMessage) -> hauyna::Result {
    cx.channel("general").broadcast(json!({
        "type": "message", "user": cx.user(), "content": message.content,
    })).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let chat = Handler::new()
        .identify(|request| request.query("user_id").ok_or(Reject::unauthorized("user_id is required")))
        .on_open(welcome)
        .on("chat_message", say)                       // typed: bad input never reaches the function
        .heartbeat(Heartbeat::every(Duration::from_secs(30)));

    let listener = TcpListener::bind("127.0.0.1:8080")?;
    println!("listening on ws://{}/chat", listener.local_addr()?);
    Router::new(Hub::new()).websocket("/chat", chat).into_server().serve_listener(listener).await
}

#[cfg(test)]
mod tests;
