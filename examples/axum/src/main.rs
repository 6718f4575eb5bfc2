//! Live orders: an axum application with ordinary routes and a WebSocket route that share one hub. Orders
//! that are posted over HTTP appear on every open page.
//!
//! `cargo run --package hauyna-example-axum`, then open <http://127.0.0.1:3000> and press the button; or
//! `curl -X POST http://127.0.0.1:3000/orders -H 'content-type: application/json' -d '{"item":"tea"}'`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use hauyna::{ChannelOptions, Context, Handler, Hub, Publishers, json};
use hauyna_example_page::Page;
use serde::Deserialize;

#[derive(Deserialize)]
struct Order {
    item: String,
}

/// Publishes an order from an ordinary handler; the hub is in axum's state.
async fn place(State(hub): State<Hub>, Json(order): Json<Order>) -> Result<StatusCode, StatusCode> {
    let orders = hub.channel("orders");
    match orders.broadcast(json!({ "type": "order", "item": order.item })).await {
        Ok(_) => Ok(StatusCode::CREATED),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Subscribes every page as soon as it connects.
async fn welcome(cx: Context) -> hauyna::Result {
    cx.subscribe("orders", ()).await
}

/// Returns the application: ordinary routes and the WebSocket.
fn application() -> Router {
    let hub =
        Hub::builder().channels("orders", ChannelOptions::new().publishers(Publishers::Application)).build();
    let realtime = hauyna::Router::new(hub.clone()).websocket("/live", Handler::new().on_open(welcome));
    Router::new()
        .route("/orders", post(place))
        .with_state(hub)
        .merge(PAGE.router())
        .merge(realtime.into_axum())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(hauyna_example_page::listen(3000)?)?;
    axum::serve(listener, application()).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
