//! What one node sends to the users of another: direct messages, messages to groups and to everybody, and
//! what every node has to do.

use super::cluster_nodes::{Cluster, pause};
use super::support::wait_until_empty;
use hauyna::auth::Revocation;
use hauyna::broker::{Broker, Publish, Relay};
use hauyna::channel::{Content, Draft, PublicationKind};
use hauyna::limits::UnknownUsers;
use hauyna::{ChannelName, CloseCode, json};
use hauyna_test::{EngineFaults, advance};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn direct_messages_reach_all_nodes_of_a_user_from_the_session_on() {
    let cluster = Cluster::default();
    let (one, two, three) = (cluster.node(), cluster.node(), cluster.node());
    let mut clients = Vec::new();
    for (number, node) in [&one, &two, &one].into_iter().enumerate() {
        let mut client = node.client("ann").await;
        three.hub.user("ann").send(json!({ "number": number })).await.unwrap();
        assert_eq!(client.expect("private").await["message"], json!({ "number": number }));
        clients.push(client);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        for number in index + 1..3 {
            assert_eq!(client.expect("private").await["message"], json!({ "number": number }));
        }
        client.expect_nothing().await;
    }
    for client in clients {
        client.close(1000, "").await;
    }
    pause().await;
    let mut back = one.client("ann").await;
    two.hub.user("ann").send("again").await.unwrap();
    assert_eq!(back.expect("private").await["message"], "again");
    two.hub.connections().broadcast("everybody").await.unwrap();
    assert_eq!(back.expect("broadcast").await["message"], "everybody");
}

#[tokio::test(start_paused = true)]
async fn direct_messages_arrive_at_most_once_and_in_order_while_the_engine_fails() {
    for seed in 0..20 {
        let cluster = Cluster::with_seed(seed);
        let (one, two) = (cluster.node(), cluster.node());
        let mut ann = one.client("ann").await;
        let delay = Duration::from_millis(20);
        cluster.engine.set_faults(EngineFaults::none().lose(200).repeat(300).reorder(300).max_delay(delay));
        for number in 0..50 {
            two.hub.user("ann").send(json!({ "number": number })).await.unwrap();
        }
        cluster.engine.set_faults(EngineFaults::none());
        advance(Duration::from_secs(1)).await;
        two.hub.user("ann").send(json!({ "number": 50 })).await.unwrap();
        let mut received = Vec::new();
        while received.last() != Some(&50) {
            received.push(ann.expect("private").await["message"]["number"].as_u64().unwrap());
        }
        assert!(received.is_sorted_by(|earlier, later| earlier < later), "seed {seed}: {received:?}");
        assert!(received.len() > 20, "seed {seed}: {received:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_to_a_group_reach_the_members_of_each_node() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    one.hub.groups().add("ann", "team").await.unwrap();
    let mut ann = one.client("ann").await;
    let mut bob = one.client("bob").await;
    pause().await;
    one.hub.groups().add("bob", "team").await.unwrap();
    pause().await;
    two.hub.groups().send("team", "hello").await.unwrap();
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.expect("group").await["message"], "hello");
    }
    one.hub.groups().remove("ann", "team").await;
    one.hub.groups().remove("bob", "team").await;
    one.hub.groups().add("ann", "team").await.unwrap();
    pause().await;
    two.hub.groups().send("team", "again").await.unwrap();
    assert_eq!(ann.expect("group").await["message"], "again");
    bob.expect_nothing().await;
    assert_eq!(cluster.subscriptions(), 3, "two users and the group");
    for client in [ann, bob] {
        client.close(1000, "").await;
    }
    pause().await;
    assert_eq!(cluster.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_relayed_once_the_broker_is_back() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let mut ann = one.client("ann").await;
    cluster.engine.cut(one.id);
    one.hub.groups().add("ann", "team").await.unwrap();
    advance(Duration::from_secs(3)).await;
    cluster.engine.heal(one.id);
    advance(Duration::from_secs(1)).await;
    two.hub.groups().send("team", "hello").await.unwrap();
    assert_eq!(ann.expect("group").await["message"], "hello");
}

#[tokio::test(start_paused = true)]
async fn private_requests_find_users_of_other_nodes() {
    let cluster = Cluster::default();
    let refusing = || cluster.node_with(|hub| hub.unknown_users(UnknownUsers::Refused));
    let (one, two) = (refusing(), refusing());
    let mut ann = one.client("ann").await;
    let mut bob = two.client("bob").await;
    pause().await;
    let private = |to: &str| json!({ "type": "private", "to": to, "message": "hello" });
    bob.request(private("ann")).await.unwrap();
    assert_eq!(ann.expect("private").await["from"], "bob");
    assert_eq!(bob.request(private("eve")).await.unwrap_err()["error_type"], "unknown_user");
    cluster.engine.cut(two.id);
    assert_eq!(bob.request(private("ann")).await.unwrap_err()["error_type"], "unavailable");
}

#[tokio::test(start_paused = true)]
async fn disconnect_stands_in_order_with_direct_messages() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let mut ann = one.client("ann").await;
    let mut bob = one.client("bob").await;
    let user = two.hub.user("ann");
    user.send("before").await.unwrap();
    assert_eq!(ann.expect("private").await["message"], "before");
    assert_eq!(user.disconnect(CloseCode(4000), "enough").await, 0);
    user.send("after").await.unwrap();
    assert_eq!(ann.expect_close().await, (4000, "enough".to_owned()));
    bob.expect_nothing().await;
    let here = two.client("ann").await;
    let there = one.client("ann").await;
    assert_eq!(user.disconnect(CloseCode(4000), "enough").await, 1, "those of this node are counted");
    for mut client in [here, there] {
        assert_eq!(client.expect_close().await.0, 4000);
    }
}

