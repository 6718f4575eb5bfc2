//! The presence list of a channel on a real server.

use crate::support::{client, named, next, quick};
use hauyna::{ChannelOptions, Hub, Presence};
use hauyna_client::protocol::PresenceKind;
use hauyna_client::{Client, PresenceUpdate, Stream};
use hauyna_test::{Cut, FaultProxy, TestServer};
use serde_json::json;
use std::time::Duration;

fn server() -> TestServer {
    let channels = ChannelOptions::new().presence(Presence::each()).history(100, Duration::from_secs(60));
    let hub = Hub::builder()
        .channels("room:{id}", channels)
        .presence_grace(Duration::from_secs(30))
        .retry_policy(quick());
    TestServer::start(hub.build(), named())
}

async fn enter(url: &str) -> (Client, Stream<PresenceUpdate>) {
    let client = client(url);
    let room = client.channel::<()>("room:1");
    let updates = room.presence_updates();
    room.subscribe().await.unwrap().keep();
    (client, updates)
}

async fn next_update(updates: &mut Stream<PresenceUpdate>) -> (PresenceKind, String) {
    let update = next(updates).await.unwrap();
    (update.kind, update.user)
}

#[tokio::test]
async fn the_list_follows_joins_changes_and_leaves() {
    use PresenceKind::{Join, Leave, Update};
    let server = server();
    let (ana, mut updates) = enter(&server.url("/?user=ana")).await;
    assert_eq!(next_update(&mut updates).await, (Join, "ana".into()));
    let (bob, _) = enter(&server.url("/?user=bob")).await;
    assert_eq!(next_update(&mut updates).await, (Join, "bob".into()));
    bob.update_status("away", &json!({ "mood": "tea" })).await.unwrap();
    assert_eq!(next_update(&mut updates).await, (Update, "bob".into()));
    let presence = ana.channel::<()>("room:1").presence();
    assert_eq!((presence.count, presence.is_listed), (Some(2), true));
    assert_eq!(presence.users["bob"].status, "away");
    assert_eq!(presence.users["bob"].metadata["mood"], "tea");
    bob.close().await;
    assert_eq!(next_update(&mut updates).await, (Leave, "bob".into()));
}

#[tokio::test]
async fn a_reconnect_reports_no_join_or_leave() {
    let server = server();
    let proxy = FaultProxy::start(server.address()).await;
    let (_ana, mut at_ana) = enter(&server.url("/?user=ana")).await;
    assert_eq!(next_update(&mut at_ana).await.1, "ana");
    let (bob, mut at_bob) = enter(&proxy.url("/?user=bob")).await;
    assert_eq!(next_update(&mut at_ana).await.1, "bob");
    assert_eq!(
        (next_update(&mut at_bob).await.1, next_update(&mut at_bob).await.1),
        ("ana".into(), "bob".into())
    );

    let before = bob.session().unwrap().connection_id;
    proxy.cut_all(Cut::Reset);
    let room = bob.channel::<()>("room:1");
    while bob.session().unwrap().connection_id == before {
        tokio::task::yield_now().await;
    }
    room.subscribe().await.unwrap().keep();
    // Neither has received an update before Carol joins.
    let (_carol, _) = enter(&server.url("/?user=carol")).await;
    for updates in [&mut at_ana, &mut at_bob] {
        loop {
            let (kind, user) = next_update(updates).await;
            // The number of Bob's connections may have changed, but he was present all the time.
            if kind == PresenceKind::Update && user == "bob" {
                continue;
            }
            assert_eq!((kind, user), (PresenceKind::Join, "carol".into()));
            break;
        }
    }
}

#[tokio::test]
async fn unknown_devices_are_requested() {
    let server = server();
    let (bob, mut updates) = enter(&server.url("/?user=bob")).await;
    let (_one, _) = enter(&server.url("/?user=ana")).await;
    let (two, _) = enter(&server.url("/?user=ana")).await;
    let room = bob.channel::<()>("room:1");
    let until = async |updates: &mut Stream<PresenceUpdate>, connections: u64| {
        loop {
            let update = next(updates).await.unwrap();
            if update.user == "ana" && update.member.connections == connections {
                return update.member.devices.len();
            }
        }
    };
    assert_eq!(until(&mut updates, 2).await, 2);
    two.close().await;
    assert_eq!(until(&mut updates, 1).await, 0, "which one went is not told");
    room.presence().refresh().await.unwrap();
    assert_eq!(room.presence().users["ana"].devices.len(), 1);
    // A channel without a list has nothing to request, so the call returns at once.
    bob.channel::<()>("room:2").presence().refresh().await.unwrap();
}
