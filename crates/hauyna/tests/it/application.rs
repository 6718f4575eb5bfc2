//! What the application does with its hub: publishing with options, messages to users, connections and all,
//! taking clients in and out.

use crate::support::{eventually, named, open_hub, serve, subscribe, subscriber};
use hauyna::{Channels, ErrorKind, ErrorType, HistoryRange, Hub, Repeat, SlowConsumer, UserId, json};
use hauyna_test::TestServer;
use std::time::Duration;

#[tokio::test]
async fn a_value_with_a_type_is_the_message_and_any_other_becomes_its_content() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for mut client in [server.connect("/").await, server.message_pack("/").await] {
        if client.protocol().is_some() {
            client.expect("session").await;
        }
        let top = subscribe(&mut client, "x").await["offset"].as_u64().unwrap();
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
async fn publishing_takes_options_and_reports_what_is_wrong() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut ann = subscriber(&server, "ann", "x").await;
    let mut ben = subscriber(&server, "ben", "x").await;
    let channel = hub.channel("x");
    let of_ann = hub.connections().of_user("ann").remove(0);
    channel.broadcast_except("not to ann", of_ann.id()).await.unwrap();
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
async fn users_connections_and_everybody_are_written_to() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut ann = server.connect("/?user=ann").await;
    let mut ben = server.connect("/?user=ben").await;
    eventually("both are there", || hub.connections().count() == 2).await;
    hub.connections().send_to_many(["ann", "ben", "nobody"], json!({ "n": 1 })).await.unwrap();
    hub.connections().send_to_one("ann", 2).await.unwrap();
    assert_eq!(ann.expect("private").await["message"], json!({ "n": 1 }));
    assert_eq!(ann.expect("private").await["message"], 2);
    assert_eq!(ben.expect("private").await["message"], json!({ "n": 1 }));
    let of_ann = hub.connections().of_user("ann").remove(0);
    hub.connections().broadcast_except("others", of_ann.id()).await.unwrap();
    assert_eq!(ben.expect("broadcast").await["message"], "others");
    of_ann.send(json!({ "type": "direct", "to": "this connection" })).unwrap();
    assert_eq!(ann.expect("direct").await["to"], "this connection");
    assert_eq!(hub.connection(of_ann.id()), Some(of_ann.clone()));
    ann.close(1000, "").await;
    eventually("ann is gone", || !hub.user("ann").is_connected()).await;
    assert_eq!((of_ann.send(1).unwrap_err().kind(), hub.connection(of_ann.id())), (ErrorKind::Closed, None));
    assert!(hub.channel("x").subscribe(&of_ann, ()).await.is_err(), "a connection that is gone");
    assert_eq!(hub.stats().channels, 0);
}

#[tokio::test]
async fn the_application_takes_clients_in_and_out_of_channels_of_any_kind() {
    let hub = Hub::builder().channels("private", Channels::new().private()).build();
    let server = serve(&hub);
    let mut ann = server.connect("/?user=ann").await;
    eventually("ann is there", || hub.user("ann").is_connected()).await;
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
    hub.channel("private").close();
    hub.channel("private").broadcast(1).await.unwrap();
    ann.expect_nothing().await;
    assert_eq!(own.channels(), ["undeclared"]);
    hub.channel("undeclared").unsubscribe(&own).unwrap();
    assert!(hub.channel("undeclared").unsubscribe(&own).is_err());
    assert_eq!(hub.stats().channels, 0);
}

#[tokio::test]
async fn a_connection_of_many_channels_gets_each_in_its_order() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut client = server.connect("/").await;
    for channel in 0..100 {
        subscribe(&mut client, &format!("c{channel}")).await;
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
async fn a_stalled_subscriber_that_is_taken_out_lives_on() {
    let channels = Channels::new().slow_consumer(SlowConsumer::DropNewest);
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = TestServer::start(hub.clone(), named().write_timeout(Duration::from_millis(400)));
    let mut client = server.client("/?user=stalled").receive_buffer(4096).connect().await;
    subscribe(&mut client, "x").await;
    let own = hub.connections().of_user("stalled").remove(0);
    let text = "x".repeat(16 * 1024);
    let mut good = subscriber(&server, "good", "x").await;
    while own.backlog() < 100_000 {
        hub.channel("x").broadcast(&text).await.unwrap();
        good.expect("message").await;
    }
    hub.channel("x").unsubscribe(&own).unwrap();
    assert!(own.backlog() < 32 * 1024, "at most the frame that was begun");
    // It reads on: what was on its way, whole messages all, and then answers.
    let answer = client.request(json!({ "type": "ping" })).await;
    assert_eq!(answer.unwrap()["type"], "pong");
    hub.user("stalled").send("still there").await.unwrap();
    assert_eq!(client.wait_for("private").await["message"], "still there");
}

#[tokio::test]
async fn a_flood_to_one_connection_makes_it_a_slow_consumer() {
    let hub = open_hub().outbox(64 * 1024, 1000).build();
    let server = TestServer::start(hub.clone(), named());
    let mut client = server.client("/?user=u").receive_buffer(4096).connect().await;
    eventually("it is there", || hub.user("u").is_connected()).await;
    let own = hub.connections().of_user("u").remove(0);
    let text = "x".repeat(8 * 1024);
    let sent = std::iter::repeat_with(|| own.send(&text)).take(10_000).take_while(Result::is_ok).count();
    assert!(sent < 10_000 && !own.is_open());
    assert_eq!(client.expect_close().await.0, 3008);
    assert_eq!(hub.stats().slow_consumers, 1);
}
