//! What the client does when it sends and waits. The public methods wrap these, so that a failure points to
//! the test.

use super::{Client, Frame, frame};
use crate::clock::after;
use crate::located::Checked;
use hauyna_protocol::Encoding;
use hauyna_websocket::{CloseCode, FrameHead, OpCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Returns the failure unless the condition holds.
pub(super) fn check(holds: bool, failure: impl FnOnce() -> String) -> Checked<()> {
    if holds { Ok(()) } else { Err(failure()) }
}

impl Client {
    // Sending.

    pub(super) async fn put(&mut self, bytes: &[u8]) -> Checked<()> {
        let sent = async {
            let _ = self.wire.stream.write_all(bytes).await;
            let _ = self.wire.stream.flush().await;
        };
        let in_time = tokio::time::timeout_at(after(self.timeout), sent).await.is_ok();
        check(in_time, || format!("the server did not take {} bytes in {:?}", bytes.len(), self.timeout))
    }

    pub(super) async fn put_frame(&mut self, head: FrameHead, payload: &[u8]) -> Checked<()> {
        self.put(&frame::masked(head, payload)).await
    }

    pub(super) async fn put_close(&mut self, code: u16, reason: &str) -> Checked<()> {
        let mut payload = CloseCode::new(code).as_u16().to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.put_frame(FrameHead::of(OpCode::Close), &payload).await
    }

    async fn pong(&mut self, payload: &[u8]) -> Checked<()> {
        self.put_frame(FrameHead::of(OpCode::Pong), payload).await
    }

    pub(super) async fn exchange(&mut self, mut request: Value) -> Checked<Result<Value, Value>> {
        self.next_id += 1;
        let id = json!(self.next_id);
        request["id"] = id.clone();
        let (opcode, payload) = frame::encoded(self.encoding, &request);
        self.put_frame(FrameHead::of(opcode), &payload).await?;
        self.answer_to(&id).await
    }

    // Receiving.

    pub(super) async fn answer_to(&mut self, id: &Value) -> Checked<Result<Value, Value>> {
        let is_answer = |message: &Value| {
            message["id"] == *id
                && ["ack", "pong", "error"].contains(&message["type"].as_str().unwrap_or_default())
        };
        let known = self.early.iter().position(&is_answer).and_then(|index| self.early.remove(index));
        let mut message = match known {
            Some(message) => message,
            None => loop {
                let message = self.receive(&format!("the answer to {id}")).await?;
                if is_answer(&message) {
                    break message;
                }
                self.early.push_back(message);
            },
        };
        Ok(match message["type"].as_str() {
            Some("error") => Err(message),
            Some("pong") => Ok(message),
            _ => Ok(message["data"].take()),
        })
    }

    /// Returns the next message, also one that arrived while the client waited for another one.
    pub(super) async fn message(&mut self, awaited: &str) -> Checked<Value> {
        match self.early.pop_front() {
            Some(message) => Ok(message),
            None => self.receive(awaited).await,
        }
    }

    pub(super) async fn expected(&mut self, kind: &str) -> Checked<Value> {
        let message = self.message(kind).await?;
        check(message["type"] == kind, || format!("expected `{kind}`, got {message}"))?;
        Ok(message)
    }

    async fn receive(&mut self, awaited: &str) -> Checked<Value> {
        match self.frame(awaited).await? {
            Frame::Text(text) if self.encoding == Encoding::Json => serde_json::from_str(&text)
                .map_err(|error| format!("the server sent invalid JSON ({error}): {text}")),
            Frame::Binary(bytes) if self.encoding == Encoding::MessagePack => frame::unpacked(&bytes),
            other => Err(format!("while waiting for {awaited}: got {other:?}")),
        }
    }

    pub(super) async fn closed(&mut self) -> Checked<(u16, String)> {
        loop {
            match self.frame("the close frame").await? {
                Frame::Close(None) => return Ok((1005, String::new())),
                Frame::Close(Some(close)) => return Ok(close),
                Frame::End => return Ok((1006, String::new())),
                _ => {}
            }
        }
    }

    pub(super) async fn ended(&mut self) -> Checked<()> {
        while self.frame("the end of the stream").await? != Frame::End {}
        Ok(())
    }

    /// Waits for the next frame that is not a ping, and answers pings.
    pub(super) async fn frame(&mut self, awaited: &str) -> Checked<Frame> {
        let frame = self.within(self.timeout).await?;
        frame.ok_or_else(|| format!("{awaited} did not arrive within {:?}", self.timeout))
    }

    /// Returns the next frame that is not an answered ping, if one arrives in time.
    pub(super) async fn within(&mut self, timeout: Duration) -> Checked<Option<Frame>> {
        let deadline = after(timeout);
        loop {
            match tokio::time::timeout_at(deadline, self.wire.next()).await {
                Err(_) => return Ok(None),
                Ok(frame) => match frame? {
                    Frame::Ping(payload) if self.answers_pings() => self.pong(&payload).await?,
                    frame => return Ok(Some(frame)),
                },
            }
        }
    }
}
