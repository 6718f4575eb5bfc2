//! A client that stays connected: publications, requests in both directions, direct messages and history, in
//! both encodings.

use crate::support::{builder, client, content, hub, named, next, server};
use hauyna::{Context, Handler, Hub};
use hauyna_client::protocol::ErrorType;
use hauyna_client::{Client, Closed, Direct, Error, State, StreamError};
use hauyna_test::TestServer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    text: String,
}

fn line(text: &str) -> Line {
    Line { text: text.into() }
}

#[tokio::test]
async fn publications_reach_another_client_in_either_encoding() {
    let server = server();
    let (url_a, url_b) = (server.url("/?user=ana"), server.url("/?user=bob"));
    let ana = builder(&url_a).message_pack().deflate().connect().unwrap();
    let bob = client(&url_b);
    let (from, to) = (ana.channel::<Line>("room:1"), bob.channel::<Line>("room:1"));
    let mut messages = to.messages();
    from.subscribe().await.unwrap().keep();
    let subscription = to.subscribe().await.unwrap();
    assert!(subscription.is_recoverable());
    let position = from.publish(&line("hello")).await.unwrap().expect("a numbered channel");
    let message = next(&mut messages).await.unwrap();
    assert_eq!((message.content, message.user.as_deref()), (line("hello"), Some("ana")));
    assert_eq!(message.offset, Some(position.offset));
    assert_eq!(to.position(), Some(position));
}

#[tokio::test]
async fn a_request_is_answered_and_a_refusal_is_a_typed_error() {
    #[derive(Deserialize)]
    struct Sum {
        a: u32,
        b: u32,
    }
    async fn add(_: Context, sum: Sum) -> hauyna::Result<u32> {
        Ok(sum.a + sum.b)
    }
    let server = TestServer::start(hub().build(), named().on("add", add));
    let client = client(&server.url("/"));
    assert_eq!(client.request::<u32>("add", &json!({ "a": 2, "b": 3 })).await.unwrap(), 5);

    let refused = client.request::<u32>("add", &json!({ "a": 2 })).await.unwrap_err();
    assert_eq!(refused.error_type(), Some(ErrorType::ValidationError));
    let unreadable = client.request::<String>("add", &json!({ "a": 2, "b": 3 })).await;
    assert!(matches!(unreadable, Err(Error::Unreadable(_))));
    let unsendable = client.request::<u32>("add", &[1, 2]).await;
    assert!(matches!(unsendable, Err(Error::Unsendable(_))));
    let unknown = client.channel::<u32>("nowhere").subscribe().await.unwrap_err();
    assert_eq!(unknown.error_type(), Some(ErrorType::PermissionDenied));
}

#[tokio::test]
async fn a_request_with_fields_of_the_protocol_is_not_sent() {
    async fn delete(_: Context, what: Value) -> hauyna::Result<Value> {
        Ok(what["id"].clone())
    }
    let server = TestServer::start(hub().build(), named().on("delete", delete));
    let client = client(&server.url("/"));
    for fields in [json!({ "id": 7 }), json!({ "id": null }), json!({ "type": "other" })] {
        let answer = client.request::<Value>("delete", &fields).await;
        assert!(matches!(&answer, Err(Error::Unsendable(_))), "{fields}: {answer:?}");
        let changed = client.update_status("away", &fields).await;
        assert!(matches!(&changed, Err(Error::Unsendable(_))), "{fields}: {changed:?}");
    }
    // An event of a contract names its type.
    client.request::<Value>("delete", &json!({ "type": "delete", "item": { "id": 7 } })).await.unwrap();
}

#[tokio::test]
async fn client_requests_survive_errors_and_panics_of_their_handler() {
    async fn ask(cx: Context, what: Value) -> hauyna::Result<Value> {
        let event = what["event"].as_str().unwrap_or_default().to_owned();
        let answer = cx.request::<Value>(&event, json!({ "n": 20 })).await;
        Ok(answer.unwrap_or_else(|error| json!(error.to_string())))
    }
    #[derive(Deserialize)]
    struct Number {
        n: u32,
    }
    let server = TestServer::start(Hub::new(), named().on("ask", ask));
    let client = Client::builder(&server.url("/"))
        .on_request("double", |Number { n }| async move { Ok::<_, String>(n * 2) })
        .on_request("refuse", |_: Value| async { Err::<u32, _>("not now") })
        .on_request("panic", |_: Value| async { panic!("of the application") as Result<u32, String> })
        .connect()
        .unwrap();
    let ask = async |event: &str| client.request::<Value>("ask", &json!({ "event": event })).await.unwrap();
    assert_eq!(ask("double").await, 40);
    assert!(ask("refuse").await.as_str().unwrap().contains("not now"));
    assert!(ask("panic").await.as_str().unwrap().contains("failed"));
    assert!(ask("unheard of").await.as_str().unwrap().contains("nobody"));
    assert_eq!(ask("double").await, 40, "a panic has cost its own question alone");
}

