//! Client events: recipients, refusals, rates, and that they never count against slow consumers.

use crate::sessions::{lose, resume};
use crate::support::{failing_broker, packet, session_client, subscriber, user_handler};
use hauyna::channel::ClientEvents;
use hauyna::events::SystemKind;
use hauyna::groups::Roles;
use hauyna::handler::{RateLimit, Recovery};
use hauyna::{ChannelOptions, CloseCode, Hub, Publishers, Rate, Reject, SlowConsumer, json};
use hauyna_test::{Client, TestServer};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Deserialize)]
struct Cursor {
    #[allow(dead_code, reason = "it is decoded to be checked")]
    x: f64,
}

fn cursors() -> ClientEvents {
    ClientEvents::new().event("cursor", 1000).event("typing", 5)
}

fn rooms(events: ClientEvents) -> Hub {
    Hub::builder().channels("room:{id}", ChannelOptions::new().client_events(events)).build()
}

fn cursor(x: u64) -> Value {
    json!({ "type": "client_event", "channel": "room:7", "event": "cursor", "data": { "x": x } })
}

fn typing() -> Value {
    json!({ "type": "client_event", "channel": "room:7", "event": "typing" })
}

async fn refused(client: &mut Client, request: Value) -> Value {
    client.request(request.clone()).await.expect_err(&request.to_string())
}

#[tokio::test]
async fn client_event_reaches_all_subscribers_except_the_sender_in_every_encoding() {
    let hub = rooms(cursors());
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = subscriber(&server, "ann", "room:7").await;
    let mut tab = subscriber(&server, "ann", "room:7").await;
    let mut packed = server.message_pack("/?user=bob").await;
    packed.expect("session").await;
    packed.subscribe("room:7").await;
    let mut plain = server.connect("/?user=carol").await;
    plain.subscribe("room:7").await;
    let mut other = subscriber(&server, "dave", "room:8").await;

    ann.send(cursor(1)).await;
    ann.send(typing()).await;
    for client in [&mut tab, &mut packed, &mut plain] {
        let expected = json!({ "type": "client_event", "channel": "room:7", "event": "cursor", "user": "ann", "data": { "x": 1 } });
        assert_eq!(client.next().await, expected);
        let expected =
            json!({ "type": "client_event", "channel": "room:7", "event": "typing", "user": "ann" });
        assert_eq!(client.next().await, expected);
    }
    packed.send(cursor(2)).await;
    for client in [&mut ann, &mut tab, &mut plain] {
        let event = client.expect("client_event").await;
        assert_eq!((&event["user"], &event["data"]), (&json!("bob"), &json!({ "x": 2 })));
    }
    // A request with an `id` gets an answer without data.
    assert_eq!(plain.request(cursor(3)).await.unwrap(), Value::Null);
    assert_eq!(ann.expect("client_event").await["data"]["x"], 3);
    ann.expect_nothing().await;
    other.expect_nothing().await;
    let stats = hub.stats();
    assert_eq!((stats.client_events, stats.client_events_dropped, stats.dropped), (4, 0, 0));
}

#[tokio::test]
async fn client_event_has_no_offset_and_is_not_in_the_history() {
    let server = TestServer::start(rooms(cursors()), user_handler());
    let mut ann = subscriber(&server, "ann", "room:7").await;
    ann.request(cursor(1)).await.unwrap();
    let first = ann.request(json!({ "type": "channel_message", "channel": "room:7", "content": 1 })).await;
    assert_eq!(first.unwrap()["offset"], 1);
    assert_eq!(ann.expect("message").await["offset"], 1);
    ann.request(cursor(2)).await.unwrap();
    let history = ann.request(json!({ "type": "history", "channel": "room:7" })).await.unwrap();
    assert_eq!((&history["offset"], history["messages"].as_array().unwrap().len()), (&json!(1), 1));
}

