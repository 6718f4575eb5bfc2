//! Chat rooms with members, history and two ways to join. A page subscribes with the protocol's
//! `subscribe_channel`, which recovers after a lost connection; a client of a few lines sends `join_room`.
//!
//! `cargo run --package hauyna-example-rooms`, then open <http://127.0.0.1:3002> twice.

use hauyna::{Channel, ChannelOptions, Context, Handler, Hub, Publishers, Reject, Router, json};
use hauyna_example_page::Page;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Deserialize)]
struct Room {
    room: String,
}

#[derive(Deserialize)]
struct RoomMessage {
    room: String,
    content: String,
    /// Idempotency key: a repeated message is published once.
    key: Option<String>,
}

/// The members of a room, each with the number of their devices.
#[derive(Serialize)]
struct People {
    room: String,
    people: BTreeMap<String, usize>,
}

/// Returns the hub. Clients may enter any room, but messages go only through `room_message`.
fn hub() -> Hub {
    let room = ChannelOptions::new()
        .history(200, Duration::from_secs(3600))
        .announce_subscribers()
        .publishers(Publishers::Application);
    Hub::builder().channels("room:{name}", room).build()
}

fn handler() -> Handler {
    Handler::new()
        .identify(|request| match request.query("user_id") {
            Some(name) if !name.trim().is_empty() => Ok(name),
            _ => Err(Reject::unauthorized("user_id is required")),
        })
        .on("join_room", join)
        .on("leave_room", leave)
        .on("room_message", say)
        .on("room_people", people)
}

async fn join(cx: Context, Room { room }: Room) -> hauyna::Result<People> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let joined_at = u64::try_from(now.as_millis()).unwrap_or_default();
    cx.subscribe(channel_of(&room)?, json!({ "joined_at": joined_at })).await?;
    people(cx, Room { room }).await
}

async fn leave(cx: Context, Room { room }: Room) -> hauyna::Result {
    cx.unsubscribe(channel_of(&room)?)
}

async fn say(cx: Context, message: RoomMessage) -> hauyna::Result {
    let channel = entered(&cx, &message.room)?;
    if message.content.trim().is_empty() || message.content.len() > MAX_TEXT_BYTES {
        return Err(Reject::invalid("a message has 1 to 4,000 bytes").into());
    }
    let said = channel.publish(json!({
        "type": "room_message", "room": message.room, "user": cx.user(), "content": message.content,
    }));
    match message.key {
        Some(key) => said.from_user(cx.user()).key(&key).await?,
        None => said.await?,
    };
    Ok(())
}

async fn people(cx: Context, Room { room }: Room) -> hauyna::Result<People> {
    let mut people = BTreeMap::new();
    for connection in entered(&cx, &room)?.subscribers().into_iter().take(MAX_LISTED) {
        *people.entry(connection.user().to_string()).or_default() += 1;
    }
    Ok(People { room, people })
}

/// Returns the channel of a room if the connection has entered it.
fn entered(cx: &Context, room: &str) -> hauyna::Result<Channel> {
    let channel = cx.channel(channel_of(room)?);
    if channel.is_subscribed(&cx.connection()) {
        return Ok(channel);
    }
    Err(Reject::denied("join the room first").into())
}

fn channel_of(room: &str) -> Result<String, Reject> {
    let is_name = (1..=40).contains(&room.len()) && room.chars().all(|c| c.is_alphanumeric() || c == '-');
    if is_name { Ok(format!("room:{room}")) } else { Err(Reject::invalid("a room is letters, digits and -")) }
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3002)?;
    let router = Router::new(hub()).websocket("/live", handler()).fallback(PAGE.router());
    router.into_server().serve_listener(listener).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
/// Maximum bytes of one message.
const MAX_TEXT_BYTES: usize = 4000;
/// Maximum number of listed connections of a room.
const MAX_LISTED: usize = 1000;

#[cfg(test)]
mod tests;
