//! What the program serves over plain HTTP: the demo, the chat page and the two health checks.

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

/// Whether one of these routes answers this path.
pub(super) fn has(path: &str) -> bool {
    [LIVE, READY].contains(&path) || PAGES.iter().any(|(page, ..)| *page == path)
}

async fn page(text: &'static str, kind: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, text)
}

/// Content security policy: nothing from other origins, no inline scripts or styles, and forms only through
/// scripts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// The first page: two people side by side.
pub(super) const DEMO: &str = "/";
/// The chat of one person.
pub(super) const CHAT: &str = "/chat.html";
const LIVE: &str = "/live";
const READY: &str = "/ready";

/// Path, text and content type of each page.
const PAGES: [(&str, &str, &str); 18] = [
    (DEMO, include_str!("../../assets/demo.html"), HTML),
    ("/demo.css", include_str!("../../assets/demo.css"), CSS),
    ("/demo.js", include_str!("../../assets/demo.js"), SCRIPT),
    ("/person.js", include_str!("../../assets/person.js"), SCRIPT),
    ("/code.js", include_str!("../../assets/code.js"), SCRIPT),
    (CHAT, include_str!("../../assets/chat.html"), HTML),
    ("/chat.css", include_str!("../../assets/chat.css"), CSS),
    ("/chat.js", include_str!("../../assets/chat.js"), SCRIPT),
    ("/drawer.js", include_str!("../../assets/drawer.js"), SCRIPT),
    ("/outgoing.js", include_str!("../../assets/outgoing.js"), SCRIPT),
    ("/look.css", include_str!("../../assets/look.css"), CSS),
    ("/messages.css", include_str!("../../assets/messages.css"), CSS),
    ("/room.js", include_str!("../../assets/room.js"), SCRIPT),
    ("/network.js", include_str!("../../assets/network.js"), SCRIPT),
    ("/elements.js", include_str!("../../assets/elements.js"), SCRIPT),
    ("/hauyna.js", include_str!("../../assets/hauyna.js"), SCRIPT),
    ("/hauyna-msgpack.js", include_str!("../../assets/hauyna-msgpack.js"), SCRIPT),
    ("/hauyna.svg", include_str!("../../assets/hauyna.svg"), "image/svg+xml"),
];
