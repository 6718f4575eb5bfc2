//! What the program answers over plain HTTP: the chat page and the two health checks.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hauyna::Hub;

pub(super) fn router(hub: Hub) -> Router {
    let pages = PAGES.into_iter();
    let pages = pages
        .fold(Router::new(), |pages, (path, text, kind)| pages.route(path, get(move || page(text, kind))));
    pages
        .route(LIVE, get(|| async { "live\n" }))
        .route(READY, get(move || async move { hub.readiness().response() }))
}

/// Whether this path is answered here.
pub(super) fn has(path: &str) -> bool {
    [LIVE, READY].contains(&path) || PAGES.iter().any(|(own, ..)| *own == path)
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
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

const LIVE: &str = "/live";
const READY: &str = "/ready";

/// Path, text and kind of each page.
const PAGES: [(&str, &str, &str); 10] = [
    ("/", include_str!("../../assets/chat.html"), HTML),
    ("/look.css", include_str!("../../assets/look.css"), CSS),
    ("/chat.css", include_str!("../../assets/chat.css"), CSS),
    ("/chat.js", include_str!("../../assets/chat.js"), SCRIPT),
    ("/hauyna.js", include_str!("../../assets/hauyna.js"), SCRIPT),
    ("/network.js", include_str!("../../assets/network.js"), SCRIPT),
    ("/outgoing.js", include_str!("../../assets/outgoing.js"), SCRIPT),
    ("/elements.js", include_str!("../../assets/elements.js"), SCRIPT),
    ("/room.js", include_str!("../../assets/room.js"), SCRIPT),
    ("/hauyna.svg", include_str!("../../assets/hauyna.svg"), "image/svg+xml"),
];
