//! Connection states, retry policies and hooks: the state of each connection, how it reconnects after a loss,
//! and what the application does when a state changes. `/states` counts the connections by state.
//!
//! `cargo run --package hauyna-example-states`, then open <http://127.0.0.1:3006> twice.

use axum::Json;
use axum::routing::get;
use hauyna::connection::{ConnectionState, RetryPolicy};
use hauyna::events::{Event, SystemEvent, SystemKind};
use hauyna::{CloseCode, Connection, Context, Handler, Hub, Reject, Router, json};
use hauyna_example_page::Page;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A custom state. The table does not allow a change from busy to idle.
const BUSY: ConnectionState = ConnectionState::custom("busy");

#[derive(Deserialize)]
struct SetStateRequest {
    state: String,
}

/// Users who are refused, and until when.
type Door = Arc<Mutex<HashMap<String, Instant>>>;

fn hub() -> Hub {
    let hub = Hub::builder()
        .allow_transition(ConnectionState::Connected, BUSY)
        .allow_transition(BUSY, ConnectionState::Connected)
        .on_state_change(hurry_or_not)
        .build();
    hub.events().on_system([SystemKind::Opened, SystemKind::Closed, SystemKind::StateChanged], tell);
    hub
}

fn handler(idle_after: Duration, closed_for: Duration) -> Handler {
    let door = Door::default();
    let lock = door.clone();
    Handler::new()
        .identify(move |request| {
            let name = request.query("user_id").filter(|name| !name.trim().is_empty());
            let name = name.ok_or(Reject::unauthorized("user_id is required"))?;
            let closed = lock.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
            match closed {
                Some(until) if until > Instant::now() => Err(Reject::denied("come back later")),
                _ => Ok(name),
            }
        })
        .idle_after(idle_after)
        .on_open(|cx| async move { cx.subscribe(BOARD, ()).await })
        .on("set_state", set_state)
        .on("here", |_, _: IgnoredAny| async { Ok(()) }) // any message ends idleness
        .on("close_the_door", move |cx: Context, _: IgnoredAny| {
            let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
            door.retain(|_, until| *until > Instant::now());
            door.insert(cx.user().to_string(), Instant::now() + closed_for);
            cx.connection().close(CloseCode::FORCED_RECONNECT, "the door is closed for a while");
            async { Ok(()) }
        })
}

/// Sets the state. A transition that the table does not allow is refused with the reason.
async fn set_state(cx: Context, request: SetStateRequest) -> hauyna::Result {
    let known =
        ConnectionState::ALL.iter().copied().chain([BUSY]).find(|state| state.name() == request.state);
    let state = known.ok_or(Reject::invalid("there is no such state"))?;
    cx.connection().set_state(state).map_err(|error| Reject::denied(error.to_string()).into())
}

/// Sets the retry policy in a hook: an idle page may reconnect slowly, one in use should do it fast.
async fn hurry_or_not(connection: Connection, _: ConnectionState, new: ConnectionState) -> hauyna::Result {
    let policy = match new {
        ConnectionState::Connected => RetryPolicy::default(),
        ConnectionState::Idle => RetryPolicy::conservative(),
        BUSY => RetryPolicy::aggressive(),
        _ => return Ok(()),
    };
    connection.set_retry_policy(policy)
}

/// Publishes each change of a state, and the number of connections in each state, to all pages.
async fn tell(event: Event, occurrence: SystemEvent) -> hauyna::Result {
    let board = event.hub().channel(BOARD);
    if let SystemEvent::StateChanged { connection, old, new, .. } = occurrence {
        board
            .broadcast(json!({ "type": "changed", "user": connection.user(), "old": old, "new": new }))
            .await?;
    }
    board.broadcast(json!({ "type": "counts", "counts": event.hub().stats().states })).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3006)?;
    let hub = hub();
    let counts = hub.clone();
    let pages = PAGE.router().route("/states", get(move || async move { Json(counts.stats().states) }));
    let handler = handler(Duration::from_secs(5), Duration::from_secs(8));
    let router = Router::new(hub).websocket("/live", handler).fallback(pages);
    router.into_server().serve_listener(listener).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
/// A channel that clients cannot subscribe to themselves, because no pattern declares it.
const BOARD: &str = "board";

#[cfg(test)]
mod tests;
