//! The most common expectations of tests, in one call each. A failure shows the whole message that arrived
//! instead.

use super::Client;
use super::waits::check;
use crate::located::{Checked, Located};
use serde_json::Value;
use std::time::Duration;

impl Client {
    /// Waits for the next message, which must be a publication in this channel.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::expect`] does, and if the message is of another channel.
    #[track_caller]
    pub fn expect_message(&mut self, channel: &str) -> impl Future<Output = Value> + Send {
        Located::new(self.expected_message(channel))
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
    #[track_caller]
    pub fn expect_in_order(
        &mut self,
        channel: &str,
        count: usize,
    ) -> impl Future<Output = Vec<Value>> + Send {
        Located::new(async move {
            let (mut contents, mut last) = (Vec::with_capacity(count), None);
            for _ in 0..count {
                let mut message = self.expected_message(channel).await?;
                let offset = message["offset"].as_u64();
                check(offset.is_some(), || format!("the message in `{channel}` has no offset: {message}"))?;
                let follows = last.is_none_or(|last| offset == Some(last + 1));
                check(follows, || {
                    format!("in `{channel}` offset {offset:?} arrived after {last:?}: {message}")
                })?;
                last = offset;
                contents.push(message["content"].take());
            }
            Ok(contents)
        })
    }

    /// Waits for the next message, which must be this change of a user's presence: `join`, `leave` or
    /// `update`.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::expect`] does, and if it is another change or another user's.
    #[track_caller]
    pub fn expect_presence(&mut self, event: &str, user: &str) -> impl Future<Output = Value> + Send {
        Located::new(async move {
            let change = self.expected("presence_change").await?;
            let is_expected = change["event"] == event && change["user"] == user;
            check(is_expected, || format!("expected the {event} of `{user}`, got {change}"))?;
            Ok(change)
        })
    }

    /// Checks that nothing arrives for this long. It reads, so pings are answered. With a paused clock, hours
    /// of silence take no time; to check that nothing has arrived yet, use [`Client::expect_nothing`].
    ///
    /// # Panics
    ///
    /// Panics if anything arrives.
    #[track_caller]
    pub fn expect_silence(&mut self, duration: Duration) -> impl Future<Output = ()> + Send {
        Located::new(async move {
            check(self.early.is_empty(), || format!("expected silence, got {:?}", self.early))?;
            match self.within(duration).await? {
                None => Ok(()),
                Some(frame) => Err(format!("expected silence for {duration:?}, got {frame:?}")),
            }
        })
    }

    async fn expected_message(&mut self, channel: &str) -> Checked<Value> {
        let message = self.expected("message").await?;
        check(message["channel"] == channel, || format!("expected a message in `{channel}`, got {message}"))?;
        Ok(message)
    }
}