#[tokio::test]
async fn subscriber_learns_which_events_it_may_send() {
    let hub = rooms(ClientEvents::new().event("cursor", 20).event("typing", 5));
    let server = TestServer::start(hub.clone(), user_handler());
    let expected = json!({ "cursor": 20, "typing": 5 });
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    assert_eq!(ann.subscribe("room:7").await["client_events"], expected);
    let connection = hub.connections().of_user("ann").remove(0);
    hub.channel("room:8").subscribe(&connection, ()).await.unwrap();
    assert_eq!(ann.expect("subscribed").await["client_events"], expected);
    hub.channel("free").subscribe(&connection, ()).await.unwrap();
    assert_eq!(ann.expect("subscribed").await.get("client_events"), None);
    let shown = hub.inspect().channel("room:7").await.unwrap().options.client_events;
    assert_eq!(json!(shown), expected);

    ann.vanish();
    let token = session["resume"]["token"].as_str().unwrap();
    let mut resume = server.client(&format!("/?user=ann&resume={token}")).json().connect().await;
    resume.send(json!({ "type": "resume" })).await;
    let session = resume.expect("session").await;
    let of = |name: &str| {
        let all = session["subscriptions"].as_array().unwrap();
        all.iter().find(|one| one["channel"] == name).unwrap().clone()
    };
    assert_eq!(of("room:7")["client_events"], expected);
    assert_eq!(of("free").get("client_events"), None);
}

#[tokio::test]
async fn undeclared_events_and_events_without_subscription_are_refused() {
    let hub = Hub::builder()
        .channels("room:{id}", ChannelOptions::new().client_events(cursors()))
        .channels("{*any}", ChannelOptions::new())
        .build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = subscriber(&server, "ann", "general").await;
    assert_eq!(refused(&mut ann, cursor(1)).await["error_type"], "not_subscribed");
    ann.subscribe("room:7").await;
    let unknown = json!({ "type": "client_event", "channel": "room:7", "event": "shout" });
    assert_eq!(refused(&mut ann, unknown.clone()).await["error_type"], "permission_denied");
    let elsewhere = json!({ "type": "client_event", "channel": "general", "event": "cursor" });
    assert_eq!(refused(&mut ann, elsewhere).await["error_type"], "permission_denied");
    ann.send(unknown).await;
    let error = ann.expect("error").await;
    assert_eq!((&error["error_type"], error.get("id")), (&json!("permission_denied"), None));
    assert_eq!(error["message"], r#"clients do not send the event "shout" in the channel "room:7""#);
    ann.send(json!({ "type": "client_event", "channel": "room:7", "event": "\u{7}é".repeat(10_000) })).await;
    assert!(ann.expect("error").await["message"].as_str().unwrap().len() < 1_000);
    assert_eq!(hub.stats().client_events, 0);
}

#[tokio::test]
async fn failing_event_authoriser_affects_only_its_event() {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let events = ClientEvents::new().event_of::<Cursor>("cursor", 1000).event("typing", 1000).on_event(
        move |cx, event| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(event.channel(), "room:7");
            match (event.name(), cx.user().as_str()) {
                ("typing", "eve") => Err(Reject::denied("not eve")),
                ("typing", "mallory") => panic!("sent by the application"),
                ("typing", _) => event.data::<()>(),
                _ => Ok(()),
            }
        },
    );
    let hub = rooms(events);
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = subscriber(&server, "ann", "room:7").await;
    let mut eve = subscriber(&server, "eve", "room:7").await;
    let mut mallory = subscriber(&server, "mallory", "room:7").await;
    let wrong =
        json!({ "type": "client_event", "channel": "room:7", "event": "cursor", "data": { "x": "far" } });
    let error = refused(&mut eve, wrong).await;
    assert_eq!(
        (&error["error_type"], &error["details"]["path"]),
        (&json!("validation_error"), &json!("data.x"))
    );
    assert_eq!(seen.load(Ordering::Relaxed), 0, "names of invalid form are not repeated");
    assert_eq!(refused(&mut eve, typing()).await["error_type"], "permission_denied");
    assert_eq!(refused(&mut mallory, typing()).await["error_type"], "internal_error");
    mallory.request(cursor(1)).await.unwrap();
    ann.request(typing()).await.unwrap();
    assert_eq!(ann.expect("client_event").await["user"], "mallory");
    ann.expect_nothing().await;
    assert_eq!((seen.load(Ordering::Relaxed), hub.stats().panics), (4, 1));
}

