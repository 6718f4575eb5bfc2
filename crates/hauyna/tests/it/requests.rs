//! Every request of the protocol and its answer, in both encodings.

use crate::support::{Random, client, eventually, now, open_hub, serve, subscriber, user_handler};
use hauyna::limits::UnknownUsers;
use hauyna::{ChannelOptions, Hub, Publishers, json};
use hauyna_protocol::Encoding;
use hauyna_test::TestServer;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn subscribe_answers_with_the_position_in_both_encodings() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for encoding in Encoding::ALL {
        let (mut alice, mut bob) =
            (client(&server, encoding, "alice").await, client(&server, encoding, "bob").await);
        let name = format!("room:{encoding:?}");
        let data = alice.subscribe(&name).await;
        assert_eq!(
            (&data["channel"], &data["offset"], &data["recoverable"]),
            (&json!(name), &json!(0), &json!(true))
        );
        assert_eq!(data["epoch"].as_str().map(str::len), Some(11));
        assert!(data.get("recovered").is_none());
        bob.subscribe(&name).await;
        let content =
            json!({ "text": "héllo \u{1f600}", "numbers": [1, -2, 2.5, u64::MAX], "nothing": null });
        let sent = json!({ "type": "channel_message", "channel": name, "content": content });
        let position = alice.request(sent).await.unwrap();
        assert_eq!(position, json!({ "epoch": data["epoch"], "offset": 1 }));
        for reader in [&mut alice, &mut bob] {
            let message = reader.expect("message").await;
            assert_eq!((&message["channel"], &message["user"]), (&json!(name), &json!("alice")));
            assert_eq!((&message["content"], &message["offset"]), (&content, &json!(1)));
            assert!(message["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
        }
    }
}

#[tokio::test]
async fn publication_reaches_subscribers_of_the_other_encoding() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let (mut json, mut packed) =
        (client(&server, Encoding::Json, "a").await, client(&server, Encoding::MessagePack, "b").await);
    json.subscribe("x").await;
    packed.subscribe("x").await;
    let content = json!({ "deep": [{ "a": [true, null, 1.5, -7, "\u{e9}"] }] });
    packed.request(json!({ "type": "channel_message", "channel": "x", "content": content })).await.unwrap();
    json.request(json!({ "type": "channel_message", "channel": "x", "content": content })).await.unwrap();
    for reader in [&mut json, &mut packed] {
        assert_eq!(reader.expect("message").await["content"], content);
        assert_eq!(reader.expect("message").await["content"], content);
    }
}

#[tokio::test]
async fn plain_client_gets_everything_except_the_session() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut plain = server.connect("/?user=p").await;
    assert_eq!(plain.protocol(), None);
    plain.send(json!({ "type": "subscribe_channel", "id": "s", "channel": "x" })).await;
    assert_eq!(plain.next().await["type"], "ack");
    hub.channel("x").broadcast("text").await.unwrap();
    let message = plain.expect("message").await;
    assert_eq!((&message["content"], message.get("user")), (&json!("text"), None));
}

#[tokio::test]
async fn metadata_is_stored_with_the_subscription_and_announced() {
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new().announce_subscribers()).build();
    let server = serve(&hub);
    let mut alice = subscriber(&server, "alice", "x").await;
    assert_eq!(alice.expect("channel_event").await["user"], "alice");
    for encoding in Encoding::ALL {
        let mut bob = client(&server, encoding, "bob").await;
        let request =
            json!({ "type": "subscribe_channel", "channel": "x", "metadata": { "device": "phone" } });
        bob.request(request).await.unwrap();
        let event = alice.expect("channel_event").await;
        let expected = json!({ "type": "channel_event", "event": "subscription_added", "channel": "x", "user": "bob",
            "metadata": { "device": "phone" } });
        assert_eq!(event, expected);
        let handle = hub.connections().of_user("bob").remove(0);
        assert_eq!(hub.channel("x").metadata(&handle), Some(json!({ "device": "phone" })));
        hub.channel("x").update_metadata(&handle, json!({ "device": "desk" })).unwrap();
        bob.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
        let event = alice.expect("channel_event").await;
        assert_eq!(
            (&event["event"], &event["metadata"]["device"]),
            (&json!("subscription_removed"), &json!("desk"))
        );
        bob.close(1000, "").await;
        eventually("bob is disconnected", || !now(hub.user("bob").is_connected())).await;
    }
    let carol = subscriber(&server, "carol", "x").await;
    assert_eq!(alice.expect("channel_event").await["event"], "subscription_added");
    carol.close(1000, "").await;
    let event = alice.expect("channel_event").await;
    assert_eq!((&event["event"], &event["user"]), (&json!("subscription_removed"), &json!("carol")));
}

