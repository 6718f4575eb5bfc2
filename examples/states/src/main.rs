//! Connection states, retry policies and hooks: what state each connection is in, how it comes back after a loss,
//! and what the application does when a state changes. `/states` counts the connections by their state.
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

/// A state of our own. Who is busy does not become idle: the table does not let them.
const BUSY: ConnectionState = ConnectionState::Custom("busy");

#[derive(Deserialize)]
struct SetStateRequest {
    state: String,
}

/// Users that find the door closed, and until when.
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

/// What the table does not allow is refused, and the client is told why.
async fn set_state(cx: Context, wish: SetStateRequest) -> hauyna::Result {
    let known = ConnectionState::ALL.into_iter().chain([BUSY]).find(|state| state.name() == wish.state);
    let state = known.ok_or(Reject::invalid("there is no such state"))?;
    cx.connection().set_state(state).map_err(|error| Reject::denied(error.to_string()).into())
}

/// The hook: an idle page need not hurry back, one that is in use should.
async fn hurry_or_not(connection: Connection, _: ConnectionState, new: ConnectionState) -> hauyna::Result {
    let policy = match new {
        ConnectionState::Connected => RetryPolicy::default(),
        ConnectionState::Idle => RetryPolicy::conservative(),
        BUSY => RetryPolicy::aggressive(),
        _ => return Ok(()),
    };
    connection.set_retry_policy(policy)
}

/// A listener for what happens in the hub: all pages see who changes, and how many are in which state.
async fn tell(event: Event, told: SystemEvent) -> hauyna::Result {
    let board = event.hub().channel(BOARD);
    if let SystemEvent::StateChanged { connection, old, new } = told {
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
/// A channel that clients cannot subscribe to by themselves: no pattern declares it.
const BOARD: &str = "board";

#[cfg(test)]
mod tests;
