//! The `/chat` endpoint: any named user may talk in any channel that is not called `private:…`; `general`
//! and rooms show who is there.

use hauyna::{
    ChannelContract, Channels, Context, Contract, Handler, Hub, Presence, Rate, RateLimit, Reject, Value,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

pub(super) fn hub(shards: usize) -> Hub {
    Hub::builder()
        .shards(shards)
        .channels("private:{*rest}", Channels::new().private())
        .channels(GENERAL, Channels::new().announce_subscribers().presence(Presence::each()))
        .channels(ROOMS, Channels::new().announce_subscribers().presence(Presence::each()))
        .channels(PRESENCE, Channels::new().presence(Presence::each()))
        .channels(OTHERS, Channels::new())
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

/// What clients and this endpoint say to each other. Content is whatever a client publishes.
pub(crate) fn contract() -> Contract {
    let channels =
        PATTERNS.into_iter().fold(Contract::new("Hauyna chat", env!("CARGO_PKG_VERSION")), |chat, name| {
            chat.channel(name, ChannelContract::new().content::<Value>())
        });
    channels.event::<Subscribers, Subscribed>("subscribers")
}

/// Asks who is subscribed to a channel.
#[derive(Deserialize, JsonSchema)]
struct Subscribers {
    channel: String,
}

/// Who is: the first 1,000 names, and the number of all connections.
#[derive(Serialize, JsonSchema)]
struct Subscribed {
    channel: String,
    users: BTreeSet<String>,
    count: usize,
}

/// Who is subscribed to a channel, for those who are themselves.
async fn subscribers(cx: Context, asked: Subscribers) -> hauyna::Result<Subscribed> {
    let channel = cx.channel(&asked.channel);
    if !channel.is_subscribed(&cx.connection()) {
        return Err(Reject::denied("subscribe to the channel first").into());
    }
    let users: BTreeSet<String> =
        channel.subscribers().iter().map(|connection| connection.user().to_string()).take(LISTED).collect();
    Ok(Subscribed { count: channel.subscription_count(), channel: asked.channel, users })
}

/// More names than this are not shown on any page.
const LISTED: usize = 1000;

const GENERAL: &str = "general";
const ROOMS: &str = "room:{*id}";
const PRESENCE: &str = "presence:{*id}";
const OTHERS: &str = "{*any}";
/// The channels that clients may use.
const PATTERNS: [&str; 4] = [GENERAL, ROOMS, PRESENCE, OTHERS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_what_the_handler_has() {
        contract().check(&handler(false, None));
    }
}