#[tokio::test]
async fn unsubscribed_client_gets_nothing_and_stays_connected() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for encoding in Encoding::ALL {
        let mut alice = client(&server, encoding, "alice").await;
        alice.subscribe("x").await;
        let unsubscribe = json!({ "type": "unsubscribe_channel", "channel": "x" });
        assert_eq!(alice.request(unsubscribe.clone()).await.unwrap(), json!(null));
        hub.channel("x").broadcast(1).await.unwrap();
        alice.expect_nothing().await;
        assert_eq!(alice.request(unsubscribe).await.unwrap_err()["error_type"], "not_subscribed");
        let publish = json!({ "type": "channel_message", "channel": "x", "content": 1 });
        assert_eq!(alice.request(publish).await.unwrap_err()["error_type"], "not_subscribed");
        let history = json!({ "type": "history", "channel": "x" });
        assert_eq!(alice.request(history).await.unwrap_err()["error_type"], "not_subscribed");
    }
}

#[tokio::test]
async fn second_subscription_is_refused_and_the_first_stays() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut alice = subscriber(&server, "alice", "x").await;
    let again = json!({ "type": "subscribe_channel", "channel": "x" });
    assert_eq!(alice.request(again).await.unwrap_err()["error_type"], "already_subscribed");
    hub.channel("x").broadcast(1).await.unwrap();
    alice.expect("message").await;
}

#[tokio::test]
async fn repeated_key_publishes_once_and_returns_the_first_position() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for encoding in Encoding::ALL {
        let name = format!("{encoding:?}");
        let mut alice = client(&server, encoding, "alice").await;
        alice.subscribe(&name).await;
        let mut bob = subscriber(&server, "bob", &name).await;
        let message = json!({ "type": "channel_message", "channel": name, "content": 1, "key": "k" });
        let first = alice.request(message.clone()).await.unwrap();
        assert_eq!(alice.request(message.clone()).await.unwrap(), first);
        assert_eq!(first["offset"], 1);
        assert_eq!(bob.request(message).await.unwrap()["offset"], 2, "another user's key is another one");
        assert_eq!(
            [bob.expect("message").await["offset"].clone(), bob.expect("message").await["offset"].clone()],
            [1, 2]
        );
        bob.expect_nothing().await;
    }
}

#[tokio::test]
async fn private_message_reaches_only_the_connections_of_its_user() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut alice = client(&server, Encoding::Json, "alice").await;
    let mut phone = client(&server, Encoding::Json, "bob").await;
    let mut desk = client(&server, Encoding::MessagePack, "bob").await;
    let mut carol = client(&server, Encoding::Json, "carol").await;
    let message = json!({ "type": "private", "to": "bob", "message": { "text": "psst" }, "key": "p-1" });
    assert_eq!(
        alice.request(message.clone()).await.unwrap(),
        json!(null),
        "no position: the publication has no offset"
    );
    alice.request(message).await.unwrap();
    for device in [&mut phone, &mut desk] {
        let private = device.expect("private").await;
        assert_eq!((&private["from"], &private["message"]["text"]), (&json!("alice"), &json!("psst")));
        device.expect_nothing().await;
    }
    hub.user("bob").send(json!(["from", "the", "application"])).await.unwrap();
    let private = desk.expect("private").await;
    assert_eq!((private.get("from"), &private["message"][0]), (None, &json!("from")));
    carol.expect_nothing().await;
    alice.expect_nothing().await;
    let nobody = json!({ "type": "private", "to": "nobody", "message": 1 });
    assert!(alice.request(nobody).await.is_ok(), "user names cannot be probed");
}

#[tokio::test]
async fn unknown_users_are_reported_only_if_configured() {
    let hub = open_hub().unknown_users(UnknownUsers::Refused).build();
    let server = serve(&hub);
    let mut alice = client(&server, Encoding::Json, "alice").await;
    let error = alice.request(json!({ "type": "private", "to": "nobody", "message": 1 })).await.unwrap_err();
    assert_eq!(error["error_type"], "unknown_user");
    assert!(alice.request(json!({ "type": "private", "to": "alice", "message": 1 })).await.is_ok());
    alice.expect("private").await;
}

#[tokio::test]
async fn unauthorised_sender_does_not_learn_whether_a_user_is_online() {
    let hub = open_hub().unknown_users(UnknownUsers::Refused).build();
    let handler = user_handler().authorize_private(|_, request| async move {
        if request.name().starts_with("friend") {
            Ok(())
        } else {
            Err(hauyna::Reject::denied("friends alone"))
        }
    });
    let server = TestServer::start(hub, handler);
    let mut alice = client(&server, Encoding::Json, "alice").await;
    let _bob = client(&server, Encoding::Json, "bob").await;
    for (to, answer) in
        [("bob", "permission_denied"), ("nobody", "permission_denied"), ("friend", "unknown_user")]
    {
        let error = alice.request(json!({ "type": "private", "to": to, "message": 1 })).await.unwrap_err();
        assert_eq!(error["error_type"], answer, "{to}");
    }
}

