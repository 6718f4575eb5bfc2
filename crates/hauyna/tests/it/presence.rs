//! Presence over real sockets: lists and changes in channels, several devices, grace time, metadata, queries
//! and listeners.

use crate::support::{eventually, failing_broker, now, user_handler, wait_for_connections};
use hauyna::events::{Event, SystemEvent, SystemKind};
use hauyna::presence::{Criteria, Status};
use hauyna::{ChannelOptions, Hub, HubBuilder, Presence, UserId, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn rooms() -> HubBuilder {
    Hub::builder()
        .channels("room:{id}", ChannelOptions::new().presence(Presence::each()))
        .channels("{*any}", ChannelOptions::new())
}

async fn enter(server: &TestServer, user: &str, metadata: Value) -> (Client, Value) {
    let mut client = server.connect(&format!("/?user={user}")).await;
    let request = json!({ "type": "subscribe_channel", "channel": "room:1", "metadata": metadata });
    client.request(request).await.unwrap();
    let state = client.expect("presence_state").await;
    (client, state)
}

fn names(users: &Value) -> BTreeSet<String> {
    users.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn subscriber_gets_the_list_and_others_get_its_join() {
    let server = TestServer::start(rooms().build(), user_handler());
    let (mut ann, state) = enter(&server, "ann", json!({ "device": "phone" })).await;
    assert_eq!(
        (&state["channel"], &state["count"], &state["offset"]),
        (&json!("room:1"), &json!(1), &json!(1))
    );
    let entry = &state["users"]["ann"];
    assert_eq!((&entry["status"], &entry["metadata"]), (&json!("online"), &json!({ "status": "online" })));
    assert_eq!(entry["connections"][0]["metadata"], json!({ "device": "phone" }));
    assert!(entry["joined_at"].is_u64() && entry["updated_at"].is_u64());

    let (mut bob, state) = enter(&server, "bob", Value::Null).await;
    assert_eq!(names(&state["users"]), BTreeSet::from(["ann".to_owned(), "bob".to_owned()]));
    let join = ann.expect_presence("join", "bob").await;
    assert_eq!(join["offset"], 2);
    assert_eq!((&join["status"], &join["connections"]), (&json!("online"), &json!(1)));
    assert_eq!(join["metadata"], json!({ "status": "online" }));
    bob.expect_nothing().await;
}

#[tokio::test]
async fn user_leaves_with_the_last_of_several_connections() {
    let server = TestServer::start(rooms().build(), user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (phone, _) = enter(&server, "bob", Value::Null).await;
    ann.expect_presence("join", "bob").await;
    let (mut desk, state) = enter(&server, "bob", json!({ "device": "desk" })).await;
    assert_eq!(state["users"]["bob"]["connections"].as_array().unwrap().len(), 2);
    let second = ann.expect("presence_change").await;
    assert_eq!((&second["event"], &second["connections"]), (&json!("update"), &json!(2)));
    phone.close(1000, "").await;
    let one_less = ann.expect("presence_change").await;
    assert_eq!((&one_less["event"], &one_less["connections"]), (&json!("update"), &json!(1)));
    assert_eq!(desk.expect("presence_change").await["connections"], 1);
    desk.request(json!({ "type": "unsubscribe_channel", "channel": "room:1" })).await.unwrap();
    let leave = ann.expect_presence("leave", "bob").await;
    assert_eq!(leave["connections"], 0);
    assert!(!server.hub().presence().is_present("bob").await);
}

#[tokio::test]
async fn user_back_within_the_grace_time_never_left() {
    let server = TestServer::start(rooms().presence_grace(Duration::from_secs(600)).build(), user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (bob, _) = enter(&server, "bob", Value::Null).await;
    ann.expect_presence("join", "bob").await;
    bob.vanish();
    wait_for_connections(server.hub(), 1).await;
    assert!(server.hub().presence().is_present("bob").await);
    let (mut bob, state) = enter(&server, "bob", Value::Null).await;
    assert_eq!(state["users"]["bob"]["connections"].as_array().unwrap().len(), 1);
    bob.expect_nothing().await;
    ann.expect_nothing().await;
}

#[tokio::test]
async fn lost_user_leaves_after_the_grace_time() {
    let server = TestServer::start(rooms().presence_grace(Duration::from_millis(60)).build(), user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (bob, _) = enter(&server, "bob", Value::Null).await;
    ann.expect_presence("join", "bob").await;
    bob.vanish();
    let leave = ann.expect_presence("leave", "bob").await;
    assert_eq!(leave["offset"], 3);
    assert_eq!(server.hub().presence().count().await, 1);
}

#[tokio::test]
async fn channel_with_only_lost_members_ends_with_them() {
    let server = TestServer::start(rooms().presence_grace(Duration::from_millis(60)).build(), user_handler());
    let (bob, _) = enter(&server, "bob", Value::Null).await;
    bob.vanish();
    eventually("the channel has ended", || server.hub().stats().channels == 0).await;
    assert_eq!(server.hub().presence().count().await, 0);
}

#[tokio::test]
async fn status_is_announced_in_every_channel_of_the_user() {
    let server = TestServer::start(rooms().build(), user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (mut bob, _) = enter(&server, "bob", Value::Null).await;
    ann.expect("presence_change").await;
    let status = json!({ "type": "update_status", "status": "away", "until": 5, "id": 7 });
    bob.send(status.clone()).await;
    assert_eq!(bob.answer(&json!(7)).await.unwrap(), Value::Null);
    let update = ann.expect("presence_change").await;
    assert_eq!((&update["event"], &update["status"]), (&json!("update"), &json!("away")));
    assert_eq!(update["metadata"], json!({ "status": "away", "until": 5 }));
    assert_eq!(bob.expect("presence_change").await["status"], "away");
    // Repeating the same status changes nothing, so nothing is sent.
    bob.send(status).await;
    assert_eq!(bob.answer(&json!(7)).await.unwrap(), Value::Null);
    ann.expect_nothing().await;
    let entry = server.hub().presence().get("bob").await.unwrap();
    assert_eq!((entry.status, &entry.metadata["until"]), (Status::Away, &json!(5)));
}

#[tokio::test]
async fn absent_user_has_no_status() {
    let server = TestServer::start(rooms().build(), user_handler());
    let mut ann = server.connect("/?user=ann").await;
    let refused = ann.request(json!({ "type": "update_status", "status": "away" })).await.unwrap_err();
    assert_eq!(refused["error_type"], "not_subscribed");
    ann.subscribe("room:1").await;
    ann.wait_for("presence_state").await;
    let long = json!({ "type": "update_status", "status": "away", "a": "x".repeat(3000) });
    assert_eq!(ann.request(long).await.unwrap(), Value::Null);
    let longer = json!({ "type": "update_status", "status": "away", "b": "x".repeat(3000) });
    assert_eq!(ann.request(longer).await.unwrap_err()["error_type"], "limit_exceeded");
}

#[tokio::test]
async fn presence_request_returns_the_list_in_pages() {
    let server = TestServer::start(rooms().build(), user_handler());
    let mut clients = Vec::new();
    for user in ["ann", "bob", "cid"] {
        clients.push(enter(&server, user, Value::Null).await.0);
    }
    let cid = clients.last_mut().unwrap();
    let ask = json!({ "type": "presence", "channel": "room:1", "limit": 2 });
    let page = cid.request(ask.clone()).await.unwrap();
    assert_eq!((&page["count"], &page["next"], &page["offset"]), (&json!(3), &json!("bob"), &json!(3)));
    assert_eq!(names(&page["users"]), BTreeSet::from(["ann".to_owned(), "bob".to_owned()]));
    let mut ask = ask;
    ask["after"] = page["next"].clone();
    let rest = cid.request(ask).await.unwrap();
    assert_eq!((names(&rest["users"]), rest.get("next")), (BTreeSet::from(["cid".to_owned()]), None));
    let refused = cid.request(json!({ "type": "presence", "channel": "room:2" })).await.unwrap_err();
    assert_eq!(refused["error_type"], "not_subscribed");
    cid.subscribe("plain").await;
    let refused = cid.request(json!({ "type": "presence", "channel": "plain" })).await.unwrap_err();
    assert_eq!(refused["error_type"], "validation_error");
}

#[tokio::test]
async fn messagepack_clients_see_the_same_presence() {
    let server = TestServer::start(rooms().build(), user_handler());
    let mut ann = server.client("/?user=ann").encoding(Encoding::MessagePack).connect().await;
    ann.expect("session").await;
    ann.subscribe("room:1").await;
    assert_eq!(ann.expect("presence_state").await["users"]["ann"]["status"], "online");
    let (_bob, _) = enter(&server, "bob", json!({ "device": "desk" })).await;
    assert_eq!(ann.expect("presence_change").await["user"], "bob");
    let page = ann.request(json!({ "type": "presence", "channel": "room:1" })).await.unwrap();
    assert_eq!(page["users"]["bob"]["connections"][0]["metadata"]["device"], "desk");
}

#[tokio::test]
async fn changes_over_a_threshold_are_sent_as_one_diff() {
    let options = Presence::each().each_up_to(2).tick(Duration::from_millis(100));
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().presence(options)).build();
    let server = TestServer::start(hub, user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (_bob, _) = enter(&server, "bob", Value::Null).await;
    assert_eq!(ann.expect("presence_change").await["user"], "bob");
    let (_cid, _) = enter(&server, "cid", Value::Null).await;
    let (dan, _) = enter(&server, "dan", Value::Null).await;
    dan.close(1000, "").await;
    let mut known = BTreeSet::from(["ann".to_owned(), "bob".to_owned()]);
    let mut offset = 2;
    while offset < 5 {
        let diff = ann.expect("presence_diff").await;
        known.extend(names(&diff["joins"]));
        for user in diff["leaves"].as_array().unwrap() {
            known.remove(user.as_str().unwrap());
        }
        offset = diff["offset"].as_u64().unwrap();
        assert_eq!(diff["count"], known.len());
    }
    assert_eq!(known, BTreeSet::from(["ann", "bob", "cid"].map(str::to_owned)));
}

#[tokio::test]
async fn members_over_another_threshold_are_only_counted() {
    let options = Presence::each().each_up_to(1).list_up_to(4).tick(Duration::from_millis(20));
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().presence(options)).build();
    let server = TestServer::start(hub, user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let mut others = Vec::new();
    for user in ["b", "c", "d"] {
        others.push(enter(&server, user, Value::Null).await.0);
    }
    let mut eva = server.connect("/?user=e").await;
    eva.subscribe("room:1").await;
    assert_eq!(eva.expect("occupancy").await["count"], 5);
    assert_eq!(ann.wait_for("occupancy").await["count"], 5);
    eva.close(1000, "").await;
    for other in others {
        other.close(1000, "").await;
    }
    let list = ann.wait_for("presence_state").await;
    assert!(list["count"].as_u64().unwrap() <= 2, "{list}");
}

#[tokio::test]
async fn updated_metadata_is_shown_in_presence() {
    let server = TestServer::start(rooms().build(), user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (_bob, _) = enter(&server, "bob", json!({ "typing": false })).await;
    ann.expect("presence_change").await;
    let bob = server.hub().connections().of_user("bob").remove(0);
    let room = server.hub().channel("room:1");
    room.update_metadata(&bob, json!({ "typing": true })).unwrap();
    assert_eq!(ann.expect("presence_change").await["event"], "update");
    let page = ann.request(json!({ "type": "presence", "channel": "room:1" })).await.unwrap();
    assert_eq!(page["users"]["bob"]["connections"][0]["metadata"], json!({ "typing": true }));
    let listed = room.presence().await;
    assert_eq!(listed.iter().map(|entry| entry.user.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
}

#[tokio::test]
async fn queries_find_users_by_status_metadata_and_channel() {
    let handler = user_handler().on_open(|cx| async move {
        cx.presence().track(json!({ "role": cx.query("role") })).await?;
        cx.presence().update_connection(json!({ "device": "phone" })).await
    });
    let server = TestServer::start(rooms().build(), handler);
    let presence = server.hub().presence();
    let mut ann = server.connect("/?user=ann&role=admin").await;
    let mut bob = server.connect("/?user=bob&role=guest").await;
    ann.subscribe("room:1").await;
    bob.subscribe("plain").await;
    presence.of("bob").set_status(Status::Custom("lunch".into())).await.unwrap();
    assert_eq!((presence.count().await, presence.list().await.len()), (2, 2));
    let who = |criteria: Value| {
        let list = now(presence.list_by(&Criteria::from(criteria)));
        list.into_iter().map(|entry| entry.user.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(who(json!({ "role": "admin" })), ["ann"]);
    assert_eq!(who(json!({ "status": "lunch", "channel": "plain" })), ["bob"]);
    assert_eq!(who(json!({ "channel": "room:1", "status": "online" })), ["ann"]);
    assert!(who(json!({ "channel": "room:2" })).is_empty());
    assert_eq!(presence.count_by(&Criteria::new().status("lunch")).await, 1);
    assert!(presence.present_in("ann", &Criteria::new().in_channel("room:1")).await);
    assert!(!presence.present_in("bob", &Criteria::new().in_channel("room:1")).await);
    assert_eq!(presence.in_channel("plain").await.len(), 1);
    assert_eq!(presence.list_in_channel("room:1").await[0].user, "ann");
    let groups = server.hub().groups();
    groups.add("ann", "admins").await.unwrap();
    groups.add("away", "admins").await.unwrap();
    assert_eq!(presence.in_group("admins").await, ["ann"]);
    assert_eq!(presence.list_in_group("admins").await[0].metadata, json!({ "role": "admin" }));
    assert_eq!(who(json!({ "group": "admins", "channel": "room:1" })), ["ann"]);
    assert_eq!(who(json!({ "group": "admins", "channel": "plain" })), Vec::<String>::new());
    let stats = presence.stats().await;
    assert_eq!((stats.users, stats.connections, stats.statuses[&Status::Custom("lunch".into())]), (2, 2, 1));
    let entry = presence.get("ann").await.unwrap();
    assert_eq!(entry.connections[0].metadata, json!({ "device": "phone" }));
    assert_eq!(entry.connections[0].channels[0].as_str(), "room:1");
    assert!(presence.of("nobody").update(json!({})).await.is_err());
}

#[tokio::test]
async fn callbacks_run_for_the_first_and_last_connection_of_a_user() {
    let (sender, mut events) = tokio::sync::mpsc::channel(8);
    let offline = sender.clone();
    let online = move |_: Event, user: UserId| {
        let sender = sender.clone();
        async move { sender.send(format!("{user} online")).await.map_err(hauyna::Error::other) }
    };
    let offline = move |_: Event, user: UserId| {
        let sender = offline.clone();
        async move { sender.send(format!("{user} offline")).await.map_err(hauyna::Error::other) }
    };
    let hub =
        rooms().presence_grace(Duration::from_millis(40)).on_user_online(online).on_user_offline(offline);
    let server = TestServer::start(hub.build(), user_handler());
    let first = server.connect("/?user=u").await;
    assert_eq!(events.recv().await.unwrap(), "u online");
    let second = server.connect("/?user=u").await;
    first.vanish();
    second.vanish();
    assert_eq!(events.recv().await.unwrap(), "u offline");
    let _third = server.connect("/?user=u").await;
    assert_eq!(events.recv().await.unwrap(), "u online");
}

#[tokio::test]
async fn listeners_learn_the_first_and_last_connection_of_a_user() {
    let hub = rooms().presence_grace(Duration::from_millis(40)).build();
    let events = Arc::new(Mutex::new(Vec::new()));
    let list = events.clone();
    let kinds = [SystemKind::UserOnline, SystemKind::UserOffline, SystemKind::PresenceChanged];
    hub.events().on_system(kinds, move |_, event| {
        let list = list.clone();
        async move {
            list.lock().push(match event {
                SystemEvent::UserOnline { user, .. } => format!("{user} online"),
                SystemEvent::UserOffline { user, .. } => format!("{user} offline"),
                SystemEvent::PresenceChanged { user, channel, change, .. } => {
                    format!("{user} {change:?} {}", channel.map_or("hub".to_owned(), |name| name.to_string()))
                }
                other => format!("{other:?}"),
            });
            Ok(())
        }
    });
    let server = TestServer::start(hub, user_handler());
    let first = server.connect("/?user=u").await;
    let (second, _) = enter(&server, "u", Value::Null).await;
    first.close(1000, "").await;
    second.vanish();
    let expected = ["u online", "u Join room:1", "u Join hub", "u Leave room:1", "u Leave hub", "u offline"];
    eventually("all events are delivered", || events.lock().len() >= expected.len()).await;
    assert_eq!(*events.lock(), expected);
}

#[tokio::test]
async fn leave_within_the_tick_corrects_a_list_sent_meanwhile() {
    let options = Presence::each().each_up_to(1).tick(Duration::from_millis(200));
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().presence(options)).build();
    let server = TestServer::start(hub, user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let (_bob, _) = enter(&server, "bob", Value::Null).await;
    assert_eq!(ann.expect("presence_diff").await["count"], 2);
    let (cid, _) = enter(&server, "cid", Value::Null).await;
    let (mut dan, state) = enter(&server, "dan", Value::Null).await;
    cid.close(1000, "").await;
    let mut known = names(&state["users"]);
    let mut offset = state["offset"].as_u64().unwrap();
    while offset < 5 {
        let diff = dan.expect("presence_diff").await;
        known.extend(names(&diff["joins"]));
        for user in diff["leaves"].as_array().unwrap() {
            known.remove(user.as_str().unwrap());
        }
        offset = diff["offset"].as_u64().unwrap();
    }
    assert_eq!(known, BTreeSet::from(["ann", "bob", "dan"].map(str::to_owned)));
}

#[tokio::test]
async fn channel_that_grows_too_large_again_is_counted_again() {
    let options = Presence::each().each_up_to(1).list_up_to(2).tick(Duration::from_secs(600));
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().presence(options)).build();
    let server = TestServer::start(hub, user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    for _ in 0..2 {
        let mut others = Vec::new();
        for user in ["bob", "cid"] {
            let mut other = server.connect(&format!("/?user={user}")).await;
            other.subscribe("room:1").await;
            others.push(other);
        }
        assert_eq!(ann.expect("occupancy").await["count"], 3);
        for other in others {
            other.close(1000, "").await;
        }
        assert_eq!(names(&ann.expect("presence_state").await["users"]), BTreeSet::from(["ann".to_owned()]));
    }
}

#[tokio::test]
async fn pending_changes_of_an_ended_channel_are_dropped() {
    let options = Presence::diff().tick(Duration::from_millis(200));
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().presence(options)).build();
    let server = TestServer::start(hub, user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    assert_eq!(names(&ann.expect("presence_diff").await["joins"]), BTreeSet::from(["ann".to_owned()]));
    ann.close(1000, "").await;
    eventually("the channel has ended", || server.hub().stats().channels == 0).await;
    let (mut bob, state) = enter(&server, "bob", Value::Null).await;
    assert_eq!(state["offset"], 1);
    let diff = bob.expect("presence_diff").await;
    assert_eq!((&diff["offset"], &diff["count"], &diff["leaves"]), (&json!(1), &json!(1), &json!([])));
}

#[tokio::test]
async fn each_lost_connection_resumes_its_own_place() {
    let server = TestServer::start(rooms().presence_grace(Duration::from_secs(600)).build(), user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    let mut devices = Vec::new();
    for device in ["phone", "desk"] {
        devices.push(enter(&server, "bob", json!({ "device": device })).await.0);
        ann.expect("presence_change").await;
    }
    devices.into_iter().for_each(Client::vanish);
    wait_for_connections(server.hub(), 1).await;
    let (_desk, _) = enter(&server, "bob", json!({ "device": "desk" })).await;
    let (_phone, _) = enter(&server, "bob", json!({ "device": "phone" })).await;
    ann.expect_nothing().await;
}

#[tokio::test]
async fn tracking_twice_replaces_no_lost_connection() {
    let handler = user_handler()
        .on("track", async |cx: hauyna::Context, _: Value| cx.presence().track(()).await)
        .on("untrack", async |cx: hauyna::Context, _: Value| cx.presence().untrack().await);
    let hub = rooms().presence_grace(Duration::from_secs(600)).build();
    let server = TestServer::start(hub.clone(), handler);
    let mut desk = server.connect("/?user=ann").await;
    let mut phone = server.connect("/?user=ann").await;
    for client in [&mut desk, &mut phone] {
        client.request(json!({ "type": "track" })).await.unwrap();
    }
    phone.vanish();
    wait_for_connections(&hub, 1).await;
    desk.request(json!({ "type": "track" })).await.unwrap();
    desk.request(json!({ "type": "untrack" })).await.unwrap();
    assert!(hub.presence().is_present("ann").await, "the phone may resume");
}

#[tokio::test]
async fn presence_does_not_depend_on_online_listeners() {
    for listens in [false, true] {
        let handler = user_handler()
            .on("track", async |cx: hauyna::Context, message: Value| {
                cx.presence().track(json!({ "role": message["role"] })).await
            })
            .on("more", async |cx: hauyna::Context, _: Value| {
                cx.presence().untrack().await?;
                cx.presence().update_connection(json!({ "device": "desk" })).await
            });
        let hub = if listens { rooms().on_user_online(|_, _| async { Ok(()) }) } else { rooms() }.build();
        let server = TestServer::start(hub.clone(), handler);
        let mut desk = server.connect("/?user=ann").await;
        let _phone = server.connect("/?user=ann").await;
        desk.request(json!({ "type": "track", "role": "admin" })).await.unwrap();
        hub.presence().of("ann").set_status(Status::Away).await.unwrap();
        let refused = desk.request(json!({ "type": "more" })).await.unwrap_err();
        assert_eq!(refused["error_type"], "not_subscribed");
        desk.request(json!({ "type": "track", "role": "guest" })).await.unwrap();
        let entry = hub.presence().get("ann").await.unwrap();
        assert_eq!((entry.status, entry.metadata), (Status::Online, json!({ "role": "guest" })));
        assert_eq!((entry.connections.len(), hub.presence().stats().await.connections), (1, 1));
    }
}

/// Loses a client with a session and returns its token. The user is away, tracked, and in `room:1`.
async fn lost_phone(server: &TestServer) -> String {
    let mut phone = server.json("/?user=ann").await;
    let session = phone.expect("session").await;
    phone.subscribe("room:1").await;
    phone.request(json!({ "type": "track" })).await.unwrap();
    let connections = server.hub().stats().connections;
    phone.vanish();
    eventually("the phone is lost", || server.hub().stats().connections == connections - 1).await;
    session["resume"]["token"].as_str().unwrap().to_owned()
}

/// Returns a server without grace time whose clients may `track`, and a log of joins and leaves.
fn without_grace() -> (TestServer, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (came, went) = (log.clone(), log.clone());
    let handler =
        user_handler().on("track", async |cx: hauyna::Context, _: Value| cx.presence().track(()).await);
    let hub = rooms()
        .presence_grace(Duration::ZERO)
        .on_user_online(move |_, user| {
            came.lock().push(format!("{user} came"));
            async { Ok(()) }
        })
        .on_user_offline(move |_, user| {
            went.lock().push(format!("{user} went"));
            async { Ok(()) }
        });
    (TestServer::start(hub.build(), handler), log)
}

#[tokio::test]
async fn other_connections_do_not_take_over_presence_of_a_session() {
    let (server, log) = without_grace();
    let (mut bob, _) = enter(&server, "bob", Value::Null).await;
    let token = lost_phone(&server).await;
    assert_eq!(bob.expect("presence_change").await["event"], "join");
    // It connects and disconnects while the phone's session waits.
    let (mut desk, _) = enter(&server, "ann", Value::Null).await;
    desk.request(json!({ "type": "track" })).await.unwrap();
    desk.close(1000, "").await;
    for connections in [2, 1] {
        let change = bob.expect("presence_change").await;
        assert_eq!((&change["event"], &change["connections"]), (&json!("update"), &json!(connections)));
    }
    let mut phone = server.json(&format!("/?user=ann&resume={token}")).await;
    phone.send(json!({ "type": "resume" })).await;
    assert_eq!(phone.expect("session").await["resumed"], true);
    bob.expect_nothing().await;
    phone.request(json!({ "type": "unsubscribe_channel", "channel": "room:1" })).await.unwrap();
    assert!(server.hub().presence().is_present("ann").await, "the phone is tracked as it was");
    phone.close(1000, "").await;
    eventually("ann has left", || log.lock().len() == 3).await;
    assert_eq!(*log.lock(), ["bob came", "ann came", "ann went"]);
}

#[tokio::test]
async fn user_lost_again_before_resuming_is_not_offline() {
    let (server, log) = without_grace();
    let token = lost_phone(&server).await;
    let silent = server.json(&format!("/?user=ann&resume={token}")).await;
    wait_for_connections(server.hub(), 1).await;
    silent.vanish();
    eventually("the session waits again", || server.hub().stats().sessions == 1).await;
    let mut phone = server.json(&format!("/?user=ann&resume={token}")).await;
    phone.send(json!({ "type": "resume" })).await;
    assert_eq!(phone.expect("session").await["resumed"], true);
    let _bob = server.connect("/?user=bob").await;
    eventually("bob has joined", || log.lock().iter().any(|line| line == "bob came")).await;
    assert_eq!(*log.lock(), ["ann came", "bob came"]);
}

#[tokio::test]
async fn presence_and_announcements_need_no_broker() {
    let (broker, is_down) = failing_broker();
    let options = ChannelOptions::new().presence(Presence::each()).announce_subscribers().no_history();
    let hub = Hub::builder().channels("room:{id}", options).broker(broker).build();
    let server = TestServer::start(hub, user_handler());
    let (mut ann, _) = enter(&server, "ann", Value::Null).await;
    ann.wait_for("channel_event").await;
    is_down.store(true, Ordering::Relaxed);
    let (bob, _) = enter(&server, "bob", Value::Null).await;
    let mut announced = Vec::new();
    for _ in 0..2 {
        let message = ann.next().await;
        announced.push((message["type"].clone(), message["event"].clone(), message["user"].clone()));
    }
    bob.close(1000, "").await;
    for _ in 0..2 {
        let message = ann.next().await;
        announced.push((message["type"].clone(), message["event"].clone(), message["user"].clone()));
    }
    let of_bob = |kind: &str, event: &str| (json!(kind), json!(event), json!("bob"));
    let expected = [
        of_bob("presence_change", "join"),
        of_bob("channel_event", "subscription_added"),
        of_bob("presence_change", "leave"),
        of_bob("channel_event", "subscription_removed"),
    ];
    assert_eq!(announced, expected);
}

#[tokio::test]
async fn criteria_of_one_kind_must_all_hold() {
    let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().presence(Presence::each())).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut clients = Vec::new();
    for (user, rooms) in [("ann", ["room:1", "room:2"]), ("ben", ["room:2", "room:3"])] {
        let mut client = server.json(&format!("/?user={user}")).await;
        for room in rooms {
            client.subscribe(room).await;
        }
        clients.push(client);
        hub.groups().add(user, user).await.unwrap();
    }
    let count = |criteria: &Criteria| now(hub.presence().count_by(criteria));
    let two = || Criteria::new().in_channel("room:2");
    assert_eq!(count(&two().in_channel("room:2")), 2);
    assert_eq!(count(&two().in_channel("room:1")), 1);
    assert_eq!(count(&Criteria::new().in_channel("room:1").in_channel("room:3")), 0);
    assert_eq!(count(&two().in_group("ann").in_group("ben")), 0);
    assert_eq!(count(&two().status("away").status("online")), 0);
}
