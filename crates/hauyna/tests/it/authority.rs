//! Permissions in a channel: functions of a pattern and of a handler, with the token of the request.

use crate::support::{eventually, now, session_client, session_clients, user_handler};
use hauyna::auth::Revocation;
use hauyna::channel::AccessRequest;
use hauyna::{ChannelOptions, CloseCode, Context, Handler, Hub, Presence, Publishers, Reject, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

async fn refused(client: &mut Client, request: Value) -> Value {
    client.request(request).await.unwrap_err()["error_type"].clone()
}

/// Authorises by a token `game:user`, after a simulated lookup.
async fn with_ticket(cx: Context, request: AccessRequest) -> Result<(), Reject> {
    tokio::task::yield_now().await;
    let game = request.param("id").unwrap();
    assert_eq!(request.name(), format!("game:{game}"));
    match request.token() {
        Some(token) if token == format!("{game}:{}", cx.user()) => Ok(()),
        Some("panic") => panic!("on purpose"),
        Some(_) => Err(Reject::unauthorized("a ticket of another game")),
        None => Err(Reject::denied("a ticket is needed")),
    }
}

#[tokio::test]
async fn subscription_token_allows_only_its_channel() {
    let private = ChannelOptions::new().private().authorize_subscribe(with_ticket);
    let server = TestServer::start(Hub::builder().channels("game:{id}", private).build(), user_handler());
    for mut client in session_clients(&server, "/?user=ada").await {
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
async fn authoriser_reads_typed_parameters_and_metadata() {
    #[derive(serde::Deserialize)]
    struct Device {
        kind: String,
    }
    let own_phones = async |cx: Context, request: AccessRequest| {
        if cx.user() != request["user"] {
            return Err(Reject::denied("not your channel"));
        }
        let device: Device = request.metadata()?;
        if device.kind == "phone" { Ok(()) } else { Err(Reject::denied("phones alone")) }
    };
    let channels = ChannelOptions::new().authorize_subscribe(own_phones);
    let server = TestServer::start(Hub::builder().channels("of:{user}", channels).build(), user_handler());
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

/// Allows users whose name begins with a letter.
fn letter(
    wanted: char,
) -> impl Fn(Context, AccessRequest) -> std::future::Ready<Result<(), Reject>> + Send + Sync {
    move |cx, request| {
        assert!(request.token().is_none());
        let is_allowed = cx.user().as_str().starts_with(wanted) && request.param("id") == Some("1");
        std::future::ready(if is_allowed { Ok(()) } else { Err(Reject::denied("not you")) })
    }
}

#[tokio::test]
async fn pattern_decides_who_publishes_reads_history_and_presence() {
    let channels = ChannelOptions::new()
        .presence(Presence::each())
        .publishers(Publishers::Application)
        .authorize_publish(letter('p'))
        .authorize_history(letter('h'))
        .authorize_presence(letter('w'));
    let server = TestServer::start(Hub::builder().channels("x:{id}", channels).build(), user_handler());
    let requests = [
        ('p', json!({ "type": "channel_message", "channel": "x:1", "content": 1 })),
        ('h', json!({ "type": "history", "channel": "x:1" })),
        ('w', json!({ "type": "presence", "channel": "x:1" })),
    ];
    for user in ['p', 'h', 'w'] {
        let mut client = session_client(&server, &format!("/?user={user}")).await;
        for (_, request) in &requests {
            assert_eq!(refused(&mut client, request.clone()).await, "not_subscribed");
        }
        client.subscribe("x:1").await;
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
async fn recovered_publications_need_no_history_permission() {
    let channels = ChannelOptions::new()
        .history(10, Duration::from_secs(60))
        .authorize_history(async |_, _| Err(Reject::denied("the history is not for you")));
    let hub = Hub::builder().channels("x", channels).build();
    let server = TestServer::start(hub.clone(), user_handler());
    hub.channel("x").broadcast("before").await.unwrap();
    let mut client = session_client(&server, "/?user=new").await;
    let top = client.subscribe("x").await;
    assert_eq!(refused(&mut client, json!({ "type": "history", "channel": "x" })).await, "permission_denied");
    client.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
    client.recover("x", &json!({ "epoch": top["epoch"], "offset": 0 })).await;
    assert_eq!(client.expect("message").await["content"], "before");
}

#[tokio::test]
async fn handler_authoriser_replaces_that_of_the_pattern() {
    let never = async |_: Context, _: AccessRequest| Err(Reject::denied("the pattern says no"));
    let channels = ChannelOptions::new()
        .presence(Presence::each())
        .authorize_subscribe(never)
        .authorize_history(never)
        .authorize_presence(never)
        .authorize_publish(never);
    let only_ada = async |cx: Context, request: AccessRequest| {
        assert_eq!(request.name(), "x");
        if cx.user() == "ada" { Ok(()) } else { Err(Reject::denied("the handler says no")) }
    };
    let handler = user_handler()
        .authorize_subscribe(async |_, _| Ok(()))
        .authorize_history(only_ada)
        .authorize_presence(only_ada)
        .authorize_publish(only_ada);
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = TestServer::start(hub, handler);
    for (user, is_allowed) in [("ada", true), ("bob", false)] {
        let mut client = session_client(&server, &format!("/?user={user}")).await;
        client.subscribe("x").await;
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
async fn connection_that_unsubscribes_during_authorisation_neither_reads_nor_publishes() {
    let at_once = |cx: Context, request: AccessRequest| {
        let unsubscribe = || cx.unsubscribe(request.name()).map_err(|_| Reject::invalid("gone"));
        std::thread::scope(|scope| scope.spawn(unsubscribe).join().unwrap())
    };
    let first = move |cx: Context, request: AccessRequest| std::future::ready(at_once(cx, request));
    let later = move |cx: Context, request: AccessRequest| async move { at_once(cx, request) };
    let channels = || ChannelOptions::new().history(10, Duration::from_secs(60));
    for channels in [
        channels().authorize_history(at_once).authorize_publish(at_once),
        channels().authorize_history(first).authorize_publish(first),
        channels().authorize_history(later).authorize_publish(later),
    ] {
        let server = TestServer::start(Hub::builder().channels("x", channels).build(), user_handler());
        let mut client = server.connect("/?user=ada").await;
        for request in [
            json!({ "type": "channel_message", "channel": "x", "content": 1 }),
            json!({ "type": "history", "channel": "x" }),
        ] {
            client.subscribe("x").await;
            assert_eq!(refused(&mut client, request).await, "not_subscribed");
        }
    }
}

/// Permits everything, and ends the rights of the client that asks before it says so.
fn ends_rights(cx: &Context) -> bool {
    cx.connection().is_open() && now(cx.hub().user(cx.user()).disconnect(CloseCode::REVOKED, "")) == 1
}

#[tokio::test]
async fn client_that_loses_its_rights_during_authorisation_changes_nothing() {
    let at_once = |cx: Context, _: AccessRequest| ends_rights(&cx);
    let first = |cx: Context, _: AccessRequest| std::future::ready(ends_rights(&cx));
    let update = |cx: Context, request: AccessRequest| !request.is_update() || ends_rights(&cx);
    let handler = |form| {
        let handler = user_handler();
        match form {
            0 => handler
                .authorize_publish(at_once)
                .authorize_private(at_once)
                .authorize_group(at_once)
                .authorize_broadcast(at_once),
            _ => handler
                .authorize_publish(first)
                .authorize_private(first)
                .authorize_group(first)
                .authorize_broadcast(first),
        }
    };
    for form in 0..2 {
        let channels = ChannelOptions::new().presence(Presence::each());
        let channels = channels.authorize_subscribe(update);
        let hub = Hub::builder().channels("x", channels).presence_grace(Duration::ZERO).build();
        let server = TestServer::start(hub.clone(), handler(form));
        hub.groups().add("bob", "g").await.unwrap();
        let mut bob = server.json("/?user=bob").await;
        bob.expect("session").await;
        bob.subscribe("x").await;
        bob.expect("presence_state").await;
        for request in [
            json!({ "type": "channel_message", "channel": "x", "content": "late" }),
            json!({ "type": "private", "to": "bob", "message": "late" }),
            json!({ "type": "group", "room": "g", "message": "late" }),
            json!({ "type": "broadcast", "message": "late" }),
            json!({ "type": "update_presence", "channel": "x", "metadata": { "note": "late" } }),
        ] {
            let mut eve = server.json("/?user=eve").await;
            eve.expect("session").await;
            eve.subscribe("x").await;
            bob.expect_presence("join", "eve").await;
            let refused = hub.stats().refused;
            eve.send(request.clone()).await;
            assert_eq!(eve.expect_close().await.0, 3505);
            eve.vanish();
            eventually("it is refused", || hub.stats().refused > refused).await;
            let got = bob.next().await;
            assert_eq!((&got["event"], &got["user"]), (&json!("leave"), &json!("eve")), "{request}: {got}");
            bob.expect_nothing().await;
        }
    }
}

/// A way in which the application ends a client's rights.
type End<'a> = &'a dyn Fn(&Hub);

#[tokio::test]
async fn waiting_requests_fail_after_the_rights_are_gone() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = || {
        let gate = gate.clone();
        move |_: Context, _: AccessRequest| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.map_err(|_| Reject::denied("closed"))?.forget();
                Ok(())
            }
        }
    };
    let handler = user_handler()
        .authorize_publish(waits())
        .authorize_private(waits())
        .authorize_group(waits())
        .authorize_broadcast(waits());
    let hub = Hub::builder().channels("x", ChannelOptions::new()).build();
    let server = TestServer::route(hub.clone(), |router| {
        router.websocket("/", user_handler()).websocket("/slow", handler)
    });
    hub.groups().add("bob", "g").await.unwrap();
    let mut bob = session_client(&server, "/?user=bob").await;
    bob.subscribe("x").await;
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
            let mut eve = session_client(&server, "/slow?user=eve").await;
            eve.subscribe("x").await;
            let (requests, refused) = (hub.stats().requests, hub.stats().refused);
            eve.send(request.clone()).await;
            eventually("the authoriser runs", || hub.stats().requests > requests).await;
            end(&hub);
            assert_eq!(eve.expect_close().await.0, code);
            gate.add_permits(1);
            if how == "moved" {
                let got = bob.next().await;
                assert!(got["content"] == how || got["message"] == how, "{request}: {got}");
            } else {
                eventually("the request is refused", || hub.stats().refused > refused).await;
                bob.expect_nothing().await;
            }
        }
    }
}

#[tokio::test]
async fn pattern_matches_names_that_contain_its_literal_twice() {
    let hub = Hub::builder()
        .channels("{team}-private", ChannelOptions::new().private())
        .channels("{*any}", ChannelOptions::new())
        .build();
    let server = TestServer::start(hub, Handler::new());
    let mut client = session_client(&server, "/").await;
    for name in ["a-private", "a-private-private", "--private"] {
        let request = json!({ "type": "subscribe_channel", "channel": name });
        let refusal = client.request(request).await.unwrap_err();
        assert_eq!(refusal["error_type"], "permission_denied", "{name}");
    }
    client.subscribe("-private").await;
}

/// Returns options whose authoriser decides by the user's name, in each accepted form.
fn in_each_form(options: ChannelOptions, form: usize) -> ChannelOptions {
    let is_ada = |cx: &Context| cx.user() == "ada";
    let result = move |cx: &Context| if is_ada(cx) { Ok(()) } else { Err(Reject::denied("not you")) };
    match form {
        0 => options.authorize_publish(move |cx, _| is_ada(&cx)),
        1 => options.authorize_publish(move |cx, _| result(&cx)),
        2 => options.authorize_publish(move |cx, _| async move { is_ada(&cx) }),
        _ => options.authorize_publish(move |cx, _| async move { result(&cx) }),
    }
}

#[tokio::test]
async fn authorisers_return_bool_or_result_and_override_publishers() {
    for form in 0..4 {
        let options = in_each_form(ChannelOptions::new().publishers(Publishers::Application), form);
        let hub = Hub::builder().channels("x", options).build();
        let server = TestServer::start(hub, user_handler());
        for (user, is_allowed) in [("ada", true), ("bob", false)] {
            let mut client = server.connect(&format!("/?user={user}")).await;
            client.subscribe("x").await;
            let request = json!({ "type": "channel_message", "channel": "x", "content": 1 });
            let result = client.request(request).await.map(drop).map_err(|error| error["error_type"].clone());
            let expected = if is_allowed { Ok(()) } else { Err(json!("permission_denied")) };
            assert_eq!(result, expected, "{form} {user}");
        }
    }
}

#[tokio::test]
async fn authoriser_sees_content_and_subscription_metadata() {
    let is_fine = |_: Context, request: AccessRequest| {
        let (content, metadata): (Value, Value) = (request.content()?, request.metadata()?);
        let seen = json!([request.name(), content, metadata]);
        Err::<(), _>(Reject::denied("as you say").with_details(seen))
    };
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
    let handler = user_handler()
        .authorize_publish(is_fine)
        .authorize_history(is_fine)
        .authorize_private(is_fine)
        .authorize_group(is_fine)
        .authorize_broadcast(is_fine);
    let server = TestServer::start(hub, handler);
    for mut client in session_clients(&server, "/?user=ada").await {
        let request =
            json!({ "type": "subscribe_channel", "channel": "room:1", "metadata": { "device": "phone" } });
        client.request(request).await.unwrap();
        for (request, seen) in [
            (
                json!({ "type": "channel_message", "channel": "room:1", "content": { "n": 1 } }),
                json!(["room:1", { "n": 1 }, { "device": "phone" }]),
            ),
            (
                json!({ "type": "history", "channel": "room:1" }),
                json!(["room:1", null, { "device": "phone" }]),
            ),
            (json!({ "type": "private", "to": "bob", "message": "hi" }), json!(["bob", "hi", null])),
            (json!({ "type": "group", "room": "team", "message": [2] }), json!(["team", [2], null])),
            (json!({ "type": "broadcast", "message": 3 }), json!(["", 3, null])),
        ] {
            assert_eq!(client.request(request).await.unwrap_err()["details"], seen);
        }
    }
}

#[tokio::test]
async fn faults_of_a_decoded_field_name_the_field() {
    #[derive(serde::Deserialize)]
    struct Note {
        #[expect(dead_code, reason = "only read")]
        text: String,
    }
    let reads = |_: Context, request: AccessRequest| request.content::<Note>().map(drop);
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new()).build();
    let server = TestServer::start(hub, user_handler().authorize_publish(reads).authorize_broadcast(reads));
    let mut client = session_client(&server, "/?user=ada").await;
    client.subscribe("room:1").await;
    let publish =
        |content: Value| json!({ "type": "channel_message", "channel": "room:1", "content": content });
    let broadcast = |message: Value| json!({ "type": "broadcast", "message": message });
    for (request, path, text) in [
        (publish(json!("x")), "content", "`content` is not a valid object"),
        (publish(json!({})), "content.text", "`content.text` is missing"),
        (publish(json!({ "text": 7 })), "content.text", "`content.text` is not a valid string"),
        (broadcast(json!("x")), "message", "`message` is not a valid object"),
    ] {
        let error = client.request(request).await.unwrap_err();
        assert_eq!((&error["details"]["path"], &error["message"]), (&json!(path), &json!(text)));
    }
}

#[tokio::test]
async fn subscription_authoriser_also_decides_about_new_metadata() {
    let calm = |_: Context, request: AccessRequest| {
        request.metadata::<Value>().is_ok_and(|metadata| metadata["mood"] != "loud")
    };
    let open = || ChannelOptions::new().presence(Presence::each());
    let later = move |cx: Context, request: AccessRequest| async move { calm(cx, request) };
    for (options, handler) in [
        (open().authorize_subscribe(calm), user_handler()),
        (open().authorize_subscribe(later), user_handler()),
        (open(), user_handler().authorize_subscribe(calm)),
    ] {
        let server = TestServer::start(Hub::builder().channels("room:{id}", options).build(), handler);
        let mut client = session_client(&server, "/?user=ada").await;
        let ask = |kind: &str, mood: &str| json!({ "type": kind, "channel": "room:1", "metadata": { "mood": mood } });
        assert_eq!(refused(&mut client, ask("subscribe_channel", "loud")).await, "permission_denied");
        client.request(ask("subscribe_channel", "calm")).await.unwrap();
        assert_eq!(refused(&mut client, ask("update_presence", "loud")).await, "permission_denied");
        client.request(ask("update_presence", "quiet")).await.unwrap();
    }
}

#[tokio::test]
async fn panicking_authoriser_fails_only_its_request() {
    let options = ChannelOptions::new()
        .authorize_subscribe(|_, request| request["no such parameter"] == *"x")
        .authorize_publish(|_, _| -> bool { panic!("on purpose") });
    let hub = Hub::builder().channels("x", options).channels("{*any}", ChannelOptions::new()).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = server.connect("/?user=ada").await;
    let request = json!({ "type": "subscribe_channel", "channel": "x" });
    assert_eq!(refused(&mut client, request).await, "internal_error");
    hub.channel("x").subscribe(&hub.user("ada").connections()[0], ()).await.unwrap();
    let request = json!({ "type": "channel_message", "channel": "x", "content": 1 });
    assert_eq!(refused(&mut client, request).await, "internal_error");
    assert_eq!(hub.stats().panics, 2);
    client.subscribe("y").await;
}

#[tokio::test]
async fn messages_sent_by_an_authoriser_arrive_before_the_answer() {
    let at_once = |cx: Context, request: AccessRequest| {
        cx.connection().send(json!({ "type": "note" })).unwrap();
        assert_ne!(request.name(), "z", "on purpose");
        request.name() == "x"
    };
    let first = move |cx: Context, request: AccessRequest| {
        let is_allowed = at_once(cx, request);
        async move { is_allowed }
    };
    let later = move |cx: Context, request: AccessRequest| async move { at_once(cx, request) };
    for handler in [
        user_handler().authorize_history(at_once),
        user_handler().authorize_history(first),
        user_handler().authorize_history(later),
    ] {
        let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).build();
        let server = TestServer::start(hub, handler);
        let mut client = session_client(&server, "/?user=ada").await;
        for (channel, answer) in [("x", "ack"), ("y", "error"), ("z", "error")] {
            client.subscribe(channel).await;
            client.send(json!({ "type": "history", "channel": channel, "id": 1 })).await;
            assert_eq!(client.next().await["type"], "note");
            assert_eq!(client.next().await["type"], answer);
        }
    }
}

#[tokio::test]
async fn subscription_ended_during_its_authorisation_is_refused() {
    for closes_channel in [false, true] {
        let (entered, decides) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (enters, may_decide) = (entered.clone(), decides.clone());
        let authorise = move |_: Context, _: AccessRequest| {
            let (enters, may_decide) = (enters.clone(), may_decide.clone());
            async move {
                enters.add_permits(1);
                may_decide.acquire().await.unwrap().forget();
                true
            }
        };
        let channels = ChannelOptions::new().authorize_subscribe(authorise);
        let hub = Hub::builder().channels("c", channels).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let mut client = session_client(&server, "/?user=ann").await;
        client.send(json!({ "type": "subscribe_channel", "channel": "c", "id": 1 })).await;
        entered.acquire().await.unwrap().forget();
        let connection = hub.user("ann").connections().pop().unwrap();
        if closes_channel {
            hub.channel("c").close().await;
        } else {
            assert!(hub.channel("c").unsubscribe(&connection).is_err(), "it is not subscribed yet");
            assert!(hub.channel("other").unsubscribe(&connection).is_err());
        }
        decides.add_permits(1);
        assert_eq!(client.expect("error").await["error_type"], "permission_denied");
        assert_eq!(hub.channel("c").subscription_count(), 0);
        // The next one is a new decision.
        decides.add_permits(1);
        client.subscribe("c").await;
        assert_eq!(hub.channel("c").subscription_count(), 1);
    }
}