#[tokio::test]
async fn broadcast_is_denied_unless_the_application_allows_it() {
    let hub = open_hub().build();
    let server = TestServer::route(hub, |router| {
        let allowed = user_handler().authorize_broadcast(|cx, _| async move {
            if cx.user() == "admin" { Ok(()) } else { Err(hauyna::Reject::denied("admins alone")) }
        });
        router.websocket("/", user_handler()).websocket("/open", allowed)
    });
    let broadcast = json!({ "type": "broadcast", "message": "all" });
    for encoding in Encoding::ALL {
        let mut alice = client(&server, encoding, "alice").await;
        let error = alice.request(broadcast.clone()).await.unwrap_err();
        assert_eq!((&error["error_type"], &error["temporary"]), (&json!("permission_denied"), &json!(false)));
        let mut eve = server.client("/open?user=eve").encoding(encoding).connect().await;
        eve.expect("session").await;
        assert_eq!(eve.request(broadcast.clone()).await.unwrap_err()["message"], "admins alone");
        let mut admin = server.client("/open?user=admin").encoding(encoding).connect().await;
        admin.expect("session").await;
        assert_eq!(admin.request(broadcast.clone()).await.unwrap(), json!(null));
        for reader in [&mut alice, &mut eve, &mut admin] {
            let message = reader.expect("broadcast").await;
            assert_eq!((&message["from"], &message["message"]), (&json!("admin"), &json!("all")));
        }
        for client in [alice, eve, admin] {
            client.close(1000, "").await;
        }
    }
}

