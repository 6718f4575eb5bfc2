//! What the program answers over plain HTTP: the chat page and the two health checks.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hauyna::Hub;

pub(super) fn router(hub: Hub) -> Router {
    Router::new()
        .route("/", get(|| page(include_str!("../../assets/chat.html"), "text/html; charset=utf-8")))
        .route("/look.css", get(|| page(include_str!("../../assets/look.css"), "text/css; charset=utf-8")))
        .route("/chat.css", get(|| page(include_str!("../../assets/chat.css"), "text/css; charset=utf-8")))
        .route("/chat.js", get(|| page(include_str!("../../assets/chat.js"), SCRIPT)))
        .route("/hauyna.js", get(|| page(include_str!("../../assets/hauyna.js"), SCRIPT)))
        .route("/network.js", get(|| page(include_str!("../../assets/network.js"), SCRIPT)))
        .route("/outgoing.js", get(|| page(include_str!("../../assets/outgoing.js"), SCRIPT)))
        .route("/elements.js", get(|| page(include_str!("../../assets/elements.js"), SCRIPT)))
        .route("/room.js", get(|| page(include_str!("../../assets/room.js"), SCRIPT)))
        .route("/hauyna.svg", get(|| page(include_str!("../../assets/hauyna.svg"), "image/svg+xml")))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(move || async move { hub.readiness().response() }))
}

async fn page(text: &'static str, kind: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"),
    ];
    (headers, text)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
