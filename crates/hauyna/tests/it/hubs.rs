//! Several hubs in one program: handles of one hub are refused by the others, without harm to either.

use crate::support::{eventually, open_hub, user_handler};
use hauyna::error::ErrorKind;
use hauyna::{Connection, Hub, json};
use hauyna_test::{Client, TestServer};

/// A hub with one client of this name, subscribed to `x`.
struct Side {
    server: TestServer,
    client: Client,
    connection: Connection,
}

impl Side {
    async fn new(user: &str) -> Self {
        let server = TestServer::start(open_hub().build(), user_handler());
        let mut client = server.connect(&format!("/?user={user}")).await;
        client.subscribe("x").await;
        let connection = server.hub().connections().of_user(user).remove(0);
        Self { server, client, connection }
    }

    fn hub(&self) -> &Hub {
        self.server.hub()
    }
}

#[tokio::test]
async fn hub_refuses_connections_of_another_hub() {
    let (mut ann, mut bea) = (Side::new("ann").await, Side::new("bea").await);
    let (foreign, channel) = (ann.connection.clone(), bea.hub().channel("x"));
    let refused = [
        channel.subscribe(&foreign, ()).await.unwrap_err(),
        bea.hub().channel("new").subscribe(&foreign, json!({ "a": 1 })).await.unwrap_err(),
        channel.unsubscribe(&foreign).unwrap_err(),
        channel.update_metadata(&foreign, json!({ "a": 1 })).unwrap_err(),
        bea.hub().events().trigger("e", Some(&foreign), ()).await.unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.kind() == ErrorKind::OtherHub), "{refused:?}");
    assert!(!channel.is_subscribed(&foreign) && channel.metadata(&foreign).is_none());
    // An identifier belongs to one hub, too.
    let id = foreign.id();
    assert!(bea.hub().connections().by_id(id).is_none() && bea.hub().connection(id).is_none());
    assert!(bea.hub().inspect().connection(id).is_none() && !bea.hub().connections().unregister(id));
    channel.publish("to all of this hub").except(id).await.unwrap();
    assert_eq!(bea.client.expect("message").await["content"], "to all of this hub");
    // Neither hub has changed.
    ann.hub().channel("x").broadcast("still here").await.unwrap();
    assert_eq!(ann.client.expect("message").await["content"], "still here");
    for side in [&ann, &bea] {
        assert_eq!((side.hub().stats().channels, side.hub().stats().subscriptions), (1, 1));
    }
    ann.hub().channel("x").unsubscribe(&foreign).unwrap();
    eventually("only the connection's own hub has changed", || ann.hub().stats().subscriptions == 0).await;
    assert_eq!(bea.hub().stats().subscriptions, 1);
}

#[tokio::test]
async fn publication_that_excludes_two_connections_is_an_error() {
    let (ann, bea) = (Side::new("ann").await, Side::new("bea").await);
    let (one, other) = (ann.connection.id(), bea.connection.id());
    let publish = || ann.hub().channel("x").publish(1).except(one);
    assert_eq!(publish().except(other).await.unwrap_err().kind(), ErrorKind::Config);
    publish().except(one).await.unwrap();
    let many = || ann.hub().connections().send_to_many(["ann"], 1).except(one);
    assert_eq!(many().except(other).await.unwrap_err().kind(), ErrorKind::Config);
    many().except(one).await.unwrap();
}
