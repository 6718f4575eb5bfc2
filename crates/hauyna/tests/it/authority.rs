//! Permissions in a channel: functions of a pattern and of a handler, with the token of the request.

use crate::support::{eventually, named, now, recover, subscribe};
use hauyna::auth::Revocation;
use hauyna::channel::ChannelRequest;
use hauyna::{ChannelOptions, CloseCode, Context, Handler, Hub, Presence, Publishers, Reject, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

async fn refused(client: &mut Client, request: Value) -> Value {
    client.request(request).await.unwrap_err()["error_type"].clone()
}

/// The token is `game:user`; it takes a moment to look it up.
async fn with_ticket(cx: Context, request: ChannelRequest) -> Result<(), Reject> {
    tokio::task::yield_now().await;
    let game = request.param("id").unwrap();
    assert_eq!(request.channel(), format!("game:{game}"));
    match request.token() {
        Some(token) if token == format!("{game}:{}", cx.user()) => Ok(()),
        Some("panic") => panic!("on purpose"),
        Some(_) => Err(Reject::unauthorized("a ticket of another game")),
        None => Err(Reject::denied("a ticket is needed")),
    }
}

#[tokio::test]
async fn a_token_of_the_subscription_allows_its_channel_alone() {
    let private = ChannelOptions::new().private().authorize_subscribe(with_ticket);
    let server = TestServer::start(Hub::builder().channels("game:{id}", private).build(), named());
    for mut client in [server.json("/?user=ada").await, server.message_pack("/?user=ada").await] {
        client.expect("session").await;
        let ask = |channel: &str, token: Option<&str>| {
            let mut request = json!({ "type": "subscribe_channel", "channel": channel });
            if let Some(token) = token {
                request["token"] = token.into();
            }
            request
        };
        assert_eq!(refused(&mut client, ask("game:7", None)).await, "permission_denied");
        assert_eq!(refused(&mut client, ask("game:7", Some("8:ada"))).await, "unauthorized");
        assert_eq!(refused(&mut client, ask("game:7", Some("7:eve"))).await, "unauthorized");
        assert_eq!(refused(&mut client, ask("game:7", Some("panic"))).await, "internal_error");
        assert_eq!(refused(&mut client, ask("other", Some("7:ada"))).await, "permission_denied");
        assert_eq!(client.request(ask("game:7", Some("7:ada"))).await.unwrap()["channel"], "game:7");
    }
}

#[tokio::test]
async fn an_authoriser_reads_metadata_as_a_type_and_both_kinds_must_allow() {
    #[derive(serde::Deserialize)]
    struct Device {
        kind: String,
    }
    let phones = async |_: Context, request: ChannelRequest| {
        let device: Device = request.metadata()?;
        if device.kind == "phone" { Ok(()) } else { Err(Reject::denied("phones alone")) }
    };
    let channels = ChannelOptions::new()
        .authorize(|who, params| who.user() == params["user"])
        .authorize_subscribe(phones);
    let server = TestServer::start(Hub::builder().channels("of:{user}", channels).build(), named());
    let mut client = server.connect("/?user=ada").await;
    let ask = |channel: &str, metadata: Value| json!({ "type": "subscribe_channel", "channel": channel, "metadata": metadata });
    assert_eq!(refused(&mut client, ask("of:eve", json!({ "kind": "phone" }))).await, "permission_denied");
    assert_eq!(refused(&mut client, ask("of:ada", json!({ "kind": "tv" }))).await, "permission_denied");
    let error = client.request(ask("of:ada", json!({ "kind": 7 }))).await.unwrap_err();
    assert_eq!(
        (&error["error_type"], &error["details"]["path"]),
        (&json!("validation_error"), &json!("metadata.kind"))
    );
    client.request(ask("of:ada", json!({ "kind": "phone" }))).await.unwrap();
}

/// Allows it to those whose name begins with a letter.
fn letter(
    wanted: char,
) -> impl Fn(Context, ChannelRequest) -> std::future::Ready<Result<(), Reject>> + Send + Sync {
    move |cx, request| {
        assert!(request.token().is_none());
        let is_allowed = cx.user().as_str().starts_with(wanted) && request.param("id") == Some("1");
        std::future::ready(if is_allowed { Ok(()) } else { Err(Reject::denied("not you")) })
    }
}

#[tokio::test]
async fn a_pattern_says_who_publishes_reads_the_history_and_asks_for_presence() {
    let channels = ChannelOptions::new()
        .presence(Presence::each())
        .publishers(Publishers::Application)
        .authorize_publish(letter('p'))
        .authorize_history(letter('h'))
        .authorize_presence(letter('w'));
    let server = TestServer::start(Hub::builder().channels("x:{id}", channels).build(), named());
    let requests = [
        ('p', json!({ "type": "channel_message", "channel": "x:1", "content": 1 })),
        ('h', json!({ "type": "history", "channel": "x:1" })),
        ('w', json!({ "type": "presence", "channel": "x:1" })),
    ];
    for user in ['p', 'h', 'w'] {
        let mut client = server.json(&format!("/?user={user}")).await;
        client.expect("session").await;
        for (_, request) in &requests {
            assert_eq!(refused(&mut client, request.clone()).await, "not_subscribed");
        }
        subscribe(&mut client, "x:1").await;
        for (allowed, request) in &requests {
            let result = client.request(request.clone()).await;
            match result {
                Ok(_) => assert_eq!(*allowed, user),
                Err(error) => {
                    assert_ne!(*allowed, user, "{error}");
                    assert_eq!(error["error_type"], "permission_denied");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_recovery_replays_is_part_of_the_subscription() {
    let channels = ChannelOptions::new()
        .history(10, Duration::from_secs(60))
        .authorize_history(async |_, _| Err(Reject::denied("the history is not for you")));
    let hub = Hub::builder().channels("x", channels).build();
    let server = TestServer::start(hub.clone(), named());
    hub.channel("x").broadcast("before").await.unwrap();
    let mut client = server.json("/?user=new").await;
    client.expect("session").await;
    let top = subscribe(&mut client, "x").await;
    assert_eq!(refused(&mut client, json!({ "type": "history", "channel": "x" })).await, "permission_denied");
    client.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
    recover(&mut client, "x", &json!({ "epoch": top["epoch"], "offset": 0 })).await;
    assert_eq!(client.expect("message").await["content"], "before");
}

#[tokio::test]
async fn what_the_handler_says_stands_instead_of_the_pattern() {
    let never = async |_: Context, _: ChannelRequest| Err(Reject::denied("the pattern says no"));
    let channels = ChannelOptions::new()
        .presence(Presence::each())
        .authorize_subscribe(never)
        .authorize_history(never)
        .authorize_presence(never)
        .authorize_publish(never);
    let only_ada = async |cx: Context, channel: String| {
        assert_eq!(channel, "x");
        if cx.user() == "ada" { Ok(()) } else { Err(Reject::denied("the handler says no")) }
    };
    let handler = named()
        .authorize_subscribe(async |_, _| Ok(()))
        .authorize_history(only_ada)
        .authorize_presence(only_ada)
        .authorize_publish(only_ada);
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = TestServer::start(hub, handler);
    for (user, is_allowed) in [("ada", true), ("bob", false)] {
        let mut client = server.json(&format!("/?user={user}")).await;
        client.expect("session").await;
        subscribe(&mut client, "x").await;
        for request in [
            json!({ "type": "channel_message", "channel": "x", "content": 1 }),
            json!({ "type": "history", "channel": "x" }),
            json!({ "type": "presence", "channel": "x" }),
        ] {
            let result = client.request(request).await;
            assert_eq!(result.is_ok(), is_allowed, "{user}: {result:?}");
            assert!(result.is_ok() || result.unwrap_err()["message"] == "the handler says no");
        }
    }
}

#[tokio::test]
async fn who_leaves_while_it_is_asked_does_not_read_or_publish() {
    let slow = async |cx: Context, request: ChannelRequest| {
        cx.unsubscribe(request.channel()).map_err(|_| Reject::invalid("gone"))?;
        Ok(())
    };
    let channels = ChannelOptions::new().history(10, Duration::from_secs(60));
    let channels = channels.authorize_history(slow).authorize_publish(slow);
    let server = TestServer::start(Hub::builder().channels("x", channels).build(), named());
    let mut client = server.connect("/?user=ada").await;
    for request in [
        json!({ "type": "channel_message", "channel": "x", "content": 1 }),
        json!({ "type": "history", "channel": "x" }),
    ] {
        subscribe(&mut client, "x").await;
        assert_eq!(refused(&mut client, request).await, "not_subscribed");
    }
}

/// How the application ends a client's rights.
type End<'a> = &'a dyn Fn(&Hub);

#[tokio::test]
async fn what_waits_for_a_permission_is_not_done_after_the_rights_are_gone() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = || {
        let gate = gate.clone();
        move |_: Context, _: String| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.map_err(|_| Reject::denied("closed"))?.forget();
                Ok(())
            }
        }
    };
    let broadcast = waits();
    let handler = named()
        .authorize_publish(waits())
        .authorize_private(waits())
        .authorize_group(waits())
        .authorize_broadcast(move |cx| broadcast(cx, String::new()));
    let hub = Hub::builder().channels("x", ChannelOptions::new()).build();
    let server =
        TestServer::route(hub.clone(), |router| router.websocket("/", named()).websocket("/slow", handler));
    hub.groups().add("bob", "g").await.unwrap();
    let mut bob = server.json("/?user=bob").await;
    bob.expect("session").await;
    subscribe(&mut bob, "x").await;
    let ends: [(&str, u16, End<'_>); 4] = [
        ("revoked", 3505, &|hub| {
            now(hub.revoke(Revocation::user("eve")));
        }),
        ("disconnected", 3505, &|hub| {
            now(hub.user("eve").disconnect(CloseCode::REVOKED, ""));
        }),
        ("expired", 3005, &|hub| hub.user("eve").connections()[0].set_expiry(Some(SystemTime::now()))),
        ("moved", 4000, &|hub| hub.user("eve").connections()[0].close(CloseCode(4000), "come back")),
    ];
    for (how, code, end) in ends {
        for request in [
            json!({ "type": "channel_message", "channel": "x", "content": how }),
            json!({ "type": "private", "to": "bob", "message": how }),
            json!({ "type": "group", "room": "g", "message": how }),
            json!({ "type": "broadcast", "message": how }),
        ] {
            let mut eve = server.json("/slow?user=eve").await;
            eve.expect("session").await;
            subscribe(&mut eve, "x").await;
            let (requests, refused) = (hub.stats().requests, hub.stats().refused);
            eve.send(request.clone()).await;
            eventually("it is asked", || hub.stats().requests > requests).await;
            end(&hub);
            assert_eq!(eve.expect_close().await.0, code);
            gate.add_permits(1);
            if how == "moved" {
                let got = bob.next().await;
                assert!(got["content"] == how || got["message"] == how, "{request}: {got}");
            } else {
                eventually("it is refused", || hub.stats().refused > refused).await;
                bob.expect_nothing().await;
            }
        }
    }
}

#[tokio::test]
async fn a_pattern_decides_about_names_that_have_its_literal_twice() {
    let hub = Hub::builder()
        .channels("{team}-private", ChannelOptions::new().private())
        .channels("{*any}", ChannelOptions::new())
        .build();
    let server = TestServer::start(hub, Handler::new());
    let mut client = server.json("/").await;
    client.expect("session").await;
    for name in ["a-private", "a-private-private", "--private"] {
        let request = json!({ "type": "subscribe_channel", "channel": name });
        let refusal = client.request(request).await.unwrap_err();
        assert_eq!(refusal["error_type"], "permission_denied", "{name}");
    }
    client.subscribe("-private").await;
}
