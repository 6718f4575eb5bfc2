//! A session as the tool knows it: the token to resume it with, the policy to come back by, the position in its one
//! channel. The messages that have to do with it are made and read here.

use super::connection::{Connection, End};
use anyhow::bail;
use hauyna_websocket::OpCode;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// What the last `session` message said, and where the subscription stands.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) token: Option<String>,
    pub(super) resumed: bool,
    /// Whether its first subscription was recovered with it.
    pub(super) recovered: bool,
    pub(super) channel: String,
    /// `epoch` and `offset`.
    pub(super) position: Option<Value>,
    retry: Value,
}

/// The delays between attempts: full jitter, the first included.
#[derive(Debug)]
pub(super) struct Policy {
    attempt: i32,
    attempts: u64,
    base: f64,
    max: f64,
    multiplier: f64,
    seed: u64,
}

impl Session {
    /// Reads up to the `session`, which comes first of all.
    pub(super) async fn read(
        connection: &mut Connection,
        scratch: &RefCell<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let session = find(connection, scratch, |message| message["type"] == "session").await?;
        let first = &session["subscriptions"][0];
        Ok(Self {
            token: session["resume"]["token"].as_str().map(str::to_owned),
            resumed: session["resumed"] == true,
            recovered: first["recovered"] == true,
            channel: String::new(),
            position: None,
            retry: session["retry"].clone(),
        })
    }
}

impl Policy {
    pub(super) fn of(session: &Session, number: u32) -> Self {
        let retry = &session.retry;
        let figure = |name: &str, default: f64| retry[name].as_f64().unwrap_or(default);
        Self {
            attempt: 0,
            attempts: retry["max_attempts"].as_u64().unwrap_or(u64::MAX),
            base: figure("base_delay", 1000.0),
            max: figure("max_delay", 30_000.0),
            multiplier: figure("backoff_multiplier", 2.0),
            seed: RandomState::new().hash_one(number) | 1,
        }
    }

    /// `None` where the policy gives up.
    pub(super) fn next_delay(&mut self) -> Option<Duration> {
        if u64::try_from(self.attempt).is_ok_and(|attempt| attempt >= self.attempts) {
            return None;
        }
        let longest = (self.base * self.multiplier.powi(self.attempt)).min(self.max);
        self.attempt += 1;
        // Xorshift: nobody gains by guessing it.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let part = (self.seed >> 11) as f64 / (1_u64 << 53) as f64;
        Some(Duration::from_secs_f64(longest.max(0.0) * part / 1000.0))
    }
}

/// Subscribes, from a position where one is known; gives the answer.
pub(super) async fn subscribe(
    connection: &mut Connection,
    (channel, from): (&str, Option<&Value>),
    scratch: &RefCell<Vec<u8>>,
) -> anyhow::Result<Value> {
    let mut request = json!({ "type": "subscribe_channel", "id": 1, "channel": channel });
    if let Some(from) = from {
        request["recover"] = json!({ "epoch": from["epoch"], "offset": from["offset"] });
    }
    send(connection, &request).await?;
    let answer = find(connection, scratch, |message| message["id"] == 1).await?;
    if answer["type"] != "ack" {
        bail!("subscribing to {channel} was refused: {}", answer["error_type"]);
    }
    Ok(answer["data"].clone())
}

/// Whether the answer to a subscription says that nothing is missing.
pub(super) fn recovered(answer: &Value) -> bool {
    answer["recovered"] == true
}

/// Asks for the session of the token that was offered in the handshake.
pub(super) async fn resume(
    connection: &Connection,
    (channel, position): (&str, &Value),
) -> anyhow::Result<()> {
    let position = json!({ "epoch": position["epoch"], "offset": position["offset"] });
    let mut positions = serde_json::Map::new();
    positions.insert(channel.to_owned(), position);
    send(connection, &json!({ "type": "resume", "positions": positions })).await
}

async fn send(connection: &Connection, message: &Value) -> anyhow::Result<()> {
    connection.writer.queue(OpCode::Text, message.to_string().as_bytes());
    Ok(connection.writer.drain().await?)
}

/// Reads up to a message; the others are not the tool's business.
async fn find(
    connection: &mut Connection,
    scratch: &RefCell<Vec<u8>>,
    is_it: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let mut found = None;
    let finding = async {
        while found.is_none() {
            let read = connection.reader.read(scratch, |message| {
                if found.is_none() {
                    found = serde_json::from_slice(message).ok().filter(|message| is_it(message));
                }
            });
            read.await?;
        }
        Ok::<(), End>(())
    };
    match tokio::time::timeout(ANSWER, finding).await {
        Err(_) => bail!("no answer within {} s", ANSWER.as_secs()),
        Ok(Err(end)) => bail!("{end}"),
        Ok(Ok(())) => Ok(found.unwrap_or_default()),
    }
}

const ANSWER: Duration = Duration::from_secs(20);
