//! The requests that almost every test makes. They panic if the server refuses; a test that expects a refusal
//! uses `Client::request`.

use super::Client;
use crate::located::{Checked, Located};
use serde_json::{Value, json};

impl Client {
    /// Subscribes to a channel. Returns the data of the answer, which is a position for [`Client::recover`].
    ///
    /// # Panics
    ///
    /// Panics if the server refuses or does not answer in time.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) -> impl Future<Output = Value> + Send {
        Located::new(self.acknowledged(json!({ "type": "subscribe_channel", "channel": channel })))
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
    #[track_caller]
    pub fn recover(&mut self, channel: &str, position: &Value) -> impl Future<Output = Value> + Send {
        let recover = json!({ "epoch": position["epoch"], "offset": position["offset"] });
        let request = json!({ "type": "subscribe_channel", "channel": channel, "recover": recover });
        Located::new(self.acknowledged(request))
    }

    /// Ends a subscription.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::subscribe`] does.
    #[track_caller]
    pub fn unsubscribe(&mut self, channel: &str) -> impl Future<Output = ()> + Send {
        let request = json!({ "type": "unsubscribe_channel", "channel": channel });
        Located::new(async move { self.acknowledged(request).await.map(drop) })
    }

    /// Publishes in a channel. Returns the position, or `null` if the channel keeps no history.
    ///
    /// # Panics
    ///
    /// Panics as [`Client::subscribe`] does.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, content: Value) -> impl Future<Output = Value> + Send {
        Located::new(async move {
            let request = json!({ "type": "channel_message", "channel": channel, "content": content });
            self.acknowledged(request).await
        })
    }

    async fn acknowledged(&mut self, request: Value) -> Checked<Value> {
        let what = request.to_string();
        self.exchange(request).await?.map_err(|error| format!("{what} was refused: {error}"))
    }
}
