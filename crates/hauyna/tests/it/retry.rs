//! The retry policy that clients receive: from the hub, their handler or their own connection.

use crate::support::{retry_terms, user_handler};
use hauyna::connection::RetryPolicy;
use hauyna::{Context, Handler, Hub, json};
use hauyna_test::TestServer;
use serde_json::Value;
use std::time::Duration;

#[tokio::test]
async fn session_has_the_retry_policy_of_the_handler_or_hub() {
    let server = TestServer::start(Hub::new(), user_handler());
    let session = server.json("/").await.expect("session").await;
    assert_eq!(session["retry"], retry_terms(RetryPolicy::default()));
    let hub = Hub::builder().retry_policy(RetryPolicy::conservative()).build();
    let server = TestServer::route(hub, |router| {
        router
            .websocket("/hub", user_handler())
            .websocket("/own", user_handler().retry_policy(RetryPolicy::aggressive()))
    });
    let session = server.json("/hub").await.expect("session").await;
    assert_eq!(session["retry"], retry_terms(RetryPolicy::conservative()));
    let session = server.message_pack("/own").await.expect("session").await;
    assert_eq!(session["retry"], retry_terms(RetryPolicy::aggressive()));
}

#[tokio::test]
async fn policy_of_one_connection_is_sent_only_to_it() {
    let handler = user_handler()
        .on_open(|cx: Context| async move { cx.connection().set_retry_policy(RetryPolicy::aggressive()) })
        .on("calm", async |cx: Context, _: Value| {
            cx.connection().set_retry_policy(RetryPolicy::conservative())?;
            Ok(cx.connection().retry_policy().max_attempts)
        });
    let server = TestServer::start(Hub::new(), handler);
    let (mut one, mut other) = (server.json("/?user=one").await, server.connect("/?user=other").await);
    one.expect("session").await;
    for client in [&mut one, &mut other] {
        let mut message = client.expect("retry_policy").await;
        message.as_object_mut().unwrap().remove("type");
        assert_eq!(message, retry_terms(RetryPolicy::aggressive()));
    }
    assert_eq!(one.request(json!({ "type": "calm" })).await.unwrap(), 3);
    assert_eq!(one.expect("retry_policy").await["base_delay"], 5000);
    other.expect_nothing().await;
    let hub = server.hub();
    let policy = |user| hub.connections().of_user(user)[0].retry_policy();
    assert_eq!((policy("one"), policy("other")), (RetryPolicy::conservative(), RetryPolicy::aggressive()));
}

#[tokio::test]
async fn invalid_retry_policy_is_refused() {
    let server = TestServer::start(Hub::new(), user_handler());
    let mut client = server.connect("/").await;
    client.expect_nothing().await;
    let connection = server.hub().connections().all().remove(0);
    let bad = RetryPolicy::default().jitter(f64::NAN);
    let error = connection.set_retry_policy(bad).unwrap_err();
    assert_eq!(error.kind(), hauyna::error::ErrorKind::Config);
    assert_eq!(connection.retry_policy(), RetryPolicy::default());
    client.expect_nothing().await;
    let error = Hub::builder().retry_policy(bad).try_build().unwrap_err();
    assert_eq!(error.to_string(), "retry policy: jitter is not between 0 and 1");
    client.close(1000, "").await;
    crate::support::wait_until_empty(server.hub()).await;
    let error = connection.set_retry_policy(RetryPolicy::aggressive()).unwrap_err();
    assert_eq!(error.kind(), hauyna::error::ErrorKind::Closed);
}

#[tokio::test]
async fn handler_without_the_protocol_sends_no_policy() {
    let server = TestServer::start(Hub::new(), Handler::echo());
    let mut client = server.connect("/").await;
    client.send_text("x").await;
    assert_eq!(client.next_text().await, "x");
    let connection = server.hub().connections().all().remove(0);
    let policy = RetryPolicy::default().base_delay(Duration::from_millis(1));
    connection.set_retry_policy(policy).unwrap();
    client.send_text("y").await;
    assert_eq!(client.next_text().await, "y");
    assert_eq!(connection.retry_policy(), policy);
}
