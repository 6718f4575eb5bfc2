//! Validation over real sockets: invalid input is answered with all its paths and reaches no handler.

use crate::support::{client, open_hub, serve, subscriber, user_handler};
use hauyna::validate::{Invalid, Validate};
use hauyna::{ChannelOptions, Context, Hub, Result, json};
use hauyna_protocol::Encoding;
use hauyna_test::TestServer;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Deserialize)]
struct Order {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    price: u32,
}

impl Validate for Order {
    fn validate(&self) -> Result<(), Invalid> {
        let free = self.items.iter().enumerate().filter(|(_, item)| item.price == 0);
        let found = free.fold(None, |found: Option<Invalid>, (index, _)| {
            let path = format!("items[{index}].price");
            Some(match found {
                Some(found) => found.and(path, "is zero"),
                None => Invalid::at(path, "is zero"),
            })
        });
        found.map_or(Ok(()), Err)
    }
}

async fn total(_: Context, order: Order) -> Result<u32> {
    Ok(order.items.iter().map(|item| item.price).sum())
}

fn faults(error: &Value) -> Vec<(&str, &str)> {
    assert_eq!(error["error_type"], "validation_error", "{error}");
    let faults = error["details"]["faults"].as_array().unwrap();
    faults.iter().map(|fault| (fault["path"].as_str().unwrap(), fault["message"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn unfitting_input_is_reported_by_path_without_rust_types() {
    let server = TestServer::start(Hub::new(), user_handler().on_valid("order", total));
    for encoding in Encoding::ALL {
        let mut client = client(&server, encoding, "u").await;
        for (items, path, expected) in [
            (json!([{ "price": 1 }, { "price": -2 }]), "items[1].price", "integer from 0 to 4294967295"),
            (json!([{ "price": 1 }, {}]), "items[1].price", "value"),
            (json!([7]), "items[0]", "object"),
            (json!("many"), "items", "array"),
        ] {
            let error = client.request(json!({ "type": "order", "items": items })).await.unwrap_err();
            assert_eq!(error["error_type"], "validation_error");
            assert_eq!(error["details"], json!({ "path": path, "expected": expected }), "{error}");
            assert!(!error.to_string().contains("Item") && !error.to_string().contains("struct"), "{error}");
        }
        let good = json!({ "type": "order", "items": [{ "price": 2 }, { "price": 3 }] });
        assert_eq!(client.request(good).await.unwrap(), 5);
    }
}

#[tokio::test]
async fn input_that_fails_its_own_validation_never_reaches_the_handler() {
    let server = TestServer::start(Hub::new(), user_handler().on_valid("order", total));
    let mut client = client(&server, Encoding::Json, "u").await;
    let order = json!({ "type": "order", "items": [{ "price": 0 }, { "price": 1 }, { "price": 0 }] });
    let error = client.request(order).await.unwrap_err();
    assert_eq!(faults(&error), [("items[0].price", "is zero"), ("items[2].price", "is zero")]);
    assert_eq!(error["details"]["path"], "items[0].price");
}

#[tokio::test]
async fn all_validators_run_and_the_handler_does_not() {
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    let handler = user_handler()
        .validate_all(|name: &str, value: &Value| match value["by"].is_string() {
            true => Ok(()),
            false => Err(Invalid::at("by", format!("is missing in {name}"))),
        })
        .validate("move", |_: &str, value: &Value| match value["x"].as_u64() {
            Some(0..=7) => Ok(()),
            _ => Err(Invalid::at("x", "is not on the board")),
        })
        .on("move", move |_, _: Value| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .on_message(|_, _: Value| async { Ok("taken") });
    let server = TestServer::start(Hub::new(), handler);
    for encoding in Encoding::ALL {
        let mut client = client(&server, encoding, "u").await;
        let error = client.request(json!({ "type": "move", "x": 9 })).await.unwrap_err();
        assert_eq!(faults(&error), [("by", "is missing in move"), ("x", "is not on the board")]);
        let error = client.request(json!({ "type": "other" })).await.unwrap_err();
        assert_eq!(faults(&error), [("by", "is missing in other")]);
        assert_eq!(client.request(json!({ "type": "other", "by": "me" })).await.unwrap(), "taken");
        assert_eq!(called.swap(0, Ordering::Relaxed), 0);
        client.request(json!({ "type": "move", "x": 3, "by": "me" })).await.unwrap();
        assert_eq!(called.swap(0, Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn panicking_validator_fails_only_its_request() {
    let handler = user_handler()
        .validate("trap", |_: &str, _: &Value| -> Result<(), Invalid> { panic!("out of order") })
        .on("trap", |_, _: Value| async { Ok(()) });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = client(&server, Encoding::Json, "u").await;
    let error = client.request(json!({ "type": "trap" })).await.unwrap_err();
    assert_eq!(error["error_type"], "internal_error");
    assert!(!error.to_string().contains("out of order"));
    client.expect_nothing().await;
    assert_eq!(server.hub().stats().panics, 1);
}

#[tokio::test]
async fn invalid_channel_content_is_refused_with_its_path() {
    let numbers = ChannelOptions::new().validate(|channel: &str, content: &Value| match &content["number"] {
        Value::Number(_) => Ok(()),
        _ => Err(Invalid::at("number", format!("is none in {channel}"))),
    });
    let hub =
        Hub::builder().channels("numbers:{id}", numbers).channels("{*any}", ChannelOptions::new()).build();
    let server = serve(&hub);
    let mut listener = subscriber(&server, "listener", "numbers:1").await;
    for encoding in Encoding::ALL {
        let mut client = client(&server, encoding, "u").await;
        let refused =
            json!({ "type": "channel_message", "channel": "numbers:1", "content": { "number": "1" } });
        let error = client.request(refused.clone()).await.unwrap_err();
        assert_eq!(
            error["error_type"], "not_subscribed",
            "a client without permission does not see validation faults"
        );
        client.subscribe("numbers:1").await;
        client.subscribe("free").await;
        let error = client.request(refused).await.unwrap_err();
        assert_eq!(faults(&error), [("content.number", "is none in numbers:1")]);
        let whole = json!({ "type": "channel_message", "channel": "numbers:1", "content": { "number": 1 } });
        client.request(whole).await.unwrap();
        assert_eq!(listener.expect("message").await["content"], json!({ "number": 1 }));
        client
            .request(json!({ "type": "channel_message", "channel": "free", "content": "x" }))
            .await
            .unwrap();
    }
    hub.channel("numbers:1").broadcast("the application's own").await.unwrap();
    assert_eq!(listener.expect("message").await["content"], "the application's own");
    listener.expect_nothing().await;
}

#[tokio::test]
async fn publish_authoriser_runs_before_the_validators() {
    let channels =
        ChannelOptions::new().validate(|_: &str, _: &Value| Err(Invalid::at("", "is never right")));
    let hub = Hub::builder().channels("{*any}", channels).build();
    let handler = user_handler().authorize_publish(|_, request| async move {
        match request.name() {
            "open" => Ok(()),
            _ => Err(hauyna::Reject::denied("not here")),
        }
    });
    let server = TestServer::start(hub, handler);
    let mut client = client(&server, Encoding::Json, "u").await;
    for (channel, error_type) in [("open", "validation_error"), ("shut", "permission_denied")] {
        client.subscribe(channel).await;
        let request = json!({ "type": "channel_message", "channel": channel, "content": 1 });
        assert_eq!(client.request(request).await.unwrap_err()["error_type"], error_type);
    }
}

#[tokio::test]
async fn handler_may_return_its_own_faults() {
    let handler = user_handler().on("late", |_, _: Value| async {
        Err::<(), _>(Invalid::at("seat", "has been taken meanwhile").into())
    });
    let server = TestServer::start(open_hub().build(), handler);
    let mut client = client(&server, Encoding::Json, "u").await;
    let error = client.request(json!({ "type": "late" })).await.unwrap_err();
    assert_eq!(faults(&error), [("seat", "has been taken meanwhile")]);
}

#[cfg(feature = "json-schema")]
#[tokio::test]
async fn schema_checks_events_and_channel_content() {
    let text = json!({ "type": "object", "properties": { "text": { "type": "string", "maxLength": 5 } }, "required": ["text"] });
    let schema = || hauyna::validate::Schema::new(&text).unwrap();
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new().validate(schema())).build();
    let handler = user_handler().validate("say", schema()).on("say", |_, _: Value| async { Ok(()) });
    let server = TestServer::start(hub, handler);
    let mut client = client(&server, Encoding::Json, "u").await;
    let error = client.request(json!({ "type": "say", "text": "too long" })).await.unwrap_err();
    assert_eq!(faults(&error).iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["text"]);
    client.request(json!({ "type": "say", "text": "short" })).await.unwrap();
    client.subscribe("x").await;
    let error = client
        .request(json!({ "type": "channel_message", "channel": "x", "content": {} }))
        .await
        .unwrap_err();
    assert_eq!(faults(&error).iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["content"]);
}

#[cfg(feature = "json-schema")]
#[tokio::test]
async fn schema_reports_at_most_sixteen_faults() {
    let counts =
        json!({ "properties": { "counts": { "additionalProperties": { "items": { "type": "integer" } } } } });
    let schema = hauyna::validate::Schema::new(&counts).unwrap();
    let handler = user_handler().validate("count", schema).on("count", |_, _: Value| async { Ok(()) });
    let server = TestServer::start(Hub::new(), handler);
    for encoding in Encoding::ALL {
        let mut client = client(&server, encoding, "u").await;
        let wrong = json!({ "type": "count", "counts": { "a": vec![0.5; 100] } });
        let error = client.request(wrong).await.unwrap_err();
        let found = faults(&error);
        assert_eq!((found.len(), found[0]), (16, ("counts.a[0]", "is not of type \"integer\"")));
        let long = "n".repeat(10_000);
        let error =
            client.request(json!({ "type": "count", "counts": { long.as_str(): [0.5] } })).await.unwrap_err();
        assert_eq!(faults(&error), [("", "does not fit its schema, and is too large to say where")]);
        client.request(json!({ "type": "count", "counts": { long.as_str(): vec![1; 1000] } })).await.unwrap();
    }
}

#[tokio::test]
async fn channel_content_must_match_its_type_in_every_encoding() {
    #[derive(Deserialize)]
    struct Note {
        #[expect(dead_code, reason = "only read")]
        text: String,
    }
    let hub = Hub::builder().channels("notes", ChannelOptions::new().content::<Note>()).build();
    let server = serve(&hub);
    let mut listener = subscriber(&server, "listener", "notes").await;
    for encoding in Encoding::ALL {
        let mut client = client(&server, encoding, "u").await;
        client.subscribe("notes").await;
        let publish =
            |content: Value| json!({ "type": "channel_message", "channel": "notes", "content": content });
        let error = client.request(publish(json!({ "text": 7 }))).await.unwrap_err();
        assert_eq!(faults(&error), [("content.text", "is not a valid string")]);
        let error = client.request(publish(json!("x"))).await.unwrap_err();
        assert_eq!(faults(&error), [("content", "is not a valid object")]);
        client.request(publish(json!({ "text": "x", "more": 1 }))).await.unwrap();
        assert_eq!(listener.expect("message").await["content"], json!({ "text": "x", "more": 1 }));
    }
    listener.expect_nothing().await;
}

#[tokio::test]
async fn deny_unknown_fields_applies_to_fields_of_the_message() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let handler = user_handler().on("nothing", |_, _: Nothing| async { Ok(()) });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = client(&server, Encoding::Json, "u").await;
    let error = client.request(json!({ "type": "nothing" })).await.unwrap_err();
    assert_eq!(error["error_type"], "validation_error");
}
