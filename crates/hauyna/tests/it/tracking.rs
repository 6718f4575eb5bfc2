//! Presence changes by the application outside of a callback: for all connections of a user, lost ones
//! included, and from several tasks at once.

use crate::support::{eventually, now, user_handler, wait_for_connections};
use hauyna::{ChannelOptions, Hub, HubBuilder, Presence, json};
use hauyna_test::TestServer;
use std::time::Duration;

fn rooms() -> HubBuilder {
    Hub::builder().channels("room:{id}", ChannelOptions::new().presence(Presence::each()))
}

#[tokio::test]
async fn tracking_a_user_tracks_all_of_their_connections() {
    let hub = rooms().sessions(hauyna::SessionOptions::none()).presence_grace(Duration::ZERO).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let (phone, desk) = (server.connect("/?user=ann").await, server.connect("/?user=ann").await);
    let ann = hub.presence().of("ann");
    ann.track(json!({ "role": "admin" })).await.unwrap();
    let entry = hub.presence().get("ann").await.unwrap();
    assert_eq!((entry.connections.len(), entry.metadata), (2, json!({ "role": "admin" })));
    phone.close(1000, "").await;
    wait_for_connections(&hub, 1).await;
    assert_eq!(hub.presence().get("ann").await.unwrap().connections.len(), 1);
    ann.untrack().await.unwrap();
    assert_eq!((hub.presence().is_present("ann").await, hub.presence().count().await), (false, 0));
    ann.track(()).await.unwrap();
    desk.close(1000, "").await;
    eventually("ann has left", || !now(hub.presence().is_present("ann"))).await;
    for absent in ["ann", "nobody"] {
        let refused = hub.presence().of(absent).track(()).await.unwrap_err();
        assert_eq!(refused.error_type().as_str(), "not_subscribed", "{absent}");
    }
    assert_eq!(hub.presence().track(()).await.unwrap_err().error_type().as_str(), "application_error");
    hub.presence().of("nobody").untrack().await.unwrap();
    assert_eq!(hub.presence().count().await, 0);
}

#[tokio::test]
async fn tracking_includes_lost_connections_with_a_session() {
    let server = TestServer::start(rooms().build(), user_handler());
    let hub = server.hub().clone();
    let mut phone = server.json("/?user=ann").await;
    let token = phone.expect("session").await["resume"]["token"].as_str().unwrap().to_owned();
    phone.subscribe("room:1").await;
    phone.vanish();
    eventually("the session still exists", || hub.stats().sessions == 1).await;
    hub.presence().of("ann").track(()).await.unwrap();
    let mut phone = server.json(&format!("/?user=ann&resume={token}")).await;
    phone.send(json!({ "type": "resume" })).await;
    assert_eq!(phone.expect("session").await["resumed"], true);
    phone.request(json!({ "type": "unsubscribe_channel", "channel": "room:1" })).await.unwrap();
    assert!(hub.presence().is_present("ann").await, "the connection was tracked while it was lost");
    phone.vanish();
    eventually("the session still exists", || hub.stats().sessions == 1).await;
    hub.presence().of("ann").untrack().await.unwrap();
    assert!(!hub.presence().is_present("ann").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn latest_metadata_of_a_subscriber_is_shown() {
    let hub = rooms().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("room:1").await;
    let connection = hub.connections().of_user("ann").remove(0);
    for round in 0..500 {
        let says = (0..4).map(|task| {
            let (room, connection) = (hub.channel("room:1"), connection.clone());
            tokio::spawn(async move { room.update_metadata(&connection, json!({ "said": [round, task] })) })
        });
        for said in says.collect::<Vec<_>>() {
            said.await.unwrap().unwrap();
        }
        let room = hub.channel("room:1");
        let shown = room.presence().await.remove(0).connections.remove(0).metadata;
        assert_eq!(room.metadata(&connection), Some(shown), "round {round}");
    }
}

#[tokio::test]
async fn status_that_is_not_text_is_refused() {
    let hub = rooms().build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("room:1").await;
    let ann = hub.presence().of("ann");
    for status in [json!(7), json!(true), json!(["away"]), json!({ "is": "away" })] {
        let fields = || json!({ "status": status, "mood": "odd" });
        for error in [ann.track(fields()).await.unwrap_err(), ann.update(fields()).await.unwrap_err()] {
            assert_eq!(error.error_type().as_str(), "validation_error", "{status}");
            assert_eq!(error.details().unwrap()["path"], "status");
        }
    }
    assert_eq!(hub.presence().get("ann").await.unwrap().metadata, json!({}), "nothing changed");
    ann.update(json!({ "status": "away" })).await.unwrap();
    ann.update(json!({ "status": null })).await.unwrap();
    assert_eq!(hub.presence().get("ann").await.unwrap().status, hauyna::presence::Status::Online);
}
