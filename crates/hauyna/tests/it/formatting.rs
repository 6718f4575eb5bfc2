//! Formatting handles and values with `{:?}` prints names and counts, never stored data. Logging a handle
//! must not walk a hub under its locks, nor write contents, tokens or other users' names to the log.

use crate::support::{session_client, user_handler};
use hauyna::auth::{ApiKeys, Revocation};
use hauyna::broker::{Broker, LocalBroker, LocalBrokerOptions, Publish, Relay, Retention};
use hauyna::channel::Draft;
use hauyna::events::SystemKind;
use hauyna::presence::Criteria;
use hauyna::{ChannelName, ChannelOptions, HistoryRange, Hub, Presence, Router, SessionOptions, json};
use hauyna_test::TestServer;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Text that must never be printed: the content of every message and a part of every other user's name.
const SECRET: &str = "xyzzy";
/// Maximum number of characters for one handle, whatever its hub holds.
const MAX_LENGTH: usize = 600;

#[derive(Default)]
struct Formats(Mutex<Vec<(&'static str, String)>>);

impl Formats {
    fn add(&self, name: &'static str, value: &impl Debug) {
        self.0.lock().unwrap().push((name, format!("{value:?}")));
        self.0.lock().unwrap().push((name, format!("{value:#?}")));
    }

    fn check(&self, names: usize) {
        let formats = self.0.lock().unwrap();
        assert_eq!(formats.len(), 2 * names);
        for (name, text) in &*formats {
            assert!(!text.contains(SECRET), "{name} prints contents: {text}");
            assert!(text.len() <= 2 * MAX_LENGTH, "{name} prints {} characters: {text}", text.len());
        }
    }
}

#[tokio::test]
async fn debug_of_handles_prints_only_names_and_counts() {
    let formats = Arc::new(Formats::default());
    let channels = ChannelOptions::new().history(1000, Duration::from_secs(600)).presence(Presence::each());
    let hub = Hub::builder().channels("{*any}", channels).sessions(SessionOptions::new()).build();
    hub.events().on_system([SystemKind::Subscribed], |_, _| async { Ok(()) });
    let seen = formats.clone();
    let handler = user_handler().on("look", move |cx: hauyna::Context, data: hauyna::Value| {
        let seen = seen.clone();
        async move {
            assert!(data.to_string().contains(SECRET));
            seen.add("Context", &cx);
            seen.add("Connection", &cx.connection());
            let request = cx.connection().request::<bool>("confirm", &json!({ "text": SECRET }));
            seen.add("ClientRequest", &request);
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), handler);
    let mut clients = Vec::new();
    for number in 0..30 {
        let mut client = session_client(&server, &format!("/?user={SECRET}-{number}")).await;
        client.subscribe("room").await;
        clients.push(client);
    }
    for number in 0..100 {
        hub.channel("room").broadcast(json!({ "text": SECRET, "number": number })).await.unwrap();
    }
    hub.groups().add(&format!("{SECRET}-1"), "team").await.unwrap();
    let mut client = session_client(&server, "/?user=ann").await;
    client.request(json!({ "type": "look", "text": SECRET })).await.unwrap();

    formats.add("Hub", &hub);
    formats.add("User", &hub.user("ann"));
    formats.add("Channel", &hub.channel("room"));
    formats.add("PublishBuilder", &hub.channel("room").publish(json!({ "text": SECRET })).key(SECRET));
    formats.add("Connections", &hub.connections());
    formats.add("Presence", &hub.presence());
    formats.add("Groups", &hub.groups());
    formats.add("Events", &hub.events());
    formats.add("Inspect", &hub.inspect());
    formats.add("Stats", &hub.stats().states);
    formats.add("Memory", &hub.stats().memory);
    formats.add("Readiness", &hub.readiness());
    let page = hub.channel("room").history(HistoryRange::all()).await.unwrap();
    formats.add("HistoryPage", &page);
    formats.add("Publication", &page.publications[0]);
    formats.add("Content", page.publications[0].content());
    formats.add("Router", &Router::new(hub.clone()).websocket("/", user_handler()));
    formats.add("Server", &Router::new(hub.clone()).websocket("/", user_handler()).into_server());
    formats.add("Handler", &user_handler());
    formats.add("SharedHandler", &user_handler().share());
    formats.add("HubBuilder", &Hub::builder());
    formats.add("Criteria", &Criteria::new());
    formats.add("ApiKeys", &ApiKeys::new().key(&SECRET.repeat(4), "ann"));
    formats.add("Revocation", &Revocation::user("ann"));
    formats.check(26);
}

#[tokio::test]
async fn debug_of_a_broker_prints_only_limits_and_counts() {
    let formats = Formats::default();
    let broker = LocalBroker::new(LocalBrokerOptions::new());
    let relay = Relay::to(|_| ());
    formats.add("Relay", &relay);
    broker.start(relay);
    let retention = Some(Retention { messages: 100, age: Duration::from_secs(60) });
    for _ in 0..100 {
        let draft = Draft::new(ChannelName::new("room").unwrap(), &SECRET).unwrap();
        let publish = Publish { draft, retention, key: Some(SECRET.into()) };
        broker.publish(publish).await.unwrap();
    }
    let draft = Draft::new(ChannelName::new("room").unwrap(), &SECRET).unwrap();
    formats.add("Draft", &draft);
    formats.add("LocalBroker", &broker);
    formats.check(3);
}
