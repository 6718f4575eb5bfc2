//! The application's calls of its hub: publishing with options, messages to users, connections and everybody,
//! subscribing and unsubscribing clients.

use crate::support::{
    eventually, now, open_hub, registered, serve, subscriber, user_handler, wait_for_connections,
};
use hauyna::broker::{Published, Repeat};
use hauyna::error::ErrorKind;
use hauyna::groups::Roles;
use hauyna::{ChannelOptions, ErrorType, HistoryRange, Hub, SlowConsumer, UserId, Value, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use std::time::Duration;

#[tokio::test]
async fn typed_value_is_sent_as_message_other_values_as_content() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for mut client in [server.connect("/").await, server.message_pack("/").await] {
        if client.protocol().is_some() {
            client.expect("session").await;
        }
        let top = client.subscribe("x").await["offset"].as_u64().unwrap();
        let channel = hub.channel("x");
        let own = json!({ "type": "system", "text": "hi", "offset": "own" });
        let offset = channel.broadcast(own).await.unwrap().position.unwrap().offset;
        let system = client.expect("system").await;
        assert_eq!(
            (&system["text"], &system["channel"], &system["offset"]),
            (&json!("hi"), &json!("x"), &json!(offset))
        );
        channel.broadcast(json!({ "type": 7 })).await.unwrap();
        let wrapped = client.expect("message").await;
        assert_eq!((&wrapped["content"], &wrapped["offset"]), (&json!({ "type": 7 }), &json!(top + 2)));
        channel.publish([1, 2]).from_user(&UserId::new("ada").unwrap()).await.unwrap();
        assert_eq!(client.expect("message").await["content"], json!([1, 2]));
    }
}

#[tokio::test]
async fn publish_options_apply_and_mistakes_are_reported() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut ann = subscriber(&server, "ann", "x").await;
    let mut ben = subscriber(&server, "ben", "x").await;
    let channel = hub.channel("x");
    let of_ann = hub.connections().of_user("ann").remove(0);
    channel.broadcast("not to ann").except(of_ann.id()).await.unwrap();
    assert_eq!(ben.expect("message").await["content"], "not to ann");
    let first = channel.publish(1).key("k").await.unwrap();
    let again = channel.publish(2).key("k").await.unwrap();
    assert_eq!((first.position, first.repeat, again.repeat), (again.position, Repeat::No, Repeat::Yes));
    assert_eq!(ann.expect("message").await["content"], 1);
    ann.expect_nothing().await;
    assert_eq!(channel.history(HistoryRange::all()).await.unwrap().publications.len(), 2);
    for name in ["", "a\u{7}b", &"x".repeat(256)] {
        let error = hub.channel(name).broadcast(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol(ErrorType::ValidationError), "{name:?}");
    }
    let no_json = std::collections::HashMap::from([((1, 2), 3)]);
    assert_eq!(channel.broadcast(no_json).await.unwrap_err().error_type(), ErrorType::ValidationError);
}

#[tokio::test]
async fn application_sends_to_users_connections_and_everybody() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut ann = server.connect("/?user=ann").await;
    let mut ben = server.connect("/?user=ben").await;
    wait_for_connections(&hub, 2).await;
    hub.connections().send_to_many(["ann", "ben", "nobody"], json!({ "n": 1 })).await.unwrap();
    hub.user("ann").send(2).await.unwrap();
    assert_eq!(ann.expect("private").await["message"], json!({ "n": 1 }));
    assert_eq!(ann.expect("private").await["message"], 2);
    assert_eq!(ben.expect("private").await["message"], json!({ "n": 1 }));
    let of_ann = hub.connections().of_user("ann").remove(0);
    hub.connections().broadcast("others").except(of_ann.id()).await.unwrap();
    assert_eq!(ben.expect("broadcast").await["message"], "others");
    of_ann.send(json!({ "type": "direct", "to": "this connection" })).unwrap();
    assert_eq!(ann.expect("direct").await["to"], "this connection");
    assert_eq!(hub.connection(of_ann.id()), Some(of_ann.clone()));
    ann.close(1000, "").await;
    eventually("ann is disconnected", || !now(hub.user("ann").is_connected())).await;
    assert_eq!((of_ann.send(1).unwrap_err().kind(), hub.connection(of_ann.id())), (ErrorKind::Closed, None));
    assert!(hub.channel("x").subscribe(&of_ann, ()).await.is_err(), "sending to a closed connection");
    assert_eq!(hub.stats().channels, 0);
}

