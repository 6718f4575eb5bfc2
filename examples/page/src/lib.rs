//! What the pages of all examples share: headers, style, the frame with the state of the connection, and the
//! address on which an example listens. All examples use it.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};

/// The files of one example.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Content of `/`.
    pub html: &'static str,
    /// Content of `/page.css`, in addition to the shared style.
    pub style: &'static str,
    /// Content of `/page.js`, a module that may import `/hauyna.js` (the built TypeScript client),
    /// `/frame.js`, `/network.js` and `/elements.js`.
    pub script: &'static str,
    /// Content of `/main.rs`, the program of the example, of which the page shows the relevant parts.
    pub program: &'static str,
}

impl Page {
    /// Returns the routes of the page, for an axum application or as the fallback of a
    /// [`hauyna::Router`](https://docs.rs/hauyna).
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new()
            .route("/", get(move || file(self.html, "text/html; charset=utf-8")))
            .route("/page.css", get(move || file(self.style, STYLE)))
            .route("/page.js", get(move || file(self.script, SCRIPT)))
            .route("/main.rs", get(move || file(self.program, "text/plain; charset=utf-8")))
            .route("/frame.css", get(|| file(include_str!("../assets/frame.css"), STYLE)))
            .route("/frame.js", get(|| file(include_str!("../assets/frame.js"), SCRIPT)))
            .route("/look.css", get(|| file(LOOK, STYLE)))
            .route("/code.js", get(|| file(CODE, SCRIPT)))
            .route("/elements.js", get(|| file(ELEMENTS, SCRIPT)))
            .route("/hauyna.js", get(|| file(CLIENT, SCRIPT)))
            .route("/hauyna-msgpack.js", get(|| file(MESSAGE_PACK, SCRIPT)))
            .route("/network.js", get(|| file(NETWORK, SCRIPT)))
            .route("/hauyna.svg", get(|| file(HAUYNA, "image/svg+xml")))
    }
}

/// Listens on this machine, on the port in the first argument or in `PORT`, otherwise on `port`; 0 selects a
/// free one. Prints the address.
///
/// # Errors
///
/// Returns an error if the port is invalid or in use.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let wanted = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok());
    let port = wanted
        .map_or(Ok(port), |text| text.parse())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the port is a number from 0 to 65535"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    // The application also runs if nobody reads this.
    let _ = writeln!(io::stdout(), "open http://{}", listener.local_addr()?);
    Ok(listener)
}

async fn file(text: &'static str, kind: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, text)
}

/// Content security policy: nothing from other origins, and no inline scripts or styles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

// The style and the client are those of the program's chat page.
const LOOK: &str = include_str!("../../../crates/hauyna-server/assets/look.css");
const CODE: &str = include_str!("../../../crates/hauyna-server/assets/code.js");
const ELEMENTS: &str = include_str!("../../../crates/hauyna-server/assets/elements.js");
const CLIENT: &str = include_str!("../../../crates/hauyna-server/assets/hauyna.js");
const MESSAGE_PACK: &str = include_str!("../../../crates/hauyna-server/assets/hauyna-msgpack.js");
const NETWORK: &str = include_str!("../../../crates/hauyna-server/assets/network.js");
const HAUYNA: &str = include_str!("../../../crates/hauyna-server/assets/hauyna.svg");
