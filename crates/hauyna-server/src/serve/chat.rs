//! The `/chat` endpoint: any named user may publish in any channel that is not called `private:…`; `general`,
//! `chat` and rooms have presence and keep their history for a day.

use hauyna::channel::ClientEvents;
use hauyna::contract::{ChannelContract, Contract};
use hauyna::handler::RateLimit;
use hauyna::{ChannelOptions, Context, Handler, Hub, Presence, Rate, Reject, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) fn hub(shards: usize) -> Hub {
    Hub::builder()
        .shards(shards)
        .channels("private:{*rest}", ChannelOptions::new().private())
        .channels(GENERAL, room())
        .channels(CHAT, room())
        .channels(ROOMS, room())
        .channels(PRESENCE, ChannelOptions::new().presence(Presence::each()))
        .channels(OTHERS, ChannelOptions::new())
        .build()
}

/// Returns the options of a chat room: presence, and history for those who were away.
fn room() -> ChannelOptions {
    ChannelOptions::new()
        .announce_subscribers()
        .presence(Presence::each())
        .history(KEPT, DAY)
        .client_events(client_events())
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

/// Returns the contract between clients and this endpoint. Content is any JSON value.
pub(crate) fn contract() -> Contract {
    let channels =
        PATTERNS.into_iter().fold(Contract::new("Hauyna chat", env!("CARGO_PKG_VERSION")), |chat, name| {
            let channel = ChannelContract::new().content::<Value>();
            chat.channel(
                name,
                if ROOM_PATTERNS.contains(&name) { with_client_events(channel) } else { channel },
            )
        });
    channels.event::<Subscribers, Subscribed>("subscribers")
}

/// Returns the client events of a room, with their rates.
fn client_events() -> ClientEvents {
    ClientEvents::new().event("cursor", 20).event("typing", 5)
}

fn with_client_events(channel: ChannelContract) -> ChannelContract {
    channel.client_event::<Value>("cursor").client_event::<Value>("typing")
}

/// A request for the subscribers of a channel.
#[derive(Deserialize, JsonSchema)]
struct Subscribers {
    channel: String,
}

/// The first 1,000 names of subscribers, and the number of all subscribed connections.
#[derive(Serialize, JsonSchema)]
struct Subscribed {
    channel: String,
    users: BTreeSet<String>,
    count: usize,
}

/// Returns the subscribers of a channel to a connection that is subscribed itself.
async fn subscribers(cx: Context, request: Subscribers) -> hauyna::Result<Subscribed> {
    let channel = cx.channel(&request.channel);
    if !channel.is_subscribed(&cx.connection()) {
        return Err(Reject::denied("subscribe to the channel first").into());
    }
    let users: BTreeSet<String> =
        channel.subscribers().iter().map(|connection| connection.user().to_string()).take(LISTED).collect();
    Ok(Subscribed { count: channel.subscription_count(), channel: request.channel, users })
}

/// Maximum of names in an answer; no page shows more.
const LISTED: usize = 1000;

/// Number of messages that a room keeps.
const KEPT: u32 = 1000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const GENERAL: &str = "general";
/// The channel of the page in the README of the original.
const CHAT: &str = "chat";
const ROOMS: &str = "room:{*id}";
const PRESENCE: &str = "presence:{*id}";
const OTHERS: &str = "{*any}";
/// Patterns of the channels that are rooms.
const ROOM_PATTERNS: [&str; 3] = [GENERAL, CHAT, ROOMS];
/// Patterns of all channels that clients may use.
const PATTERNS: [&str; 5] = [GENERAL, CHAT, ROOMS, PRESENCE, OTHERS];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rooms_keep_a_thousand_messages_for_a_day() {
        let hub = hub(1);
        for name in [GENERAL, CHAT, "room:7"] {
            let options = hub.inspect().channel(name).await.unwrap().options;
            assert_eq!((options.history, options.history_age), (1000, 86_400_000), "{name}");
            let events = [("cursor".to_owned(), 20), ("typing".to_owned(), 5)];
            assert_eq!(options.client_events, events.into(), "{name}");
        }
    }

    #[test]
    fn the_contract_has_what_the_handler_has() {
        contract().check(&handler(false, None));
    }
}