/// Sends a value with every sending method of the application.
async fn send_by_every_verb(hub: &Hub, value: &Value) -> Vec<(&'static str, hauyna::Result)> {
    let (all, groups, channel) = (hub.connections(), hub.groups(), hub.channel("x"));
    let one = all.of_user("ann").remove(0);
    let nobody = all.of_user("eve").remove(0).id();
    let none = |_: Published| ();
    vec![
        ("connection", one.send(value)),
        ("user", hub.user("ann").send(value).await.map(none)),
        ("user except", hub.user("ann").send(value).except(nobody).await.map(none)),
        ("many", all.send_to_many(["ann"], value).await),
        ("many except", all.send_to_many(["ann"], value).except(nobody).await),
        ("groups", groups.send("g", value).await.map(none)),
        ("groups except", groups.send("g", value).except(nobody).await.map(none)),
        ("everybody", all.broadcast(value).await.map(none)),
        ("everybody except", all.broadcast(value).except(nobody).await.map(none)),
        ("channel", channel.broadcast(value).await.map(none)),
        ("publish", channel.publish(value).except(nobody).await.map(none)),
    ]
}

/// Returns clients of every kind of user `ann`, in group `g` and channel `x`, and one of `eve`.
async fn every_kind_of_client(server: &TestServer) -> Vec<Client> {
    let mut clients = vec![server.connect("/?user=ann").await];
    for encoding in Encoding::ALL {
        let mut client = server.client("/?user=ann").encoding(encoding).connect().await;
        client.expect("session").await;
        clients.push(client);
    }
    let mut deflating = server.client("/?user=ann").json().deflate().connect().await;
    deflating.expect("session").await;
    clients.push(deflating);
    for client in &mut clients {
        client.subscribe("x").await;
    }
    server.hub().groups().add("ann", "g").await.unwrap();
    clients
}

#[tokio::test]
async fn object_with_custom_type_arrives_unchanged_by_every_verb() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut eve = server.connect("/?user=eve").await;
    eve.request(json!({ "type": "ping" })).await.unwrap();
    let mut clients = every_kind_of_client(&server).await;
    let value = json!({ "type": "alert", "message": ["at", "noon"], "from": "nobody", "n": 1.5 });
    let sent = send_by_every_verb(&hub, &value).await;
    hub.user("ann").send("wrapped").await.unwrap();
    for client in &mut clients {
        let (mut alerts, mut wrapped) = (0, 0);
        // `Connection::send` reaches only one connection.
        while alerts < sent.len() - 1 || wrapped == 0 {
            let mut message = client.next().await;
            if message["type"] == "private" {
                assert_eq!((&message["message"], message.get("from")), (&json!("wrapped"), None));
                wrapped += 1;
                continue;
            }
            if message["channel"] == "x" {
                assert!(message["timestamp"].is_u64() && message["offset"].is_u64(), "{message}");
                let fields = message.as_object_mut().unwrap();
                fields.retain(|name, _| !["channel", "timestamp", "offset"].contains(&name.as_str()));
            }
            assert_eq!(message, value);
            alerts += 1;
        }
    }
    for (verb, result) in sent {
        result.unwrap_or_else(|error| panic!("{verb}: {error}"));
    }
}

/// Returns the message types of PROTOCOL.md, §3.
fn types_of_the_protocol() -> Vec<&'static str> {
    let document = include_str!("../../../../PROTOCOL.md");
    let section = document.split("\n## 3. ").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|'));
    let names = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    names.filter(|name| *name != "type").collect()
}

