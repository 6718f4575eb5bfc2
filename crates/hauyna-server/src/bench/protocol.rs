//! The few messages of hauyna.v1 that the tool sends and reads.

use super::connection::{Connection, End};
use super::mark::Envelope;
use anyhow::bail;
use hauyna_websocket::OpCode;
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::time::Duration;

/// Returns the text before the content of a publication.
pub(super) fn publication(channel: &str) -> String {
    format!(r#"{{"type":"channel_message","channel":"{channel}","content":""#)
}

/// Envelope of a mark that the `pong` returns; the padding stands in a field that servers ignore.
pub(super) const PING: Envelope<'static> =
    Envelope { head: r#"{"type":"ping","id":""#, split: r#"","pad":""#, tail: r#""}"# };

/// Subscribes and waits for the answer.
pub(super) async fn subscribe(
    connection: &mut Connection,
    channel: &str,
    scratch: &RefCell<Vec<u8>>,
) -> anyhow::Result<()> {
    let request = format!(r#"{{"type":"subscribe_channel","id":1,"channel":"{channel}"}}"#);
    connection.writer.queue(OpCode::Text, request.as_bytes());
    connection.writer.drain().await?;
    let mut answer = None;
    let answered = async {
        while answer.is_none() {
            connection
                .reader
                .read(scratch, |message| answer = answer.take().or_else(|| judge(message)))
                .await?;
        }
        Ok::<(), End>(())
    };
    match tokio::time::timeout(ANSWER, answered).await {
        Err(_) => bail!("subscribing to {channel} was not answered within {} s", ANSWER.as_secs()),
        Ok(Err(end)) => bail!("subscribing to {channel}: {end}"),
        Ok(Ok(())) => {}
    }
    match answer {
        Some(Err(complaint)) => bail!("subscribing to {channel}: {complaint}"),
        _ => Ok(()),
    }
}

/// Returns the outcome of the subscription if the message is its answer.
fn judge(message: &[u8]) -> Option<Result<(), String>> {
    let answer: Answer = serde_json::from_slice(message).ok()?;
    match &answer.kind[..] {
        "ack" if answer.id == 1 => Some(Ok(())),
        "error" => Some(Err(answer.complaint())),
        _ => None,
    }
}

/// Returns the text of the message if it is an error.
pub(super) fn complaint(message: &[u8]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(message).ok()?;
    (answer.kind == "error").then(|| answer.complaint())
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// Returns the server's text on one line, without control characters, for a terminal.
    fn complaint(&self) -> String {
        let text = format!("the server answered {}: {}", self.error_type, self.message);
        text.chars().filter(|letter| !letter.is_control()).take(200).collect()
    }
}

const ANSWER: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_other_messages() {
        assert_eq!(judge(br#"{"type":"ack","id":1,"data":{"channel":"a"}}"#), Some(Ok(())));
        assert_eq!(judge(br#"{"type":"ack","id":2}"#), None);
        assert_eq!(judge(br#"{"type":"channel_event","event":"subscription_added"}"#), None);
        assert_eq!(judge(b"not JSON"), None);
        let refused =
            br#"{"type":"error","error_type":"permission_denied","message":"no","timestamp":1,"id":1}"#;
        assert_eq!(judge(refused), Some(Err("the server answered permission_denied: no".to_owned())));
        assert_eq!(complaint(br#"{"type":"pong"}"#), None);
    }
}