#[tokio::test]
async fn declared_client_events_ignore_the_rules_for_publications() {
    let asked = Arc::new(AtomicU64::new(0));
    let (rules, checks) = (asked.clone(), asked.clone());
    let channels = ChannelOptions::new()
        .publishers(Publishers::Application)
        .authorize_publish(move |_, _| {
            rules.fetch_add(1, Ordering::Relaxed);
            async { Err(Reject::denied("nobody publishes")) }
        })
        .validate(move |_: &str, _: &Value| {
            checks.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .rate_limit(Rate::new(1, Duration::from_secs(3600)))
        .client_events(cursors());
    let hub = Hub::builder().channels("room:{id}", channels).build();
    let server = TestServer::start(hub, user_handler());
    let mut ann = subscriber(&server, "ann", "room:7").await;
    let mut bob = subscriber(&server, "bob", "room:7").await;
    for x in 1..=3 {
        ann.request(cursor(x)).await.unwrap();
        assert_eq!(bob.expect("client_event").await["data"]["x"], x);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let publish = json!({ "type": "channel_message", "channel": "room:7", "content": 1 });
    assert_eq!(refused(&mut ann, publish).await["error_type"], "permission_denied");
}

#[tokio::test(start_paused = true)]
async fn each_event_type_has_its_rate_which_resubscribing_keeps() {
    let hub = rooms(ClientEvents::new().event("cursor", 20).event("typing", 2));
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = subscriber(&server, "ann", "room:7").await;
    for _ in 0..2 {
        ann.request(typing()).await.unwrap();
    }
    let error = refused(&mut ann, typing()).await;
    assert_eq!((&error["error_type"], &error["temporary"]), (&json!("rate_limited"), &json!(true)));
    let wait = error["details"]["retry_after"].as_u64().unwrap();
    assert!((1..=500).contains(&wait), "{wait} ms");
    ann.request(cursor(1)).await.unwrap();
    ann.request(json!({ "type": "unsubscribe_channel", "channel": "room:7" })).await.unwrap();
    ann.subscribe("room:7").await;
    assert_eq!(refused(&mut ann, typing()).await["error_type"], "rate_limited");
    ann.subscribe("room:8").await;
    let elsewhere = json!({ "type": "client_event", "channel": "room:8", "event": "typing" });
    ann.request(elsewhere).await.unwrap();
    hauyna_test::advance(Duration::from_secs(2)).await;
    ann.request(typing()).await.unwrap();
}

#[tokio::test]
async fn resuming_the_session_resets_no_rate() {
    let hub = rooms(ClientEvents::new().event("typing", 1));
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = server.json("/?user=ann").await;
    let mut session = ann.expect("session").await;
    ann.subscribe("room:7").await;
    ann.request(typing()).await.unwrap();
    let mut sent = 1;
    let began = std::time::Instant::now();
    for _ in 0..10 {
        lose(&hub, ann).await;
        (ann, session) = resume(&server, "ann", &session, &json!({})).await;
        assert_eq!(session["resumed"], true);
        sent += u64::from(ann.request(typing()).await.is_ok());
    }
    assert!(sent <= 1 + began.elapsed().as_secs() + 1, "{sent} in {:?}", began.elapsed());
}

/// Number of channels, and number of event types in each.
const MANY: (usize, usize) = (20, 16);

/// Returns a hub where one client can send hundreds of events that do not replace each other.
pub(crate) fn many_kinds() -> Hub {
    let events = (0..MANY.1).fold(ClientEvents::new(), |all, kind| all.event(&format!("e{kind}"), 1000));
    Hub::builder().shards(1).channels("room:{id}", ChannelOptions::new().client_events(events)).build()
}

/// Returns one event of each type in each channel, as one packet.
pub(crate) fn one_of_each_kind() -> Vec<u8> {
    packet((0..MANY.0 * MANY.1).map(|number| {
        let event =
            json!({ "type": "client_event", "channel": format!("room:{}", number / MANY.1), "event": format!("e{}", number % MANY.1) });
        event.to_string()
    }))
}

pub(crate) async fn subscribe_to_many(client: &mut Client) {
    for room in 0..MANY.0 {
        client.subscribe(&format!("room:{room}")).await;
    }
}

/// Checks that no event of [`one_of_each_kind`] is missing.
pub(crate) async fn expect_one_of_each_kind(hub: &Hub, client: &mut Client) {
    for number in 0..MANY.0 * MANY.1 {
        let event = client.expect("client_event").await;
        let kind = (&event["channel"], &event["event"]);
        assert_eq!(
            kind,
            (&json!(format!("room:{}", number / MANY.1)), &json!(format!("e{}", number % MANY.1))),
            "{number}"
        );
    }
    assert_eq!(hub.stats().client_events_dropped, 0);
}

#[tokio::test]
async fn reading_client_gets_all_events_of_a_burst() {
    let hub = many_kinds();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = subscriber(&server, "ann", "room:alone").await;
    subscribe_to_many(&mut ann).await;
    let mut bob = subscriber(&server, "bob", "room:alone").await;
    subscribe_to_many(&mut bob).await;
    ann.send_raw(&one_of_each_kind()).await;
    expect_one_of_each_kind(&hub, &mut bob).await;
}

#[tokio::test]
async fn group_and_user_channels_refuse_client_events() {
    let events = || ChannelOptions::new().client_events(cursors());
    let hub = Hub::builder()
        .channels("{*any}", events())
        .roles("{*any}", Roles::new().define("speaker", ["send"]))
        .build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = server.json("/?user=ann").await;
    let mut bob = server.json("/?user=bob").await;
    for client in [&mut ann, &mut bob] {
        client.expect("session").await;
    }
    for user in ["ann", "bob"] {
        hub.groups().add_with_role("team", user, "speaker").await.unwrap();
    }
    for name in
        ["@group:team", "@groups:team", "team", "@user:bob", "@users:bob", "bob", "@everybody", "@all", "@"]
    {
        let event = json!({ "type": "client_event", "channel": name, "event": "cursor" });
        assert_eq!(refused(&mut ann, event).await["error_type"], "not_subscribed", "{name}");
    }
    bob.expect_nothing().await;
}

#[tokio::test]
async fn application_may_disconnect_the_sender_while_it_decides() {
    let hub_of_rule = Arc::new(std::sync::OnceLock::<Hub>::new());
    let own = hub_of_rule.clone();
    let events = ClientEvents::new().event("typing", 1000).on_event(move |cx, event| {
        let hub = own.get().unwrap();
        match cx.user().as_str() {
            "closed" => cx.connection().close(CloseCode::NORMAL, "no"),
            "unsubscribed" => hub.channel(event.channel()).unsubscribe(&cx.connection()).unwrap(),
            _ => {}
        }
        Ok(())
    });
    let hub = rooms(events);
    hub_of_rule.set(hub.clone()).unwrap();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut bob = subscriber(&server, "bob", "room:7").await;
    for user in ["closed", "unsubscribed"] {
        let mut client = subscriber(&server, user, "room:7").await;
        client.send(typing()).await;
        match user {
            "closed" => drop(client.expect_close().await),
            _ => {
                client.wait_for("unsubscribed").await;
                assert_eq!(refused(&mut client, typing()).await["error_type"], "not_subscribed");
            }
        }
    }
    bob.request(typing()).await.unwrap();
    let stats = hub.stats();
    assert_eq!((stats.panics, stats.client_events), (0, 1), "bob's alone is sent");
}

#[tokio::test]
async fn what_the_application_sends_while_it_decides_arrives_before_the_answer() {
    let events = ClientEvents::new().event("typing", 1000).on_event(|cx, _| {
        cx.connection().send(json!({ "type": "note" })).unwrap();
        match cx.user().as_str() {
            "ann" => Ok(()),
            "bob" => Err(Reject::denied("not bob")),
            _ => panic!("on purpose"),
        }
    });
    let server = TestServer::start(rooms(events), user_handler());
    for (user, answer) in [("ann", "ack"), ("bob", "error"), ("eve", "error")] {
        let mut client = subscriber(&server, user, "room:7").await;
        let mut request = typing();
        request["id"] = 1.into();
        client.send(request).await;
        assert_eq!(client.next().await["type"], "note", "{user}");
        assert_eq!(client.next().await["type"], answer, "{user}");
    }
}

#[tokio::test]
async fn events_with_their_own_rate_do_not_count_as_messages() {
    let hour = Duration::from_secs(3600);
    let handler = user_handler().rate_limit(RateLimit::new().messages(Rate::new(1, hour).burst(4)));
    let server = TestServer::start(rooms(cursors()), handler);
    let mut ann = subscriber(&server, "ann", "room:7").await;
    for x in 0..20 {
        ann.request(cursor(x)).await.unwrap();
    }
    // Refused events do count, like any other request.
    let unknown = json!({ "type": "client_event", "channel": "room:7", "event": "shout" });
    for _ in 0..3 {
        assert_eq!(refused(&mut ann, unknown.clone()).await["error_type"], "permission_denied");
    }
    assert_eq!(refused(&mut ann, cursor(1)).await["error_type"], "rate_limited");
}

#[tokio::test]
async fn retried_event_returns_no_message_that_it_did_not_consume() {
    let (broker, is_down) = failing_broker();
    let channels = ChannelOptions::new().client_events(cursors());
    let hub = Hub::builder().broker(broker).channels("room:{id}", channels).build();
    let six = Rate::new(1, Duration::from_secs(3600)).burst(6);
    let handler = user_handler()
        .rate_limit(RateLimit::new().messages(six))
        .on_error(async |_, _| Recovery::Retry { after: Duration::ZERO });
    let server = TestServer::start(hub, handler);
    let mut ann = subscriber(&server, "ann", "room:7").await;
    is_down.store(true, Ordering::Relaxed);
    assert_eq!(refused(&mut ann, cursor(1)).await["error_type"], "unavailable");
    let mut left = 0;
    while ann.request(json!({ "type": "history", "channel": "room:8" })).await.unwrap_err()["error_type"]
        != "rate_limited"
    {
        left += 1;
    }
    assert_eq!(left, 4, "of six messages, one subscribed and one was refused");
}

const POLICIES: [SlowConsumer; 4] =
    [SlowConsumer::Disconnect, SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Conflate];

fn large_cursor(x: u64) -> Value {
    let padding = "x".repeat(16 * 1024);
    json!({ "type": "client_event", "channel": "room:7", "event": "cursor", "data": { "x": x, "padding": padding } })
}

#[tokio::test]
async fn lagging_consumer_gets_the_latest_event_without_a_gap() {
    for policy in POLICIES {
        let channels = ChannelOptions::new().history(1000, Duration::from_secs(600)).slow_consumer(policy);
        let hub = Hub::builder()
            .channels("room:{id}", channels.client_events(cursors()))
            .outbox(256 * 1024, 64)
            .build();
        let gaps = Arc::new(AtomicU64::new(0));
        let count = gaps.clone();
        hub.events().on_system([SystemKind::MessagesDropped], move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(()))
        });
        let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
        let mut slow = server.client("/?user=slow").receive_buffer(4096).connect().await;
        slow.subscribe("room:7").await;
        let mut good = subscriber(&server, "good", "room:7").await;
        let mut ann = subscriber(&server, "ann", "room:7").await;
        let mut last = 0;
        while hub.stats().client_events_dropped < 50 {
            last += 1;
            assert!(last < 1000, "no slow consumer");
            ann.send(large_cursor(last)).await;
            assert_eq!(good.expect("client_event").await["data"]["x"], last);
        }
        let waiting = hub.connections().of_user("slow")[0].backlog();
        assert!(waiting < 128 * 1024, "{policy:?}: {waiting} bytes wait");
        // Publications have the whole outbox, whatever events wait. Those with one key are conflated.
        let count = if policy == SlowConsumer::Conflate { 1 } else { 40 };
        for number in 1..=count {
            hub.channel("room:7").broadcast(json!({ "n": number })).await.unwrap();
            assert_eq!(good.expect("message").await["offset"], number);
        }
        let (mut seen, mut offsets) = (0, Vec::new());
        while seen != last || offsets.last() != Some(&count) {
            let message = slow.next().await;
            match message["type"].as_str().unwrap() {
                "client_event" => {
                    let x = message["data"]["x"].as_u64().unwrap();
                    assert!(x > seen, "{policy:?}: {x} after {seen}");
                    seen = x;
                }
                "message" => offsets.push(message["offset"].as_u64().unwrap()),
                other => panic!("{policy:?}: {other}"),
            }
        }
        let stats = hub.stats();
        assert_eq!(offsets, (1..=count).collect::<Vec<_>>(), "{policy:?}");
        assert_eq!((stats.dropped, gaps.load(Ordering::Relaxed)), (0, 0), "{policy:?}");
        assert_eq!((stats.slow_consumers, stats.connections), (0, 3), "{policy:?}");
    }
}

#[tokio::test]
async fn recovering_subscriber_gets_no_events_and_no_gap_for_them() {
    for policy in POLICIES {
        let channels = ChannelOptions::new().history(10_000, Duration::from_secs(600)).slow_consumer(policy);
        let hub = Hub::builder()
            .channels("room:{id}", channels.client_events(cursors()))
            .recovery_limit(10_000)
            .build();
        let server = TestServer::start(hub.clone(), user_handler().write_timeout(Duration::from_secs(60)));
        let mut ann = session_client(&server, "/?user=ann").await;
        let position = ann.subscribe("room:7").await;
        let padding = "x".repeat(6000);
        for number in 1..=1000_u64 {
            hub.channel("room:7").broadcast(json!({ "n": number, "padding": padding })).await.unwrap();
            assert_eq!(ann.expect("message").await["offset"], number);
        }
        let mut slow = server.client("/?user=slow").receive_buffer(4096).json().connect().await;
        slow.expect("session").await;
        slow.recover("room:7", &position).await;
        for x in 0..100 {
            ann.request(cursor(x)).await.unwrap();
        }
        for offset in 1..=1000 {
            assert_eq!(slow.expect("message").await["offset"], offset, "{policy:?}");
        }
        assert_eq!((hub.stats().client_events_dropped, hub.stats().dropped), (100, 0), "{policy:?}");
        ann.request(cursor(7)).await.unwrap();
        assert_eq!(slow.expect("client_event").await["data"]["x"], 7);
    }
}

#[tokio::test]
async fn publication_without_echo_reaches_everybody_else_and_the_history() {
    let server = TestServer::start(rooms(cursors()), user_handler());
    let mut ann = server.json("/?user=ann").await;
    let session = ann.expect("session").await;
    let position = ann.subscribe("room:7").await;
    let mut tab = subscriber(&server, "ann", "room:7").await;
    let publish = |content: u64, echo: bool| json!({ "type": "channel_message", "channel": "room:7", "content": content, "key": format!("k-{content}"), "echo": echo });
    let first = ann.request(publish(1, false)).await.unwrap();
    assert_eq!(first["offset"], 1);
    assert_eq!(tab.expect("message").await["offset"], 1);
    // A repeated key returns the first position and delivers nothing.
    for echo in [false, true] {
        assert_eq!(ann.request(publish(1, echo)).await.unwrap(), first);
    }
    ann.request(publish(2, true)).await.unwrap();
    assert_eq!(ann.expect("message").await["offset"], 2);
    assert_eq!(tab.expect("message").await["offset"], 2);
    tab.expect_nothing().await;
    let history = ann.request(json!({ "type": "history", "channel": "room:7" })).await.unwrap();
    assert_eq!(history["messages"].as_array().unwrap().len(), 2);
    ann.request(publish(3, false)).await.unwrap();
    ann.expect_nothing().await;

    // The session continues without it; another connection recovers it.
    ann.vanish();
    let token = session["resume"]["token"].as_str().unwrap();
    let mut resume = server.client(&format!("/?user=ann&resume={token}")).json().connect().await;
    resume.send(
        json!({ "type": "resume", "positions": { "room:7": { "epoch": position["epoch"], "offset": 0 } } }),
    )
    .await;
    assert_eq!(resume.expect("session").await["resumed"], true);
    assert_eq!(resume.expect("message").await["offset"], 2);
    resume.expect_nothing().await;
    let mut second = session_client(&server, "/?user=ann").await;
    second.recover("room:7", &position).await;
    for offset in 1..=3 {
        assert_eq!(second.expect("message").await["offset"], offset);
    }
}
