//! The requests that almost every test makes. They panic if the server refuses; a test that expects a refusal
//! uses `Client::request`.

use super::Client;
use serde_json::{Value, json};

impl Client {
    /// Subscribes to a channel. Returns the data of the answer, which is a position for [`Client::recover`].
    ///
    /// # Panics
    ///
    /// Panics if the server refuses or does not answer in time.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        self.expect_ack(json!({ "type": "subscribe_channel", "channel": channel })).await
    }

    /// Subscribes to a channel from a position: any value with `epoch` and `offset`, such as an earlier
    /// answer. Returns the data of the answer, whose `recovered` says whether the missed publications follow.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::subscribe`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use hauyna::{ChannelOptions, Handler, Hub, json};
    /// use hauyna_test::TestServer;
    ///
    /// let hub = Hub::builder().channels("news", ChannelOptions::new()).build();
    /// let server = TestServer::start(hub.clone(), Handler::new());
    /// let mut reader = server.connect("/").await;
    /// let position = reader.subscribe("news").await;
    /// reader.vanish();
    /// hub.channel("news").broadcast("missed").await.unwrap();
    ///
    /// let mut reader = server.connect("/").await;
    /// assert_eq!(reader.recover("news", &position).await["recovered"], true);
    /// assert_eq!(reader.expect("message").await["content"], "missed");
    /// # }
    /// ```
    pub async fn recover(&mut self, channel: &str, position: &Value) -> Value {
        let recover = json!({ "epoch": position["epoch"], "offset": position["offset"] });
        self.expect_ack(json!({ "type": "subscribe_channel", "channel": channel, "recover": recover })).await
    }

    /// Ends a subscription.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::subscribe`] does.
    pub async fn unsubscribe(&mut self, channel: &str) {
        self.expect_ack(json!({ "type": "unsubscribe_channel", "channel": channel })).await;
    }

    /// Publishes in a channel. Returns the position, or `null` if the channel keeps no history.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::subscribe`] does.
    pub async fn publish(&mut self, channel: &str, content: Value) -> Value {
        self.expect_ack(json!({ "type": "channel_message", "channel": channel, "content": content })).await
    }

    async fn expect_ack(&mut self, request: Value) -> Value {
        let what = request.to_string();
        self.request(request).await.unwrap_or_else(|error| panic!("{what} was refused: {error}"))
    }
}
