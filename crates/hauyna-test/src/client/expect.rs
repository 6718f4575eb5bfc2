//! What tests expect most often, in one call each; what comes instead is told in full.

use super::{Client, Frame};
use crate::clock::after;
use serde_json::Value;
use std::time::Duration;

impl Client {
    /// Waits for the next message, which must be a publication in this channel.
    ///
    /// # Panics
    ///
    /// As [`Client::expect`], and where it is of another channel.
    pub async fn expect_message(&mut self, channel: &str) -> Value {
        let message = self.expect("message").await;
        assert_eq!(message["channel"], channel, "expected a message in `{channel}`, got {message}");
        message
    }

    /// Waits for the next `count` messages, which must be publications in this channel with offsets that grow by
    /// one, none left out and none twice; gives their contents.
    ///
    /// # Panics
    ///
    /// As [`Client::expect_message`], and where an offset is missing or out of order.
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
            assert!(offset.is_some(), "`{channel}` numbers nothing: {message}");
            let follows = last.is_none_or(|last| offset == Some(last + 1));
            assert!(follows, "in `{channel}` offset {offset:?} came after {last:?}: {message}");
            last = offset;
            contents.push(message["content"].take());
        }
        contents
    }

    /// Waits for the next message, which must be this change of a user's presence: `join`, `leave` or `update`.
    ///
    /// # Panics
    ///
    /// As [`Client::expect`], and where it is another change, or another user's.
    pub async fn expect_presence(&mut self, event: &str, user: &str) -> Value {
        let change = self.expect("presence_change").await;
        let is_expected = change["event"] == event && change["user"] == user;
        assert!(is_expected, "expected the {event} of `{user}`, got {change}");
        change
    }

    /// Sees that nothing comes for this long. It reads, so pings are answered. With the clock paused, hours of
    /// silence take no time; what is already there is better asked for by [`Client::expect_nothing`].
    ///
    /// # Panics
    ///
    /// Where something comes.
    pub async fn expect_silence(&mut self, duration: Duration) {
        assert!(self.early.is_empty(), "expected silence, got {:?}", self.early);
        if let Some(frame) = self.within(duration).await {
            panic!("expected silence for {duration:?}, got {frame:?}");
        }
    }

    /// The next frame that is not an answered ping, if one comes in time.
    pub(super) async fn within(&mut self, patience: Duration) -> Option<Frame> {
        let deadline = after(patience);
        loop {
            match tokio::time::timeout_at(deadline, self.wire.next()).await.ok()? {
                Frame::Ping(payload) if self.answers_pings() => self.pong(&payload).await,
                frame => return Some(frame),
            }
        }
    }
}
