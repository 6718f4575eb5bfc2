//! Notifications to one user from an HTTP handler: an axum application with a private channel per user that
//! keeps its history for a day, so that missed notifications appear later.
//!
//! `cargo run --package hauyna-example-notifications`, then open <http://127.0.0.1:3001/?name=ann>; or `curl
//! http://127.0.0.1:3001/notifications -H 'content-type: application/json' -d '{"to":"ann","text":"hi"}'`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use hauyna::{ChannelOptions, ErrorType, Handler, Hub, Publishers, Reject, json};
use hauyna_example_page::Page;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
struct Notification {
    to: String,
    text: String,
}

fn hub() -> Hub {
    let day = Duration::from_secs(86_400);
    let notifications = ChannelOptions::new()
        .private()
        .authorize_subscribe(|cx, request| cx.user() == request["user"])
        .publishers(Publishers::Application)
        .history(500, day);
    Hub::builder().channels("notifications:{user}", notifications).build()
}

/// Returns the handler. A real `identify` checks a session or a token; here users choose their names.
fn handler() -> Handler {
    Handler::new().identify(|request| match request.query("user_id") {
        Some(name) if !name.trim().is_empty() => Ok(name),
        _ => Err(Reject::unauthorized("user_id is required")),
    })
}

/// Publishes a notification from an ordinary handler; the hub is in axum's state. The user need not be
/// connected.
async fn notify(State(hub): State<Hub>, Json(notification): Json<Notification>) -> (StatusCode, String) {
    let Notification { to, text } = notification;
    if to.trim().is_empty() || text.trim().is_empty() || text.len() > MAX_TEXT_BYTES {
        return (StatusCode::BAD_REQUEST, "`to` and `text` must say something".to_owned());
    }
    let channel = hub.channel(format!("notifications:{to}"));
    match channel.broadcast(json!({ "type": "notification", "text": text })).await {
        Ok(_) => (StatusCode::CREATED, format!("{} connections of {to}", channel.subscription_count())),
        Err(error) if error.error_type() == ErrorType::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    }
}

/// Returns the application: its page, its HTTP route and the WebSocket.
fn application(hub: Hub) -> Router {
    let realtime = hauyna::Router::new(hub.clone()).websocket("/live", handler());
    Router::new()
        .route("/notifications", post(notify))
        .with_state(hub)
        .merge(PAGE.router())
        .merge(realtime.into_axum())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(hauyna_example_page::listen(3001)?)?;
    axum::serve(listener, application(hub())).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
/// Maximum bytes of one text.
const MAX_TEXT_BYTES: usize = 1000;

#[cfg(test)]
mod tests;