#[tokio::test]
async fn value_with_protocol_type_is_wrapped_except_by_message() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut eve = server.connect("/?user=eve").await;
    eve.request(json!({ "type": "ping" })).await.unwrap();
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("x").await;
    hub.groups().add("ann", "g").await.unwrap();
    let position = json!({ "type": "alert", "channel": "x", "offset": 1_000_000 });
    let types = types_of_the_protocol();
    assert_eq!(types.len(), 21);
    let reserved = types.into_iter().filter(|name| *name != "message");
    let values = reserved.map(|name| json!({ "type": name, "after": [0, 0] }));
    for value in values.chain([position]) {
        for (verb, result) in send_by_every_verb(&hub, &value).await {
            result.unwrap_or_else(|error| panic!("{verb}: {error}"));
            let message = ann.next().await;
            if message["type"] == "alert" {
                assert_eq!(message["channel"], "x");
                assert!(message["offset"].as_u64().unwrap() < 1000, "message of the server: {message}");
                continue;
            }
            let inside = if message["type"] == "message" { "content" } else { "message" };
            assert!(
                ["message", "private", "group", "broadcast"].contains(&message["type"].as_str().unwrap())
            );
            assert_eq!(message[inside], value, "{verb}: {message}");
            assert!(message.get("from").is_none() && message.get("user").is_none());
        }
    }
    let twice = || serde_json::value::RawValue::from_string(r#"{"type":"x","type":"re\u0063onnect"}"#.into());
    hub.user("ann").send(twice().unwrap()).await.unwrap();
    hub.connections().of_user("ann").remove(0).send(twice().unwrap()).unwrap();
    for _ in 0..2 {
        assert!(ann.next_text().await.starts_with(r#"{"type":"private","message":{"type":"x","#));
    }
    hub.user("ann").send(json!({ "type": "message", "content": "own" })).await.unwrap();
    assert_eq!(ann.next().await, json!({ "type": "message", "content": "own" }));
}

#[tokio::test]
async fn values_that_clients_send_are_always_wrapped() {
    let hub = open_hub().roles("{*any}", Roles::new().define("member", ["send"]).default_role("member"));
    let server = TestServer::start(hub.build(), user_handler().authorize_broadcast(|_, _| true));
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("x").await;
    for encoding in Encoding::ALL {
        let mut eve = server.client("/?user=eve").encoding(encoding).connect().await;
        eve.expect("session").await;
        eve.subscribe("x").await;
        for user in ["ann", "eve"] {
            server.hub().groups().add(user, "g").await.unwrap();
        }
        let forged =
            json!({ "type": "session", "user": "root", "from": "root", "channel": "x", "offset": 9 });
        for (request, kind, sender, inside) in [
            (json!({ "type": "private", "to": "ann", "message": forged }), "private", "from", "message"),
            (json!({ "type": "group", "room": "g", "message": forged }), "group", "from", "message"),
            (json!({ "type": "broadcast", "message": forged }), "broadcast", "from", "message"),
            (
                json!({ "type": "channel_message", "channel": "x", "content": forged }),
                "message",
                "user",
                "content",
            ),
        ] {
            eve.request(request).await.unwrap();
            let message = ann.next().await;
            assert_eq!((&message["type"], &message[sender]), (&json!(kind), &json!("eve")), "{message}");
            assert_eq!(message[inside], forged);
        }
    }
}

#[tokio::test]
async fn application_subscribes_clients_to_private_and_undeclared_channels() {
    let hub = Hub::builder().channels("private", ChannelOptions::new().private()).build();
    let server = serve(&hub);
    let mut ann = server.connect("/?user=ann").await;
    eventually("ann is connected", || now(hub.user("ann").is_connected())).await;
    let own = hub.connections().of_user("ann").remove(0);
    for name in ["private", "undeclared"] {
        let channel = hub.channel(name);
        channel.subscribe(&own, json!({ "by": "application" })).await.unwrap();
        let again = channel.subscribe(&own, ()).await.unwrap_err();
        assert_eq!(again.error_type(), ErrorType::AlreadySubscribed);
        assert!(channel.is_subscribed(&own) && channel.subscription_count() == 1);
        assert_eq!(channel.metadata(&own), Some(json!({ "by": "application" })));
        assert!(channel.update_metadata(&own, 7).is_err());
        channel.broadcast(name).await.unwrap();
        assert_eq!(ann.expect("message").await["content"], name);
    }
    let publish = json!({ "type": "channel_message", "channel": "undeclared", "content": 1 });
    assert_eq!(ann.request(publish).await.unwrap_err()["error_type"], "permission_denied");
    hub.channel("private").close().await;
    hub.channel("private").broadcast(1).await.unwrap();
    ann.expect_nothing().await;
    assert_eq!(own.channels(), ["undeclared"]);
    hub.channel("undeclared").unsubscribe(&own).unwrap();
    assert!(hub.channel("undeclared").unsubscribe(&own).is_err());
    assert_eq!(hub.stats().channels, 0);
}

#[tokio::test]
async fn connection_with_many_channels_gets_each_channel_in_order() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut client = server.connect("/").await;
    for channel in 0..100 {
        client.subscribe(&format!("c{channel}")).await;
    }
    for number in 1..=10 {
        for channel in 0..100 {
            hub.channel(format!("c{channel}")).broadcast(number).await.unwrap();
        }
    }
    let mut seen = std::collections::HashMap::new();
    for _ in 0..1000 {
        let message = client.expect("message").await;
        let last: &mut u64 = seen.entry(message["channel"].to_string()).or_default();
        assert_eq!((&message["offset"], &message["content"]), (&json!(*last + 1), &json!(*last + 1)));
        *last += 1;
    }
}

#[tokio::test]
async fn stalled_subscriber_survives_its_removal_from_the_channel() {
    let channels = ChannelOptions::new().slow_consumer(SlowConsumer::DropNewest);
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_millis(400)));
    let mut client = server.client("/?user=stalled").receive_buffer(4096).connect().await;
    client.subscribe("x").await;
    let own = hub.connections().of_user("stalled").remove(0);
    let text = "x".repeat(16 * 1024);
    let mut good = subscriber(&server, "good", "x").await;
    while own.backlog() < 100_000 {
        hub.channel("x").broadcast(&text).await.unwrap();
        good.expect("message").await;
    }
    hub.channel("x").unsubscribe(&own).unwrap();
    assert!(own.backlog() < 32 * 1024, "at most the frame that was being written");
    // It keeps reading: first the whole messages that were already sent, then answers.
    let answer = client.request(json!({ "type": "ping" })).await;
    assert_eq!(answer.unwrap()["type"], "pong");
    hub.user("stalled").send("still there").await.unwrap();
    assert_eq!(client.wait_for("private").await["message"], "still there");
}