#[tokio::test]
async fn history_returns_pages_from_both_ends_and_from_a_position() {
    let hub =
        Hub::builder().channels("x", ChannelOptions::new().history(10, Duration::from_secs(60))).build();
    let server = serve(&hub);
    for number in 1..=12 {
        hub.channel("x").broadcast(json!({ "type": "tick", "number": number })).await.unwrap();
    }
    for encoding in Encoding::ALL {
        let mut alice = client(&server, encoding, "alice").await;
        let position = alice.subscribe("x").await;
        assert_eq!(position["offset"], 12);
        let mut ask = async |more: serde_json::Value| {
            let mut request = json!({ "type": "history", "channel": "x" });
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            alice.request(request).await
        };
        let offsets = |page: &serde_json::Value| {
            let messages = page["messages"].as_array().unwrap();
            messages.iter().map(|message| message["offset"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let all = ask(json!({})).await.unwrap();
        assert_eq!(
            (&all["channel"], &all["offset"], &all["epoch"]),
            (&json!("x"), &json!(12), &position["epoch"])
        );
        assert_eq!(offsets(&all), (3..=12).collect::<Vec<_>>());
        assert_eq!((&all["messages"][0]["type"], &all["messages"][0]["number"]), (&json!("tick"), &json!(3)));
        assert_eq!(offsets(&ask(json!({ "limit": 2 })).await.unwrap()), [3, 4]);
        assert_eq!(offsets(&ask(json!({ "limit": 2, "reverse": true })).await.unwrap()), [12, 11]);
        let since = json!({ "epoch": position["epoch"], "offset": 9 });
        assert_eq!(offsets(&ask(json!({ "since": since })).await.unwrap()), [10, 11, 12]);
        assert_eq!(offsets(&ask(json!({ "since": since, "limit": 1 })).await.unwrap()), [10]);
        let back = ask(json!({ "since": since, "reverse": true, "limit": 3 })).await.unwrap();
        assert_eq!((offsets(&back), &back["oldest"]), (vec![8, 7, 6], &json!(3)));
        assert!(offsets(&ask(json!({ "limit": 0 })).await.unwrap()).is_empty());
        let old = ask(json!({ "since": { "epoch": position["epoch"], "offset": 1 } })).await.unwrap_err();
        assert_eq!(
            (&old["error_type"], &old["details"]["reason"]),
            (&json!("validation_error"), &json!("too_old"))
        );
        let other = ask(json!({ "since": { "epoch": "AAAAAAAAAAE", "offset": 10 } })).await.unwrap_err();
        assert_eq!(other["details"], json!({ "path": "since", "reason": "epoch_changed" }));
    }
}

#[tokio::test]
async fn history_limit_of_the_hub_limits_every_page() {
    let hub = open_hub().recovery_limit(5).build();
    let server = serve(&hub);
    for number in 0..20 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    let mut alice = subscriber(&server, "alice", "x").await;
    let page = alice
        .request(json!({ "type": "history", "channel": "x", "limit": 4_000_000_000_u32 }))
        .await
        .unwrap();
    assert_eq!(page["messages"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn channel_without_history_numbers_nothing() {
    let hub = Hub::builder().channels("x", ChannelOptions::new().no_history()).build();
    let server = serve(&hub);
    let mut alice = client(&server, Encoding::Json, "alice").await;
    let data = alice.subscribe("x").await;
    assert_eq!(data, json!({ "channel": "x", "recoverable": false }));
    let sent = json!({ "type": "channel_message", "channel": "x", "content": 1 });
    assert_eq!(alice.request(sent).await.unwrap(), json!(null));
    assert!(alice.expect("message").await.get("offset").is_none());
    let error = alice.request(json!({ "type": "history", "channel": "x" })).await.unwrap_err();
    assert_eq!(error["error_type"], "validation_error");
}

#[tokio::test]
async fn ping_is_always_answered_and_ack_never() {
    let hub = open_hub().build();
    let server = serve(&hub);
    for encoding in Encoding::ALL {
        let mut alice = client(&server, encoding, "alice").await;
        alice.send(json!({ "type": "ping", "id": "text" })).await;
        assert_eq!(alice.next().await, json!({ "type": "pong", "id": "text" }));
        alice.send(json!({ "type": "ping" })).await;
        assert_eq!(alice.next().await, json!({ "type": "pong" }));
        alice.send(json!({ "type": "ack", "id": "q-1", "data": 1 })).await;
        alice.expect_nothing().await;
    }
}

#[tokio::test]
async fn request_without_id_is_answered_only_if_it_fails() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut alice = client(&server, Encoding::Json, "alice").await;
    alice.send(json!({ "type": "subscribe_channel", "channel": "x" })).await;
    alice.send(json!({ "type": "private", "to": "nobody", "message": 1 })).await;
    alice.expect_nothing().await;
    alice.send(json!({ "type": "unsubscribe_channel", "channel": "other" })).await;
    let error = alice.expect("error").await;
    assert_eq!((&error["error_type"], error.get("id")), (&json!("not_subscribed"), None));
}

#[tokio::test]
async fn channel_pattern_decides_who_may_use_it() {
    let hub = Hub::builder()
        .channels(
            "own:{user}",
            ChannelOptions::new().authorize_subscribe(|cx, request| cx.user() == request["user"]),
        )
        .channels("vip:{*rest}", ChannelOptions::new().private())
        .channels("news", ChannelOptions::new().publishers(Publishers::Application))
        .build();
    let server = serve(&hub);
    let mut alice = client(&server, Encoding::Json, "alice").await;
    alice.subscribe("own:alice").await;
    alice.subscribe("news").await;
    for name in ["own:bob", "vip:alice", "undeclared", "@user:bob", "@all"] {
        let error = alice.request(json!({ "type": "subscribe_channel", "channel": name })).await.unwrap_err();
        assert_eq!(error["error_type"], "permission_denied", "{name}");
    }
    let error = alice
        .request(json!({ "type": "channel_message", "channel": "news", "content": 1 }))
        .await
        .unwrap_err();
    assert_eq!(error["error_type"], "permission_denied");
    assert_eq!(hub.stats().channels, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_keep_the_order_of_requests() {
    let handler = user_handler().on("now", async |_: hauyna::Context, _: Value| Ok(1)).on(
        "later",
        async |cx: hauyna::Context, _: Value| {
            tokio::task::yield_now().await;
            cx.channel("busy").broadcast("noise").await?;
            Ok(2)
        },
    );
    let server = Arc::new(TestServer::start(open_hub().build(), handler));
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut client = server.client(&format!("/?user={seed}")).receive_buffer(4096).connect().await;
        let mut frames = Vec::new();
        for id in 0..300 {
            let channel = ["a", "b", "busy"][random.below(3) as usize];
            let request = match random.below(8) {
                0 => json!({ "type": "ping", "id": id }),
                1 => json!({ "type": "now", "id": id }),
                2 => json!({ "type": "later", "id": id }),
                3 => json!({ "type": "unsubscribe_channel", "id": id, "channel": channel }),
                4 => json!({ "type": "history", "id": id, "channel": channel }),
                5 => json!({ "type": "channel_message", "id": id, "channel": channel, "content": id }),
                6 => json!({ "type": "nobody", "id": id }),
                _ => json!({ "type": "subscribe_channel", "id": id, "channel": channel }),
            };
            let text = request.to_string();
            hauyna_websocket::encode_into(
                &mut frames,
                hauyna_websocket::OpCode::Text,
                text.as_bytes(),
                Some([9; 4]),
            );
        }
        client.send_raw(&frames).await;
        let mut next = 0;
        while next < 300 {
            let message = client.next().await;
            if let Some(id) = message.get("id") {
                assert_eq!(*id, next, "seed {seed}: {message}");
                next += 1;
            }
        }
    }
}
