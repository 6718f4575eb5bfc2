//! Groups over real sockets: the recipients of a message, the permission to send, and members that disconnect
//! and reconnect.

use crate::support::{client, eventually, now, open_hub, serve, user_handler, wait_until_empty};
use hauyna::channel::AccessRequest;
use hauyna::events::{GroupChange, SystemEvent, SystemKind};
use hauyna::groups::Roles;
use hauyna::{Context, Hub, HubBuilder, Reject, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use serde_json::Value;

/// Returns a hub where every group has these roles.
fn hub() -> HubBuilder {
    let roles = Roles::new().define("speaker", ["send"]).define("listener", [] as [&str; 0]);
    open_hub().roles("{*any}", roles)
}

async fn json_client(server: &TestServer, user: &str) -> Client {
    client(server, Encoding::Json, user).await
}

fn to(room: &str, message: impl Into<Value>) -> Value {
    json!({ "type": "group", "room": room, "message": message.into() })
}

#[tokio::test]
async fn group_message_reaches_all_connections_of_members_and_nobody_else() {
    let hub = hub().build();
    let server = serve(&hub);
    hub.groups().add_with_role("alice", "editors", "speaker").await.unwrap();
    hub.groups().add("bob", "editors").await.unwrap();
    for encoding in Encoding::ALL {
        let mut alice = client(&server, encoding, "alice").await;
        let mut members = [
            client(&server, Encoding::Json, "bob").await,
            client(&server, Encoding::MessagePack, "bob").await,
        ];
        let mut carol = json_client(&server, "carol").await;
        assert_eq!(alice.request(to("editors", json!({ "text": "psst" }))).await.unwrap(), json!(null));
        for member in members.iter_mut().chain([&mut alice]) {
            let mut message = member.expect("group").await;
            assert!(message["timestamp"].take().is_u64());
            let expected = json!({ "type": "group", "from": "alice", "room": "editors", "message": { "text": "psst" },
                "timestamp": null });
            assert_eq!(message, expected);
        }
        hub.groups().send("editors", [1]).await.unwrap();
        for member in members.iter_mut().chain([&mut alice]) {
            let message = member.expect("group").await;
            assert_eq!((message.get("from"), &message["message"]), (None, &json!([1])));
            member.expect_nothing().await;
        }
        carol.expect_nothing().await;
    }
    drop(server);
}

#[tokio::test]
async fn only_members_with_permission_send_to_a_group() {
    let hub = hub().build();
    let server = serve(&hub);
    let mut alice = json_client(&server, "alice").await;
    let groups = hub.groups();
    let mut texts = Vec::new();
    for role in [None, Some(""), Some("listener"), Some("undefined")] {
        match role {
            None => {}
            Some("") => assert!(groups.add("alice", "g").await.unwrap()),
            Some(role) => assert!(groups.add_with_role("alice", "g", role).await.unwrap()),
        }
        let error = alice.request(to("g", 1)).await.unwrap_err();
        assert_eq!(error["error_type"], "permission_denied", "{role:?}");
        texts.push(error["message"].clone());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "the refusal has no reason: {texts:?}");
    groups.add_with_role("alice", "g", "speaker").await.unwrap();
    alice.request(to("g", "now")).await.unwrap();
    assert_eq!(alice.expect("group").await["message"], "now");
    groups.define_role("g", "speaker", ["read"]).await.unwrap();
    assert!(alice.request(to("g", 1)).await.is_err(), "a role change applies at once");
    groups.define_role("g", "speaker", ["send"]).await.unwrap();
    assert!(alice.request(to("g", 2)).await.is_ok());
    groups.remove("alice", "g").await;
    assert!(alice.request(to("g", 3)).await.is_err(), "not a member any more");
    assert_eq!(alice.expect("group").await["message"], 2);
    alice.expect_nothing().await;
}

#[tokio::test]
async fn membership_needs_no_connection() {
    let hub = hub().build();
    let server = serve(&hub);
    hub.groups().add_with_role("alice", "g", "speaker").await.unwrap();
    hub.groups().send("g", "nobody is there").await.unwrap();
    for round in 0..3 {
        let mut alice = json_client(&server, "alice").await;
        alice.request(to("g", round)).await.unwrap();
        assert_eq!(alice.expect("group").await["message"], round);
        match round {
            0 => alice.close(1000, "").await,
            _ => alice.vanish(),
        }
        wait_until_empty(&hub).await;
        assert_eq!(hub.user("alice").groups().await, ["g"]);
    }
}

#[tokio::test]
async fn group_changes_apply_to_live_connections() {
    let hub = hub().build();
    let server = serve(&hub);
    let groups = hub.groups();
    let mut desk = json_client(&server, "alice").await;
    let mut phone = json_client(&server, "alice").await;
    for round in 0..20 {
        groups.send("g", "before").await.unwrap();
        groups.add("alice", "g").await.unwrap();
        groups.send("g", round).await.unwrap();
        for device in [&mut desk, &mut phone] {
            assert_eq!(device.expect("group").await["message"], round);
        }
        groups.remove("alice", "g").await;
        groups.send("g", "after").await.unwrap();
    }
    groups.add("alice", "g").await.unwrap();
    groups.dissolve("g").await;
    groups.send("g", "dissolved").await.unwrap();
    for device in [&mut desk, &mut phone] {
        device.expect_nothing().await;
    }
    assert_eq!((hub.stats().channels, hub.stats().subscriptions), (0, 0));
}

#[tokio::test]
async fn messages_queued_for_a_removed_member_are_not_delivered() {
    let hub = hub().outbox(1 << 20, 10_000).build();
    let server = serve(&hub);
    let mut slow = server.client("/?user=slow").receive_buffer(4096).connect().await;
    eventually("the client is connected", || now(hub.user("slow").is_connected())).await;
    hub.groups().add("slow", "g").await.unwrap();
    let own = hub.connections().of_user("slow").remove(0);
    let text = "x".repeat(16 * 1024);
    while own.backlog() < 100_000 {
        hub.groups().send("g", &text).await.unwrap();
        // The shard has processed the message when it answers another client.
        json_client(&server, "other").await.expect_nothing().await;
    }
    hub.groups().remove("slow", "g").await;
    assert!(own.backlog() < 32 * 1024, "at most the frame that was being written");
    assert!(slow.request(json!({ "type": "ping" })).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_see_one_order() {
    let hub = hub().build();
    let server = serve(&hub);
    let mut clients = Vec::new();
    for user in 0..6 {
        hub.groups().add_with_role(&user.to_string(), "g", "speaker").await.unwrap();
        clients.push(json_client(&server, &user.to_string()).await);
    }
    let talking = clients.into_iter().enumerate().map(|(user, mut client)| {
        tokio::spawn(async move {
            for number in 0..50 {
                client.send(to("g", json!([user, number]))).await;
            }
            let mut seen = Vec::new();
            while seen.len() < 300 {
                seen.push(client.expect("group").await["message"].to_string());
            }
            seen
        })
    });
    let mut orders = Vec::new();
    for task in talking.collect::<Vec<_>>() {
        orders.push(task.await.unwrap());
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn repeated_key_sends_one_group_message() {
    let hub = hub().build();
    let server = serve(&hub);
    hub.groups().add_with_role("alice", "g", "speaker").await.unwrap();
    hub.groups().add_with_role("alice", "h", "speaker").await.unwrap();
    let mut alice = json_client(&server, "alice").await;
    for (room, number) in [("g", 1), ("g", 2), ("h", 3)] {
        let mut request = to(room, number);
        request["key"] = json!("k");
        alice.request(request).await.unwrap();
    }
    assert_eq!(alice.expect("group").await["message"], 1);
    assert_eq!(alice.expect("group").await["message"], 3, "a key belongs to one group");
    alice.expect_nothing().await;
    hub.groups().send("g", 4).key("own").await.unwrap();
    hub.groups().send("g", 5).key("own").await.unwrap();
    assert_eq!(alice.expect("group").await["message"], 4);
    alice.expect_nothing().await;
}

#[tokio::test]
async fn incomplete_group_request_names_its_fault() {
    let server = serve(&hub().build());
    let long = "x".repeat(256);
    for encoding in Encoding::ALL {
        let mut alice = client(&server, encoding, "alice").await;
        for (request, error_type, path) in [
            (json!({ "type": "group", "message": 1 }), "validation_error", "room"),
            (json!({ "type": "group", "room": "g" }), "validation_error", "message"),
            (json!({ "type": "group", "room": "", "message": 1 }), "validation_error", "room"),
            (json!({ "type": "group", "room": 7, "message": 1 }), "validation_error", "room"),
            (json!({ "type": "group", "room": "a\u{7}b", "message": 1 }), "validation_error", "room"),
            (json!({ "type": "group", "room": long, "message": 1 }), "limit_exceeded", "room"),
            (json!({ "type": "group", "room": "g", "message": 1, "key": 5 }), "validation_error", "key"),
        ] {
            let error = alice.request(request.clone()).await.unwrap_err();
            assert_eq!(
                (&error["error_type"], &error["details"]["path"]),
                (&json!(error_type), &json!(path)),
                "{request}"
            );
        }
    }
}

#[tokio::test]
async fn client_requests_never_create_or_join_a_group() {
    let hub = hub().build();
    let server = serve(&hub);
    let mut mallory = json_client(&server, "mallory").await;
    hub.groups().add("alice", "g").await.unwrap();
    let _alice = json_client(&server, "alice").await;
    for (request, error_type) in [
        (to("made up", 1), "permission_denied"),
        (to("@group:g", 1), "permission_denied"),
        (json!({ "type": "subscribe_channel", "channel": "@group:g" }), "permission_denied"),
        (json!({ "type": "unsubscribe_channel", "channel": "@group:g" }), "not_subscribed"),
        (json!({ "type": "channel_message", "channel": "@group:g", "content": 1 }), "not_subscribed"),
        (json!({ "type": "history", "channel": "@group:g" }), "not_subscribed"),
    ] {
        let error = mallory.request(request.clone()).await.unwrap_err();
        assert_eq!(error["error_type"], error_type, "{request}");
    }
    assert_eq!(hub.groups().names().await, ["g"]);
    let own = hub.connections().of_user("mallory").remove(0);
    assert!(
        hub.channel("@group:g").subscribe(&own, ()).await.is_err(),
        "and the application cannot do it by mistake"
    );
    hub.groups().send("g", "for members").await.unwrap();
    mallory.expect_nothing().await;
}

#[tokio::test]
async fn groups_do_not_count_as_channels_of_a_connection() {
    let hub = hub().max_channels_per_connection(2).build();
    let server = serve(&hub);
    for group in 0..50 {
        hub.groups().add("alice", &format!("g{group}")).await.unwrap();
    }
    let mut alice = json_client(&server, "alice").await;
    for channel in ["a", "b"] {
        alice.subscribe(channel).await;
    }
    let own = hub.connections().of_user("alice").remove(0);
    assert_eq!(own.channels(), ["a", "b"]);
    for group in 0..50 {
        hub.groups().send(format!("g{group}"), group).await.unwrap();
        hub.channel("a").broadcast(group).await.unwrap();
    }
    let mut got = [0, 0];
    for _ in 0..100 {
        let message = alice.next().await;
        let (kind, value) = match message["type"].as_str() {
            Some("group") => (0, &message["message"]),
            _ => (1, &message["content"]),
        };
        assert_eq!(*value, got[kind], "events of each group are in order");
        got[kind] += 1;
    }
    alice.vanish();
    wait_until_empty(&hub).await;
}

#[tokio::test]
async fn handler_may_authorise_group_messages_itself() {
    let hub = hub().build();
    let handler = user_handler().authorize_group(|cx: Context, request: AccessRequest| async move {
        let group = request.name();
        let is_fine = group == "lobby" || cx.groups().contains(cx.user(), group).await;
        is_fine
            .then_some(())
            .ok_or(Reject::denied("members and the lobby").with_details(json!({ "group": group })))
    });
    let server = TestServer::start(hub.clone(), handler);
    let mut guest = json_client(&server, "guest").await;
    let mut member = json_client(&server, "member").await;
    hub.groups().add("member", "lobby").await.unwrap();
    hub.groups().add("member", "club").await.unwrap();
    guest.request(to("lobby", "hello")).await.unwrap();
    assert_eq!(member.expect("group").await["from"], "guest");
    let error = guest.request(to("club", 1)).await.unwrap_err();
    assert_eq!(
        (&error["error_type"], &error["details"]["group"]),
        (&json!("permission_denied"), &json!("club"))
    );
    member.request(to("club", 1)).await.unwrap();
    member.expect("group").await;
    guest.expect_nothing().await;
}

#[tokio::test]
async fn group_of_ten_thousand_reaches_connected_members() {
    let hub = hub().build();
    let server = serve(&hub);
    for user in 0..10_000 {
        hub.groups().add(&user.to_string(), "g").await.unwrap();
    }
    let mut clients = Vec::new();
    for user in (0..10_000).step_by(500) {
        clients.push(json_client(&server, &user.to_string()).await);
    }
    let spared = hub.connections().of_user("0").remove(0).id();
    hub.groups().send("g", "not to the first").except(spared).await.unwrap();
    hub.groups().send("g", "to all").await.unwrap();
    for (index, client) in clients.iter_mut().enumerate() {
        if index > 0 {
            assert_eq!(client.expect("group").await["message"], "not to the first");
        }
        assert_eq!(client.expect("group").await["message"], "to all");
    }
    assert_eq!((hub.groups().count("g").await, hub.stats().subscriptions), (10_000, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_racing_group_changes_end_in_the_right_groups() {
    let hub = Hub::builder().roles("{*any}", Roles::new()).build();
    let server = serve(&hub);
    for round in 0..150 {
        let groups = hub.groups();
        let changing = tokio::task::spawn_blocking(move || {
            for _ in 0..30 {
                now(groups.add("u", "in")).unwrap();
                now(groups.add("u", "out")).unwrap();
                now(groups.remove("u", "out"));
            }
        });
        let mut client = json_client(&server, "u").await;
        changing.await.unwrap();
        hub.groups().send("out", round).await.unwrap();
        hub.groups().send("in", round).await.unwrap();
        let message = client.expect("group").await;
        assert_eq!((&message["room"], &message["message"]), (&json!("in"), &json!(round)));
        client.expect_nothing().await;
        hub.groups().remove("u", "in").await;
        client.vanish();
    }
    wait_until_empty(&hub).await;
}

#[tokio::test]
async fn send_refuses_bad_names_and_values() {
    let groups = hub().build().groups();
    for name in ["", "a\u{7}b", &"x".repeat(256)] {
        assert_eq!(groups.send(name, 1).await.unwrap_err().error_type(), hauyna::ErrorType::ValidationError);
    }
    let no_json = std::collections::HashMap::from([((1, 2), 3)]);
    assert_eq!(groups.send("g", no_json).await.unwrap_err().error_type(), hauyna::ErrorType::ValidationError);
    assert!(groups.send("nobody", 1).await.is_ok());
}

#[tokio::test]
async fn every_group_change_is_reported_once_and_in_order() {
    let hub = hub().build();
    let server = serve(&hub);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    let kinds = [SystemKind::GroupChanged, SystemKind::Subscribed, SystemKind::Unsubscribed];
    hub.events().on_system(kinds, move |_, event| {
        let sender = sender.clone();
        async move {
            sender.send(event).await.unwrap();
            Ok(())
        }
    });
    let _alice = json_client(&server, "alice").await;
    let groups = hub.groups();
    groups.add("alice", "g").await.unwrap();
    groups.add("alice", "g").await.unwrap();
    groups.add_with_role("alice", "g", "speaker").await.unwrap();
    groups.add_with_role("alice", "g", "speaker").await.unwrap();
    groups.remove("alice", "g").await;
    groups.remove("alice", "g").await;
    groups.add_with_role("bob", "h", "listener").await.unwrap();
    groups.dissolve("h").await;
    groups.add("last", "g").await.unwrap();
    for (whose, where_to, expected) in [
        ("alice", "g", GroupChange::Added(None)),
        ("alice", "g", GroupChange::RoleChanged("speaker".to_owned())),
        ("alice", "g", GroupChange::Removed),
        ("bob", "h", GroupChange::Added(Some("listener".to_owned()))),
        ("bob", "h", GroupChange::Removed),
        ("last", "g", GroupChange::Added(None)),
    ] {
        let SystemEvent::GroupChanged { user, group, change, .. } = receiver.recv().await.unwrap() else {
            panic!("the channel of a group emits no events");
        };
        assert_eq!((user.as_str(), group.as_str(), change), (whose, where_to, expected));
    }
}