#[tokio::test]
async fn flood_to_one_connection_makes_it_a_slow_consumer() {
    let hub = open_hub().outbox(64 * 1024, 1000).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = server.client("/?user=u").receive_buffer(4096).connect().await;
    eventually("the client is connected", || now(hub.user("u").is_connected())).await;
    let own = hub.connections().of_user("u").remove(0);
    let text = "x".repeat(8 * 1024);
    let sent = std::iter::repeat_with(|| own.send(&text)).take(10_000).take_while(Result::is_ok).count();
    assert!(sent < 10_000 && !own.is_open());
    assert_eq!(client.expect_close().await.0, 3008);
    assert_eq!(hub.stats().slow_consumers, 1);
}

#[tokio::test]
async fn subscriptions_to_internal_channels_are_refused() {
    let hub = open_hub().build();
    let (mut client, connection) = registered(&hub, "eve", &user_handler().share()).await;
    for channel in ["@user:bob", "@user:eve", "@all", "@group:g"] {
        let error = hub.channel(channel).subscribe(&connection, ()).await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "permission_denied", "{channel}");
    }
    assert_eq!((hub.stats().channels, connection.channels().len()), (0, 0));
    hub.user("bob").send("for bob").await.unwrap();
    hub.user("eve").send("for eve").await.unwrap();
    assert_eq!(client.next().await["message"], "for eve");
}
