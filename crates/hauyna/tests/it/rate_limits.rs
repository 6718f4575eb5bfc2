//! Rate and error limits of clients: excess requests are refused, clients that continue are disconnected, and
//! others are not affected.

use crate::support::{
    eventually, open_hub, registered, session_client, session_clients, subscriber, user_handler,
    wait_for_connections,
};
use hauyna::handler::RateLimit;
use hauyna::{ChannelOptions, Context, Handler, Hub, Rate, Reject, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Returns a rate that allows `count` and then nothing more during a test.
fn only(count: u32) -> Rate {
    Rate::new(1, Duration::from_secs(3600)).burst(count)
}

fn limited(limit: RateLimit) -> Handler {
    user_handler().rate_limit(limit)
}

/// Sends a request that must be `rate_limited`. Returns how long to wait, in milliseconds.
async fn refused(client: &mut Client, request: Value) -> u64 {
    let error = client.request(request.clone()).await.unwrap_err();
    assert_eq!(
        (&error["error_type"], &error["temporary"]),
        (&json!("rate_limited"), &json!(true)),
        "{request}"
    );
    error["details"]["retry_after"].as_u64().unwrap()
}

#[tokio::test]
async fn requests_over_the_message_rate_are_refused_with_their_id() {
    let called = Arc::new(AtomicU32::new(0));
    let count = called.clone();
    let handler = limited(RateLimit::new().messages(only(4))).on("count", move |_: Context, _: Value| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    let server = TestServer::start(open_hub().build(), handler);
    let mut bystander = subscriber(&server, "bystander", "x").await;
    for mut client in session_clients(&server, "/").await {
        called.store(0, Ordering::Relaxed);
        client.subscribe("x").await;
        client.request(json!({ "type": "ping" })).await.unwrap();
        for _ in 0..2 {
            client.request(json!({ "type": "count" })).await.unwrap();
        }
        let wait = refused(&mut client, json!({ "type": "count" })).await;
        assert!((3_500_000..=3_600_000).contains(&wait), "{wait} ms");
        refused(&mut client, json!({ "type": "ping" })).await;
        refused(&mut client, json!({ "type": "channel_message", "channel": "x", "content": 1 })).await;
        refused(&mut client, json!({ "type": "nobody" })).await;
        // Also without an `id`; a client answer does not count as a request.
        client.send(json!({ "type": "channel_message", "channel": "x", "content": 2 })).await;
        let error = client.expect("error").await;
        assert_eq!((&error["error_type"], error.get("id")), (&json!("rate_limited"), None));
        client.send(json!({ "type": "ack", "id": "q-1" })).await;
        assert_eq!(client.expect("error").await.get("id"), None);
        assert_eq!(called.load(Ordering::Relaxed), 2);
    }
    bystander.expect_nothing().await;
    bystander.request(json!({ "type": "channel_message", "channel": "x", "content": 3 })).await.unwrap();
    assert_eq!((server.hub().stats().refused, server.hub().stats().published), (12, 1));
}

#[tokio::test]
async fn client_that_waits_for_retry_after_is_served_again() {
    let rate = Rate::new(1, Duration::from_millis(50)).burst(2);
    let server = TestServer::start(Hub::new(), limited(RateLimit::new().messages(rate)));
    let mut client = server.connect("/").await;
    for _ in 0..2 {
        client.request(json!({ "type": "ping" })).await.unwrap();
    }
    for _ in 0..3 {
        let mut wait = refused(&mut client, json!({ "type": "ping" })).await;
        assert!((1..=50).contains(&wait), "{wait} ms");
        while wait > 0 {
            tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(wait)).await;
            wait = match client.request(json!({ "type": "ping" })).await {
                Ok(_) => 0,
                Err(error) => panic!("{error} after {wait} ms"),
            };
        }
    }
}

#[tokio::test]
async fn bytes_are_limited_and_one_oversized_message_passes() {
    let rate = Rate::new(1, Duration::from_millis(100)).burst(1000);
    let server = TestServer::start(open_hub().build(), limited(RateLimit::new().bytes(rate)));
    let mut client = server.connect("/").await;
    let large = json!({ "type": "private", "to": "nobody", "message": "x".repeat(2000) });
    client.request(large.clone()).await.unwrap();
    let wait = refused(&mut client, large).await;
    assert!((150_000..=210_000).contains(&wait), "{wait} ms for some 2,000 bytes at 10 a second");
    let mut other = server.connect("/").await;
    for number in 0..100 {
        match other.request(json!({ "type": "private", "to": "nobody", "message": "x".repeat(50) })).await {
            Ok(_) => assert!(number < 10, "{number} messages of some 100 bytes"),
            Err(error) => {
                assert_eq!(error["error_type"], "rate_limited");
                assert!(number > 7, "{number}");
            }
        }
    }
}

#[tokio::test]
async fn subscriptions_have_their_own_rate() {
    let server = TestServer::start(open_hub().build(), limited(RateLimit::new().subscriptions(only(3))));
    let mut client = server.connect("/").await;
    for channel in ["a", "b", "c"] {
        client.subscribe(channel).await;
    }
    client.request(json!({ "type": "unsubscribe_channel", "channel": "a" })).await.unwrap();
    refused(&mut client, json!({ "type": "subscribe_channel", "channel": "a" })).await;
    client.request(json!({ "type": "channel_message", "channel": "b", "content": 1 })).await.unwrap();
    assert_eq!(server.hub().stats().subscriptions, 2);
}

#[tokio::test]
async fn channel_rate_counts_all_publishers_before_authorisation() {
    for handler in [
        user_handler(),
        user_handler().authorize_publish(|cx, _| async move {
            if cx.user().as_str() == "mute" { Err(Reject::denied("mute")) } else { Ok(()) }
        }),
    ] {
        let hub = Hub::builder()
            .channels("calm", ChannelOptions::new().rate_limit(only(3)))
            .channels("{*any}", ChannelOptions::new())
            .build();
        let server = TestServer::start(hub.clone(), handler);
        let mut mute = subscriber(&server, "mute", "calm").await;
        let mut alice = subscriber(&server, "alice", "calm").await;
        let mut bob = subscriber(&server, "bob", "calm").await;
        let say = || json!({ "type": "channel_message", "channel": "calm", "content": 1 });
        alice.request(say()).await.unwrap();
        bob.request(say()).await.unwrap();
        alice.request(say()).await.unwrap();
        refused(&mut bob, say()).await;
        refused(&mut alice, say()).await;
        let _ = mute.request(say()).await.unwrap_err();
        hub.channel("calm").broadcast("from the application").await.unwrap();
        bob.subscribe("else").await;
        bob.request(json!({ "type": "channel_message", "channel": "else", "content": 1 })).await.unwrap();
        drop((mute, alice, bob, server));
        eventually("the channels have ended", || hub.stats().channels == 0).await;
    }
}

#[tokio::test]
async fn errors_over_the_budget_close_with_3509_after_the_last() {
    let server = TestServer::start(open_hub().build(), user_handler().error_budget(only(5)));
    let mut good = subscriber(&server, "good", "x").await;
    for mut bad in [server.json("/").await, server.message_pack("/").await] {
        bad.expect("session").await;
        for number in 0..6 {
            bad.send(json!({ "type": "nobody", "id": number })).await;
        }
        bad.send(json!({ "type": "private", "id": 6, "to": "good", "message": "not done" })).await;
        for number in 0..6 {
            assert_eq!(bad.expect("error").await["id"], number);
        }
        assert_eq!(bad.expect_close().await, (3509, "too many errors".to_owned()));
    }
    assert_eq!(server.hub().stats().refused, 12);
    good.expect_nothing().await;
}

#[tokio::test]
async fn client_that_ignores_its_rate_exceeds_its_error_budget() {
    let handler = limited(RateLimit::new().messages(only(10))).error_budget(only(20));
    let server = TestServer::start(open_hub().build(), handler);
    let mut flooder = server.connect("/").await;
    for _ in 0..1000 {
        flooder.send(json!({ "type": "private", "to": "x", "message": 1 })).await;
        if server.hub().stats().refused > 200 {
            break;
        }
    }
    // Ten of these errors count as one.
    for _ in 0..201 {
        assert_eq!(flooder.expect("error").await["error_type"], "rate_limited");
    }
    assert_eq!(flooder.expect_close().await.0, 3509);
    assert_eq!(server.hub().stats().published, 10);
}

#[tokio::test]
async fn server_failures_do_not_count_and_the_budget_is_optional() {
    let fail = |handler: Handler| {
        handler.on("fail", |_: Context, _: Value| async {
            Err::<(), _>(hauyna::Error::other("the database is down"))
        })
    };
    let server = TestServer::route(Hub::new(), |router| {
        let strict = fail(user_handler()).error_budget(only(3));
        router.websocket("/strict", strict).websocket("/patient", fail(user_handler()).no_error_budget())
    });
    let mut client = server.connect("/strict").await;
    for _ in 0..20 {
        assert_eq!(
            client.request(json!({ "type": "fail" })).await.unwrap_err()["error_type"],
            "internal_error"
        );
    }
    let mut patient = server.connect("/patient").await;
    for _ in 0..2000 {
        patient.request(json!({ "type": "nobody" })).await.unwrap_err();
    }
    patient.request(json!({ "type": "ping" })).await.unwrap();
}

#[tokio::test]
async fn default_budget_allows_a_thousand_errors_at_once() {
    let server = TestServer::start(Hub::new(), user_handler());
    let mut client = server.connect("/").await;
    for _ in 0..1000 {
        client.request(json!({ "type": "nobody" })).await.unwrap_err();
    }
    for _ in 0..1000 {
        client.send(json!({ "type": "nobody" })).await;
    }
    assert_eq!(client.expect_close().await.0, 3509);
}

#[tokio::test]
async fn channel_limit_of_a_node_is_an_error_without_close() {
    let hub = open_hub().max_channels(2).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut first = subscriber(&server, "first", "a").await;
    first.subscribe("b").await;
    let mut second = subscriber(&server, "second", "a").await;
    let third = json!({ "type": "subscribe_channel", "channel": "c" });
    for client in [&mut first, &mut second] {
        let error = client.request(third.clone()).await.unwrap_err();
        assert_eq!((&error["error_type"], &error["details"]["limit"]), (&json!("limit_exceeded"), &json!(2)));
    }
    first.request(json!({ "type": "unsubscribe_channel", "channel": "b" })).await.unwrap();
    second.request(third).await.unwrap();
    assert_eq!(hub.stats().channels, 2);
    // A subscription that fails for another reason releases its channel.
    second.request(json!({ "type": "unsubscribe_channel", "channel": "c" })).await.unwrap();
    for _ in 0..5 {
        second.request(json!({ "type": "subscribe_channel", "channel": "a" })).await.unwrap_err();
    }
    second.subscribe("d").await;
}

#[tokio::test]
async fn presence_changes_have_their_own_rate() {
    let limit = RateLimit::new().presence_updates(only(2));
    let server = TestServer::start(open_hub().build(), limited(limit));
    let mut client = server.connect("/").await;
    let away = || json!({ "type": "update_status", "status": "away" });
    for _ in 0..2 {
        // Present or not, the limit does not refuse it.
        if let Err(error) = client.request(away()).await {
            assert_ne!(error["error_type"], "rate_limited");
        }
    }
    refused(&mut client, away()).await;
    client.request(json!({ "type": "ping" })).await.unwrap();
}

#[tokio::test]
async fn channel_rate_outlives_its_subscribers() {
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new().rate_limit(only(2))).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let say = |channel: &str| json!({ "type": "channel_message", "channel": channel, "content": 1 });
    let mut ann = subscriber(&server, "ann", "x").await;
    ann.request(say("x")).await.unwrap();
    for round in 0..20 {
        ann.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
        eventually("the channel has ended", || hub.stats().channels == 0).await;
        ann.subscribe("x").await;
        match round {
            0 => assert!(ann.request(say("x")).await.is_ok(), "one request was left"),
            _ => assert!(refused(&mut ann, say("x")).await > 3_500_000),
        }
    }
    ann.close(1000, "").await;
    eventually("the channel has ended", || hub.stats().channels == 0).await;
    let mut bob = subscriber(&server, "bob", "x").await;
    refused(&mut bob, say("x")).await;
    bob.subscribe("y").await;
    bob.request(say("y")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn channel_rate_refills_without_subscribers() {
    let rate = Rate::new(1, Duration::from_secs(3600)).burst(2);
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new().rate_limit(rate)).build();
    let handler = user_handler().no_heartbeat().share();
    let say = || json!({ "type": "channel_message", "channel": "x", "content": 1 });
    let (mut ann, _) = registered(&hub, "ann", &handler).await;
    ann.subscribe("x").await;
    for _ in 0..2 {
        ann.request(say()).await.unwrap();
    }
    ann.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    ann.subscribe("x").await;
    ann.request(say()).await.unwrap();
    refused(&mut ann, say()).await;
}

#[tokio::test]
async fn reconnecting_without_the_session_keeps_the_used_rate() {
    let limit = RateLimit::new().messages(only(3)).subscriptions(only(2));
    let server = TestServer::start(open_hub().build(), limited(limit));
    let ping = || json!({ "type": "ping" });
    let mut ann = session_client(&server, "/?user=ann").await;
    for _ in 0..2 {
        ann.request(ping()).await.unwrap();
    }
    let mut second = server.connect("/?user=ann").await;
    for _ in 0..3 {
        second.request(ping()).await.unwrap();
    }
    refused(&mut second, ping()).await;
    for lost in [false, true] {
        match lost {
            false => ann.close(1000, "").await,
            true => ann.vanish(),
        }
        wait_for_connections(server.hub(), 1).await;
        ann = server.json("/?user=ann").await;
        ann.expect("session").await;
        if !lost {
            ann.request(ping()).await.unwrap();
        }
        refused(&mut ann, ping()).await;
    }
    drop(second);
    wait_for_connections(server.hub(), 1).await;
    let mut third = server.connect("/?user=ann").await;
    refused(&mut third, ping()).await;
    let mut bob = server.connect("/?user=bob").await;
    bob.request(ping()).await.unwrap();
}

#[tokio::test]
async fn reconnecting_does_not_reset_the_error_budget() {
    let server = TestServer::start(Hub::new(), user_handler().error_budget(only(4)));
    for round in 0..3 {
        let mut bad = server.connect("/?user=bad").await;
        for _ in 0..2 {
            bad.send(json!({ "type": "nobody" })).await;
        }
        match round {
            0 | 1 => {
                for _ in 0..2 {
                    bad.expect("error").await;
                }
                bad.close(1000, "").await;
                wait_for_connections(server.hub(), 0).await;
            }
            _ => {
                bad.expect("error").await;
                assert_eq!(bad.expect_close().await.0, 3509);
            }
        }
    }
    let mut good = server.connect("/?user=good").await;
    good.request(json!({ "type": "nobody" })).await.unwrap_err();
    good.request(json!({ "type": "ping" })).await.unwrap();
}

#[tokio::test]
async fn binary_messages_count_like_text_messages() {
    let (called, kinds) = (Arc::new(AtomicU32::new(0)), ["messages", "bytes"]);
    for kind in kinds {
        called.store(0, Ordering::Relaxed);
        let limit = match kind {
            "messages" => RateLimit::new().messages(only(2)),
            _ => RateLimit::new().bytes(only(20)),
        };
        let count = called.clone();
        let handler = limited(limit).on_binary(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        let server = TestServer::start(Hub::new(), handler);
        let mut client = server.connect("/").await;
        for _ in 0..5 {
            client.send_binary(&[7; 10]).await;
        }
        for _ in 0..3 {
            let error = client.expect("error").await;
            assert_eq!((&error["error_type"], error.get("id")), (&json!("rate_limited"), None), "{kind}");
        }
        assert_eq!(called.load(Ordering::Relaxed), 2, "{kind}");
        refused(&mut client, json!({ "type": "ping", "padding": "of more bytes than a burst" })).await;
    }
}

#[tokio::test]
async fn handler_shared_by_two_hubs_limits_each_separately() {
    let handler = limited(RateLimit::new().messages(only(2))).share();
    let (one, other) = (Hub::new(), Hub::new());
    for (hub, has_spent) in [(&one, false), (&other, false), (&one, true)] {
        let (mut client, _) = registered(hub, "ann", &handler).await;
        if !has_spent {
            for _ in 0..2 {
                client.request(json!({ "type": "ping" })).await.unwrap();
            }
        }
        refused(&mut client, json!({ "type": "ping" })).await;
        client.vanish();
        wait_for_connections(hub, 0).await;
    }
}
