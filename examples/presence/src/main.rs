//! A presence board: which users are online, away or offline, on which devices, with which activity, and who
//! is typing.
//!
//! `cargo run --package hauyna-example-presence`, then open <http://127.0.0.1:3004> in several windows; or
//! `curl 'http://127.0.0.1:3004/present?status=away'`.

use axum::Json;
use axum::extract::Query;
use axum::routing::get;
use hauyna::events::Event;
use hauyna::presence::Criteria;
use hauyna::{ChannelOptions, Context, Handler, Hub, Presence, Publishers, Reject, Router, UserId, json};
use hauyna_example_page::Page;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
struct Typing {
    typing: bool,
}

#[derive(Deserialize)]
struct Wanted {
    status: Option<String>,
    activity: Option<String>,
}

/// Returns the hub. Subscribers of `office` are present there, with the status that their pages send by the
/// protocol's `update_status`. A lost connection stays present for the grace time.
fn hub(grace: Duration) -> Hub {
    let office =
        ChannelOptions::new().presence(Presence::each()).publishers(Publishers::Application).no_history();
    let seen =
        ChannelOptions::new().publishers(Publishers::Application).history(200, Duration::from_secs(86_400));
    Hub::builder()
        .presence_grace(grace)
        .channels(OFFICE, office)
        .channels(SEEN, seen)
        .on_user_offline(remember)
        .build()
}

fn handler() -> Handler {
    Handler::new()
        .identify(|request| match request.query("user_id") {
            Some(name) if !name.trim().is_empty() => Ok(name),
            _ => Err(Reject::unauthorized("user_id is required")),
        })
        .on("typing", typing)
}

/// Publishes that a user is typing to the current subscribers, without history.
async fn typing(cx: Context, Typing { typing }: Typing) -> hauyna::Result {
    let (office, connection) = (cx.channel(OFFICE), cx.connection());
    if !office.is_subscribed(&connection) {
        return Err(Reject::denied("enter the office first").into());
    }
    let message = json!({ "type": "typing", "user": cx.user(), "typing": typing });
    office.broadcast(message).except(connection.id()).await?;
    Ok(())
}

/// Stores when the last connection of a user ended, so that later users see it, too.
async fn remember(event: Event, user: UserId) -> hauyna::Result {
    event.hub().channel(SEEN).broadcast(json!({ "type": "seen", "user": user })).await?;
    Ok(())
}

/// Returns the criteria of a presence query on the server.
fn criteria(wanted: Wanted) -> Criteria {
    let mut criteria = Criteria::new().in_channel(OFFICE);
    if let Some(status) = wanted.status {
        criteria = criteria.status(status.as_str());
    }
    if let Some(activity) = wanted.activity {
        criteria = criteria.with("activity", activity);
    }
    criteria
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3004)?;
    let hub = hub(Duration::from_secs(5));
    let presence = hub.presence();
    let present =
        move |Query(wanted): Query<Wanted>| async move { Json(presence.list_by(&criteria(wanted)).await) };
    let pages = PAGE.router().route("/present", get(present));
    let router = Router::new(hub).websocket("/live", handler()).fallback(pages);
    router.into_server().serve_listener(listener).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
const OFFICE: &str = "office";
/// Channel with the times when users were last seen.
const SEEN: &str = "seen";

#[cfg(test)]
mod tests;
