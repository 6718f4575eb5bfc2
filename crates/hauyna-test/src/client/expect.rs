//! The most common expectations of tests, in one call each. A failure shows the whole message that arrived
//! instead.

use super::{Client, Frame};
use crate::clock::after;
use serde_json::Value;
use std::time::Duration;

impl Client {
    /// Waits for the next message, which must be a publication in this channel.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::expect`] does, and if the message is of another channel.
    pub async fn expect_message(&mut self, channel: &str) -> Value {
        let message = self.expect("message").await;
        assert_eq!(message["channel"], channel, "expected a message in `{channel}`, got {message}");
        message
    }

    /// Waits for the next `count` messages, which must be publications in this channel with consecutive
    /// offsets. Returns their contents.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::expect_message`] does, and if an offset is missing or out of order.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use hauyna::{ChannelOptions, Handler, Hub};
    /// use hauyna_test::MemoryServer;
    ///
    /// let hub = Hub::builder().channels("news", ChannelOptions::new()).build();
    /// let server = MemoryServer::start(hub.clone(), Handler::new());
    /// let mut reader = server.connect("/").await;
    /// reader.subscribe("news").await;
    /// for number in 1..=3 {
    ///     hub.channel("news").broadcast(number).await.unwrap();
    /// }
    /// assert_eq!(reader.expect_in_order("news", 3).await, [1, 2, 3]);
    /// # }
    /// ```
    pub async fn expect_in_order(&mut self, channel: &str, count: usize) -> Vec<Value> {
        let (mut contents, mut last) = (Vec::with_capacity(count), None);
        for _ in 0..count {
            let mut message = self.expect_message(channel).await;
            let offset = message["offset"].as_u64();
            assert!(offset.is_some(), "the message in `{channel}` has no offset: {message}");
            let follows = last.is_none_or(|last| offset == Some(last + 1));
            assert!(follows, "in `{channel}` offset {offset:?} arrived after {last:?}: {message}");
            last = offset;
            contents.push(message["content"].take());
        }
        contents
    }

    /// Waits for the next message, which must be this change of a user's presence: `join`, `leave` or
    /// `update`.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::expect`] does, and if it is another change or another user's.
    pub async fn expect_presence(&mut self, event: &str, user: &str) -> Value {
        let change = self.expect("presence_change").await;
        let is_expected = change["event"] == event && change["user"] == user;
        assert!(is_expected, "expected the {event} of `{user}`, got {change}");
        change
    }

    /// Checks that nothing arrives for this long. It reads, so pings are answered. With a paused clock, hours
    /// of silence take no time; to check that nothing has arrived yet, use [`Client::expect_nothing`].
    ///
    /// # Panics
    ///
    /// Panics if anything arrives.
    pub async fn expect_silence(&mut self, duration: Duration) {
        assert!(self.early.is_empty(), "expected silence, got {:?}", self.early);
        if let Some(frame) = self.within(duration).await {
            panic!("expected silence for {duration:?}, got {frame:?}");
        }
    }

    /// Returns the next frame that is not an answered ping, if one arrives in time.
    pub(super) async fn within(&mut self, timeout: Duration) -> Option<Frame> {
        let deadline = after(timeout);
        loop {
            match tokio::time::timeout_at(deadline, self.wire.next()).await.ok()? {
                Frame::Ping(payload) if self.answers_pings() => self.pong(&payload).await,
                frame => return Some(frame),
            }
        }
    }
}
