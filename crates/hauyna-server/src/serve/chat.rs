//! The `/chat` endpoint: any named user may talk in any channel that is not called `private:…`; `general`
//! and rooms tell who is there.

use hauyna::{Channels, Context, Handler, Hub, Presence, Rate, RateLimit, Reject, json};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn hub(shards: usize) -> Hub {
    Hub::builder()
        .shards(shards)
        .channels("private:{*rest}", Channels::new().private())
        .channels("general", Channels::new().announce_subscribers())
        .channels("room:{*id}", Channels::new().announce_subscribers())
        .channels("presence:{*id}", Channels::new().presence(Presence::each()))
        .channels("{*any}", Channels::new())
        .build()
}

pub(super) fn handler(deflate: bool, rate_limit: Option<u32>) -> Handler {
    let handler = Handler::new()
        .identify(|request| match request.query("user_id") {
            Some(name) if !name.trim().is_empty() => Ok(name),
            _ => Err(Reject::unauthorized("user_id is required")),
        })
        .on("subscribers", subscribers);
    let handler = match rate_limit {
        None => handler,
        Some(messages) => {
            let rate = Rate::per_second(messages).burst(messages.saturating_mul(2));
            handler.rate_limit(RateLimit::new().messages(rate))
        }
    };
    if deflate { handler.deflate() } else { handler }
}

#[derive(Deserialize)]
struct Subscribers {
    channel: String,
}

/// Who is subscribed to a channel, for those who are themselves.
async fn subscribers(cx: Context, asked: Subscribers) -> hauyna::Result<Value> {
    let channel = cx.channel(&asked.channel);
    if !channel.is_subscribed(&cx.connection()) {
        return Err(Reject::denied("subscribe to the channel first").into());
    }
    let users: BTreeSet<String> =
        channel.subscribers().iter().map(|connection| connection.user().to_string()).take(LISTED).collect();
    Ok(json!({ "channel": asked.channel, "users": users, "count": channel.subscription_count() }))
}

/// More names than this are not shown on any page.
const LISTED: usize = 1000;
