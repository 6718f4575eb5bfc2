//! Orders, live: an axum application with ordinary routes and a WebSocket route, sharing one hub. What is
//! posted over HTTP appears on every open page.
//!
//! `cargo run --package hauyna-example-axum`, then open <http://127.0.0.1:3000> and press the button; or
//! `curl -X POST http://127.0.0.1:3000/orders -H 'content-type: application/json' -d '{"item":"tea"}'`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use hauyna::{Channels, Context, Handler, Hub, Publishers, json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Order {
    item: String,
}

/// An ordinary handler that publishes: the hub is in axum's state.
async fn place(State(hub): State<Hub>, Json(order): Json<Order>) -> Result<StatusCode, StatusCode> {
    let orders = hub.channel("orders");
    match orders.broadcast(json!({ "type": "order", "item": order.item })).await {
        Ok(_) => Ok(StatusCode::CREATED),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Every page is subscribed as soon as it connects.
async fn welcome(cx: Context) -> hauyna::Result {
    cx.subscribe("orders", ()).await
}

/// The application: ordinary routes, and the WebSocket beside them.
fn application() -> Router {
    let hub = Hub::builder().channels("orders", Channels::new().publishers(Publishers::Application)).build();
    let realtime = hauyna::Router::new(hub.clone()).websocket("/live", Handler::new().on_open(welcome));
    Router::new()
        .route("/", get(|| async { Html(include_str!("../page.html")) }))
        .route("/orders", post(place))
        .with_state(hub)
        .merge(realtime.into_axum())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where to look")]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://{}", listener.local_addr()?);
    axum::serve(listener, application()).await
}
