//! Logs users in with a short-lived token, with which they connect. They renew it while connected, and are
//! disconnected when it expires. A middleware runs first, and one channel is only for users whose token
//! allows it.
//!
//! `cargo run --package hauyna-example-auth`, then open <http://127.0.0.1:3007> as ann (apple) or bob
//! (banana).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use hauyna::auth::{Jwt, JwtAlgorithm, JwtKey, Verifier};
use hauyna::middleware::{Admitted, Next};
use hauyna::{ChannelOptions, ConnectRequest, Context, Handler, Hub, Reject, json};
use hauyna_example_page::Page;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Users, passwords and roles. A real application has a table of users and password hashes.
const PEOPLE: [(&str, &str, &str); 2] = [("ann", "apple", "staff"), ("bob", "banana", "guest")];

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

/// The claims of the tokens.
#[derive(Serialize, Deserialize)]
struct Said {
    sub: String,
    role: String,
    aud: String,
    exp: u64,
}

/// The keys that sign and verify tokens.
#[derive(Clone)]
struct Tokens {
    signing: EncodingKey,
    verifier: Jwt,
    lifetime: Duration,
}

impl Tokens {
    fn new(secret: [u8; 32], lifetime: Duration) -> hauyna::Result<Self> {
        let key = JwtKey::secret(JwtAlgorithm::Hs256, secret)?;
        let verifier = Jwt::new(key).audience(AUDIENCE).require("role");
        Ok(Self { signing: EncodingKey::from_secret(&secret), verifier, lifetime })
    }

    fn issue(&self, user: &str) -> Result<String, StatusCode> {
        let (_, _, role) = PEOPLE.iter().find(|(name, ..)| *name == user).ok_or(StatusCode::UNAUTHORIZED)?;
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.lifetime;
        let (sub, role, aud) = (user.to_owned(), (*role).to_owned(), AUDIENCE.to_owned());
        let said = Said { sub, role, aud, exp: end.as_secs() };
        encode(&Header::default(), &said, &self.signing).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }
}

async fn login(State(tokens): State<Tokens>, Json(login): Json<Login>) -> Result<String, StatusCode> {
    let known = PEOPLE.iter().any(|(name, password, _)| *name == login.name && *password == login.password);
    if known { tokens.issue(&login.name) } else { Err(StatusCode::UNAUTHORIZED) }
}

/// Returns a new token for one that has not expired.
async fn renew(State(tokens): State<Tokens>, headers: HeaderMap) -> Result<String, StatusCode> {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = sent.and_then(|value| value.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let identity = tokens.verifier.verify(token).await.map_err(|_| StatusCode::UNAUTHORIZED)?;
    tokens.issue(identity.user().ok_or(StatusCode::UNAUTHORIZED)?)
}

/// What the middleware found, for callbacks to read.
#[derive(Clone)]
struct Browser(String);

async fn note_browser(mut request: ConnectRequest, next: Next) -> Result<Admitted, Reject> {
    let agent = request.header("user-agent").unwrap_or("something nameless");
    let browser = Browser(agent.chars().take(200).collect());
    request.extensions_mut().insert(browser);
    next.run(request).await
}

async fn who_am_i(cx: Context, _: IgnoredAny) -> hauyna::Result<hauyna::Value> {
    let said: Said = cx.claims()?;
    let browser = cx.extension::<Browser>().map(|browser| browser.0);
    Ok(json!({ "user": cx.user(), "role": said.role, "browser": browser }))
}

/// Returns one application with page, login and WebSocket.
fn application(tokens: Tokens) -> Router {
    let staff = ChannelOptions::new()
        .private()
        .authorize_subscribe(|cx, _| cx.claims::<Said>().is_ok_and(|said| said.role == "staff"));
    let hub = Hub::builder().channels("staff", staff).build();
    let handler = Handler::new()
        .middleware(note_browser)
        .authenticate(tokens.verifier.clone())
        .on("who_am_i", who_am_i);
    Router::new()
        .route("/login", post(login))
        .route("/renew", post(renew))
        .with_state(tokens)
        .merge(PAGE.router())
        .merge(hauyna::Router::new(hub).websocket("/live", handler).into_axum())
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let mut secret = [0; 32]; // new in each run, so tokens end with the program
    getrandom::fill(&mut secret).map_err(|error| hauyna::Error::other(error.to_string()))?;
    let listener = tokio::net::TcpListener::from_std(hauyna_example_page::listen(3007)?)?;
    axum::serve(listener, application(Tokens::new(secret, Duration::from_secs(15))?)).await?;
    Ok(())
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
const AUDIENCE: &str = "hauyna-example";

#[cfg(test)]
mod tests;
