//! A client's session: its resume token, the server's retry policy and the position in its one channel.
//! Builds and reads the messages about it. The workload `storm` uses it.

use super::connection::{Connection, End};
use anyhow::bail;
use hauyna_websocket::OpCode;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Contents of the last `session` message, and the position of the subscription.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) token: Option<String>,
    pub(super) resumed: bool,
    /// Whether the first subscription was recovered with the session.
    pub(super) recovered: bool,
    pub(super) channel: String,
    /// Position as JSON, with `epoch` and `offset`.
    pub(super) position: Option<Value>,
    retry: Value,
}

/// The retry policy: delays between attempts with full jitter, the first one included.
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
    /// Reads the `session` message, which is the first of a connection.
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

    /// Returns the next delay, or `None` if the policy gives up.
    pub(super) fn next_delay(&mut self) -> Option<Duration> {
        if u64::try_from(self.attempt).is_ok_and(|attempt| attempt >= self.attempts) {
            return None;
        }
        let max_delay = (self.base * self.multiplier.powi(self.attempt)).min(self.max);
        self.attempt += 1;
        // Xorshift is enough: the values need not be unpredictable.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let part = (self.seed >> 11) as f64 / (1_u64 << 53) as f64;
        Some(Duration::from_secs_f64(max_delay.max(0.0) * part / 1000.0))
    }
}

/// Subscribes, from a position if there is one, and returns the data of the answer.
pub(super) async fn subscribe(
    connection: &mut Connection,
    channel: &str,
    from: Option<&Value>,
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

/// Whether the answer to a subscription says that it was recovered.
pub(super) fn is_recovered(answer: &Value) -> bool {
    answer["recovered"] == true
}

/// Asks to resume the session whose token was offered in the handshake.
pub(super) async fn resume(connection: &Connection, channel: &str, position: &Value) -> anyhow::Result<()> {
    let position = json!({ "epoch": position["epoch"], "offset": position["offset"] });
    let mut positions = serde_json::Map::new();
    positions.insert(channel.to_owned(), position);
    send(connection, &json!({ "type": "resume", "positions": positions })).await
}

async fn send(connection: &Connection, message: &Value) -> anyhow::Result<()> {
    connection.writer.queue(OpCode::Text, message.to_string().as_bytes());
    Ok(connection.writer.drain().await?)
}

/// Reads until a message matches, and drops the others.
async fn find(
    connection: &mut Connection,
    scratch: &RefCell<Vec<u8>>,
    is_match: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let mut found = None;
    let finding = async {
        while found.is_none() {
            let read = connection.reader.read(scratch, |message| {
                if found.is_none() {
                    found = serde_json::from_slice(message).ok().filter(|message| is_match(message));
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
