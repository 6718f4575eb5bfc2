//! The requests that almost every test makes, each with its answer. They fail loudly; what a test wants to see
//! refused goes through `Client::request`.

use super::Client;
use serde_json::{Value, json};

impl Client {
    /// Subscribes to a channel; gives the data of the answer, which is a place to [`Client::recover`] from.
    ///
    /// # Panics
    ///
    /// Where the server refuses, or does not answer.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        self.expect_ack(json!({ "type": "subscribe_channel", "channel": channel })).await
    }

    /// Subscribes to a channel from a place: whatever has `epoch` and `offset`, such as an earlier answer. Gives
    /// the data of the answer, whose `recovered` says whether what was missed follows.
    ///
    /// # Panics
    ///
    /// As [`Client::subscribe`].
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
    /// let place = reader.subscribe("news").await;
    /// reader.vanish();
    /// hub.channel("news").broadcast("missed").await.unwrap();
    ///
    /// let mut reader = server.connect("/").await;
    /// assert_eq!(reader.recover("news", &place).await["recovered"], true);
    /// assert_eq!(reader.expect("message").await["content"], "missed");
    /// # }
    /// ```
    pub async fn recover(&mut self, channel: &str, place: &Value) -> Value {
        let recover = json!({ "epoch": place["epoch"], "offset": place["offset"] });
        self.expect_ack(json!({ "type": "subscribe_channel", "channel": channel, "recover": recover })).await
    }

    /// Ends a subscription.
    ///
    /// # Panics
    ///
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&mut self, channel: &str) {
        self.expect_ack(json!({ "type": "unsubscribe_channel", "channel": channel })).await;
    }

    /// Publishes in a channel; gives the position, `null` where the channel numbers nothing.
    ///
    /// # Panics
    ///
    /// As [`Client::subscribe`].
    pub async fn publish(&mut self, channel: &str, content: Value) -> Value {
        self.expect_ack(json!({ "type": "channel_message", "channel": channel, "content": content })).await
    }

    async fn expect_ack(&mut self, request: Value) -> Value {
        let what = request.to_string();
        self.request(request).await.unwrap_or_else(|error| panic!("{what} was refused: {error}"))
    }
}