#[tokio::test]
async fn direct_and_application_messages_have_their_streams() {
    let server = server();
    let client = client(&server.url("/?user=ana"));
    let mut directs = client.directs::<Value>();
    let mut events = client.events::<Value>("weather");
    let room = client.channel::<Value>("room:1");
    let mut in_room = room.events::<Value>("weather");
    room.subscribe().await.unwrap().keep();
    server.hub().user("ana").send(json!({ "hi": 1 })).await.unwrap();
    server.hub().channel("room:1").broadcast(json!({ "type": "weather", "degrees": 21 })).await.unwrap();
    // A message from the server to a user is an application message or a private one, and the client streams
    // both.
    assert_eq!(next(&mut events).await.unwrap()["degrees"], 21);
    assert_eq!(next(&mut in_room).await.unwrap()["channel"], "room:1");
    let other = self::client(&server.url("/?user=bob"));
    other.send_to_user("ana", &json!("psst")).await.unwrap();
    loop {
        match next(&mut directs).await.unwrap() {
            Direct::Private(sent) if sent.message == json!("psst") => {
                break assert_eq!(sent.from.as_deref(), Some("bob"));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn history_is_read_page_by_page_and_backwards() {
    let server = server();
    let client = client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    room.subscribe().await.unwrap().keep();
    for n in 1..=5 {
        room.publish(&n).await.unwrap();
    }
    let numbers = |past: hauyna_client::HistoryMessages<u32>| {
        past.messages.into_iter().map(|m| m.content).collect::<Vec<_>>()
    };
    let newest = room.history().limit(2).reverse().await.unwrap();
    assert_eq!(newest.position.offset, 5);
    assert_eq!(numbers(newest), [5, 4]);
    let since = hauyna_client::protocol::Position { offset: 2, ..room.position().unwrap() };
    assert_eq!(numbers(room.history().since(since).await.unwrap()), [3, 4, 5]);
    let (mut seen, mut before) = (Vec::new(), room.position().unwrap());
    loop {
        let page = room.history().before(before).limit(2).await.unwrap();
        assert_eq!((page.oldest, page.position.offset), (1, 5));
        let Some(last) = page.last else { break };
        before = last;
        seen.extend(numbers(page));
    }
    assert_eq!(seen, [4, 3, 2, 1]);
}

#[tokio::test]
async fn older_publications_are_read_back_to_the_first() {
    let server = server();
    let client = client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    let _subscription = room.subscribe().await.unwrap();
    for n in 1..=5 {
        room.publish(&n).await.unwrap();
    }
    // A page may contain no publications, and does not end the stream.
    for _ in 0..3 {
        server.hub().channel("room:1").broadcast(json!({ "type": "notice" })).await.unwrap();
    }
    room.publish(&9).await.unwrap();
    let mut older = room.older().limit(2);
    let (mut contents, mut third) = (Vec::new(), None);
    while let Some(publication) = older.next().await {
        let publication = publication.unwrap();
        contents.push(publication.content);
        third = third.or(publication.position.filter(|_| publication.content == 3));
    }
    assert_eq!(contents, [9, 5, 4, 3, 2, 1]);
    let mut older = room.older().before(third.unwrap());
    assert_eq!(older.next().await.unwrap().unwrap().content, 2);
    assert_eq!(older.next().await.unwrap().unwrap().content, 1);
    assert!(older.next().await.is_none() && older.next().await.is_none());
    let mut refused = client.channel::<u32>("nowhere").older();
    assert!(matches!(refused.next().await, Some(Err(Error::Refused(_)))) && refused.next().await.is_none());
}

#[tokio::test]
async fn an_unreadable_content_is_an_item_and_the_stream_continues() {
    let server = server();
    let client = client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    client.channel::<Value>("room:1").publish(&json!("no number")).await.unwrap();
    room.publish(&7).await.unwrap();
    assert!(matches!(next(&mut messages).await, Err(StreamError::Unreadable(_))));
    assert_eq!(content(&mut messages).await, 7);
}

#[tokio::test]
async fn subscribing_again_after_unsubscribing_starts_at_the_present() {
    let server = server();
    let client = client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    room.unsubscribe().await.unwrap();
    assert_eq!(room.position(), None);
    server.hub().channel("room:1").broadcast(1).await.unwrap();
    room.subscribe().await.unwrap().keep();
    server.hub().channel("room:1").broadcast(2).await.unwrap();
    assert_eq!(content(&mut messages).await, 2);
}

#[tokio::test]
async fn a_closed_client_ends_its_streams_and_refuses_requests() {
    let server = server();
    let client = client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    let (mut messages, mut states) = (room.messages(), client.states());
    client.connected().await.unwrap();
    client.close().await;
    assert_eq!(client.state(), State::Closed(Closed::ByUs));
    assert!(messages.next().await.is_none());
    assert!(matches!(room.publish(&1).await, Err(Error::Closed(Closed::ByUs))));
    assert!(matches!(room.subscribe().await, Err(Error::Closed(Closed::ByUs))));
    while states.next().await.is_some() {}
    assert_eq!(client.connected().await, Err(Closed::ByUs));
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let (gone, mut went) = tokio::sync::mpsc::channel(1);
    let handler = Handler::new().on_close(move |_: Context, _| {
        let gone = gone.clone();
        async move {
            let _ = gone.send(()).await;
            Ok(())
        }
    });
    let server = TestServer::start(Hub::new(), handler);
    let client = client(&server.url("/"));
    client.connected().await.unwrap();
    let room = client.channel::<u32>("room:1");
    drop(client);
    assert!(server.hub().connections().count() == 1, "a channel is a handle too");
    drop(room);
    went.recv().await.expect("the connection is closed");
}

#[tokio::test]
async fn a_page_of_the_history_starts_at_one_position() {
    let server = server();
    let client = client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    let subscription = room.subscribe().await.unwrap();
    let first = *subscription.position().unwrap();
    let second = room.publish(&1).await.unwrap().unwrap();
    let history = || room.history().since(first);
    for twice in [history().before(second), history().since(second)] {
        assert!(matches!(twice.await, Err(Error::Unsendable(_))));
    }
    assert_eq!(history().since(first).await.unwrap().messages.len(), 1);
}