#[tokio::test(start_paused = true)]
async fn disconnect_ends_lost_sessions_on_other_nodes() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let lost = one.client("ann").await;
    lost.vanish();
    pause().await;
    assert_eq!(one.hub.stats().sessions, 1);
    two.hub.user("ann").disconnect(CloseCode(4000), "a moment").await;
    pause().await;
    assert_eq!(one.hub.stats().sessions, 1, "the client may come back");
    two.hub.user("ann").disconnect(CloseCode(4500), "enough").await;
    pause().await;
    assert_eq!(one.hub.stats().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn revoke_closes_and_refuses_on_every_node() {
    let cluster = Cluster::default();
    let nodes = [cluster.node(), cluster.node(), cluster.node()];
    let mut eve = nodes[0].client("eve").await;
    let mut bob = nodes[0].client("bob").await;
    let lost = nodes[1].client("eve").await;
    lost.vanish();
    pause().await;
    let revocation = Revocation::user("eve").lasting(Duration::from_secs(60));
    assert_eq!(nodes[2].hub.revoke(revocation).await, 0);
    assert_eq!(eve.expect_close().await.0, 3505);
    pause().await;
    assert_eq!(nodes[1].hub.stats().sessions, 0);
    for node in &nodes {
        let refused = node.server.client("/?user=eve").json().try_connect().await.unwrap_err();
        assert_eq!(refused.status.as_u16(), 401);
    }
    bob.expect_nothing().await;
    advance(Duration::from_secs(61)).await;
    nodes[0].client("eve").await;
}

#[tokio::test(start_paused = true)]
async fn control_messages_that_mean_nothing_are_counted_and_ignored() {
    let cluster = Cluster::default();
    let node = cluster.node();
    node.hub.groups().add("ann", "team").await.unwrap();
    let mut ann = node.client("ann").await;
    pause().await;
    let other = cluster.engine.broker();
    other.start(Relay::to(|_| {}));
    let disconnect = r#"{"from":7,"control":{"disconnect":{"code":4000,"reason":""}}}"#;
    let contents = [
        (ChannelName::of_user("ann"), "{"),
        (ChannelName::of_user("ann"), "null"),
        (ChannelName::of_user("ann"), r#"{"from":7,"control":{"explode":{}}}"#),
        (ChannelName::of_user("ann"), r#"{"from":7,"control":{"disconnect":{"code":-1,"reason":""}}}"#),
        (ChannelName::of_user("ann"), r#"{"from":7,"control":{"end_sessions":{"user":"ann"}}}"#),
        (ChannelName::everybody(), disconnect),
        (ChannelName::of_group("team"), disconnect),
        (
            ChannelName::everybody(),
            r#"{"from":7,"control":{"revoke":{"whose":{"group":"a"},"lasting_ms":1}}}"#,
        ),
    ];
    let count = contents.len() as u64;
    for (channel, content) in contents {
        let content = Content::of_protocol(content.as_bytes().to_vec());
        let draft = Draft::with_content(channel, PublicationKind::Control, content);
        other.publish(Publish { draft, retention: None, key: None }).await.unwrap();
    }
    node.hub.user("ann").send("still here").await.unwrap();
    assert_eq!(ann.expect("private").await["message"], "still here");
    assert_eq!(node.hub.stats().control_errors, count);
}

#[tokio::test(start_paused = true)]
async fn a_node_does_its_part_of_a_revocation_once() {
    for seed in 0..20 {
        let cluster = Cluster::with_seed(seed);
        let node = cluster.node();
        let mut ann = node.client("ann").await;
        cluster.engine.set_faults(EngineFaults::none().max_delay(Duration::from_millis(50)));
        assert_eq!(node.hub.revoke(Revocation::user("ann")).await, 1);
        assert_eq!(ann.expect_close().await.0, 3505);
        drop(ann);
        wait_until_empty(&node.hub).await;
        let mut again = node.client("ann").await;
        assert_eq!(node.hub.user("ann").disconnect(CloseCode(4500), "enough").await, 1);
        assert_eq!(again.expect_close().await.0, 4500);
        let mut last = node.client("ann").await;
        advance(Duration::from_secs(1)).await;
        last.expect_nothing().await;
    }
}
