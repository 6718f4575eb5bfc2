//! Several hubs on one engine in memory: which nodes there are, and who is online over all of them.

use super::support::{Random, eventually, open_hub, registered, user_handler, wait_until_empty};
use hauyna::broker::NodeId;
use hauyna::{CloseCode, Hub, HubBuilder};
use hauyna_test::{Client, EngineFaults, MemoryEngine, MemoryServer, advance};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// One node of a cluster, with its clients in memory.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) hub: Hub,
    pub(crate) server: MemoryServer,
}

/// The nodes of one test, and who came online and went offline according to them.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) engine: MemoryEngine,
    log: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self { engine: MemoryEngine::with_seed(seed), ..Self::default() }
    }

    pub(crate) fn node(&self) -> Node {
        self.node_with(|hub| hub)
    }

    pub(crate) fn node_with(&self, options: impl FnOnce(HubBuilder) -> HubBuilder) -> Node {
        let broker = self.engine.broker();
        let (id, number) = (broker.id(), broker.id().number());
        let [online, offline] = [self.log.clone(), self.log.clone()];
        let hub = options(open_hub().broker(broker).presence_grace(Duration::from_secs(5)))
            .on_user_online(move |_, user| {
                online.lock().push(format!("{user} online at {number}"));
                async { Ok(()) }
            })
            .on_user_offline(move |_, user| {
                offline.lock().push(format!("{user} offline at {number}"));
                async { Ok(()) }
            })
            .build();
        let server = MemoryServer::start(hub.clone(), user_handler().no_heartbeat());
        Node { id, hub, server }
    }

    /// Returns how many channels the nodes are subscribed to.
    pub(crate) fn subscriptions(&self) -> usize {
        let text = format!("{:?}", self.engine);
        let (_, after) = text.split_once("subscriptions: ").unwrap();
        after.split(',').next().unwrap().parse().unwrap()
    }

    /// Returns how often a user came and went.
    pub(crate) fn log_of(&self, user: &str) -> Vec<String> {
        self.log.lock().iter().filter(|line| line.starts_with(&format!("{user} "))).cloned().collect()
    }

    /// Returns who came and went since the last call.
    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }
}

impl Node {
    pub(crate) async fn client(&self, user: &str) -> Client {
        let mut client = self.server.json(&format!("/?user={user}")).await;
        client.expect("session").await;
        client
    }

    /// Ends the node as a crash does: nothing that it does from now on reaches the others.
    fn kill(self, cluster: &Cluster) {
        cluster.engine.cut(self.id);
    }
}

pub(crate) async fn pause() {
    advance(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn every_node_knows_the_nodes_that_live_with_their_counts() {
    let cluster = Cluster::default();
    let nodes = [cluster.node(), cluster.node(), cluster.node()];
    let _ann = nodes[0].client("ann").await;
    let _bob = nodes[1].client("bob").await;
    advance(Duration::from_secs(5)).await;
    for node in &nodes {
        let seen = node.hub.nodes().await;
        let counts: Vec<_> = seen.iter().map(|node| (node.id.number(), node.connections)).collect();
        assert_eq!(counts, [(1, 1), (2, 1), (3, 0)]);
        assert!(seen.iter().all(|node| node.uptime >= 2_000 && node.version == env!("CARGO_PKG_VERSION")));
    }
    let [one, two, three] = nodes;
    three.kill(&cluster);
    advance(Duration::from_secs(20)).await;
    for node in [&one, &two] {
        assert_eq!(node.hub.nodes().await.iter().map(|node| node.id.number()).collect::<Vec<_>>(), [1, 2]);
    }
}

#[tokio::test]
async fn a_hub_without_a_cluster_is_the_only_node() {
    let hub = Hub::new();
    let nodes = hub.nodes().await;
    assert_eq!((nodes.len(), nodes[0].id), (1, NodeId::ALONE));
}

#[tokio::test(start_paused = true)]
async fn connection_ids_name_their_nodes() {
    let cluster = Cluster::default();
    for node in [cluster.node(), cluster.node()] {
        let mut client = node.server.json("/?user=ann").await;
        let id = client.expect("session").await["connection_id"].as_str().unwrap().to_owned();
        let id: hauyna::ConnectionId = id.parse().unwrap();
        assert_eq!((id.node(), node.hub.connection(id).is_some()), (node.id, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_on_two_nodes_comes_and_goes_once() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let here = one.client("ann").await;
    pause().await;
    let there = two.client("ann").await;
    pause().await;
    assert_eq!(cluster.take_log(), ["ann online at 1"]);
    here.close(1000, "").await;
    advance(Duration::from_secs(10)).await;
    assert!(one.hub.user("ann").is_connected().await, "on the other node");
    assert!(cluster.take_log().is_empty());
    there.close(1000, "").await;
    advance(Duration::from_secs(10)).await;
    assert_eq!(cluster.take_log(), ["ann offline at 2"]);
    assert!(!one.hub.user("ann").is_connected().await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_user_who_is_back_on_another_node_in_time_was_never_offline() {
    let cluster = Cluster::default();
    let sessionless = |hub: HubBuilder| hub.sessions(hauyna::SessionOptions::new().window(Duration::ZERO));
    let (one, two) = (cluster.node_with(sessionless), cluster.node_with(sessionless));
    let lost = one.client("ann").await;
    pause().await;
    lost.vanish();
    pause().await;
    assert!(!two.hub.user("ann").is_connected().await, "only counted as online");
    let back = two.client("ann").await;
    advance(Duration::from_secs(30)).await;
    assert_eq!(cluster.take_log(), ["ann online at 1"]);
    back.vanish();
    advance(Duration::from_secs(30)).await;
    assert_eq!(cluster.take_log(), ["ann offline at 2"]);
}

#[tokio::test(start_paused = true)]
async fn users_of_a_killed_node_go_offline_once_after_its_time_to_live() {
    let cluster = Cluster::default();
    let (one, two, three) = (cluster.node(), cluster.node(), cluster.node());
    let _ann = one.client("ann").await;
    let _bob = one.client("bob").await;
    let _bob_too = two.client("bob").await;
    pause().await;
    assert!(three.hub.user("ann").is_connected().await);
    cluster.take_log();
    one.kill(&cluster);
    advance(Duration::from_secs(10)).await;
    assert!(cluster.take_log().is_empty(), "the lease has not ended");
    advance(Duration::from_secs(20)).await;
    let log = cluster.take_log();
    assert!(log.len() == 1 && log[0].starts_with("ann offline at "), "{log:?}");
    assert!(!three.hub.user("ann").is_connected().await);
    assert!(three.hub.user("bob").is_connected().await);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_says_again_who_is_there() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let _ann = one.client("ann").await;
    let _bob = one.client("bob").await;
    let _bob_too = two.client("bob").await;
    pause().await;
    cluster.take_log();
    cluster.engine.cut(one.id);
    advance(Duration::from_secs(30)).await;
    assert_eq!(cluster.take_log(), ["ann offline at 2"]);
    assert!(one.hub.user("ann").is_connected().await, "it has the connection itself");
    assert!(!two.hub.user("ann").is_connected().await);
    cluster.engine.heal(one.id);
    advance(Duration::from_secs(5)).await;
    assert_eq!(cluster.take_log(), ["ann online at 1"]);
    assert!(two.hub.user("ann").is_connected().await);
    advance(Duration::from_secs(60)).await;
    assert!(cluster.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_directory_refuses_is_written_once_it_is_back() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let leaving = one.client("ann").await;
    let mut coming = one.client("bob").await;
    let twice = one.client("eve").await;
    let _twice_too = one.client("eve").await;
    pause().await;
    cluster.take_log();
    cluster.engine.set_faults(EngineFaults::none().refuse(1000));
    leaving.close(1000, "").await;
    twice.close(1000, "").await;
    coming.send_close(1000, "").await;
    advance(Duration::from_secs(9)).await;
    assert!(cluster.take_log().is_empty(), "nobody knows yet");
    assert!(one.hub.nodes().await.len() == 2, "as of the last beat");
    cluster.engine.set_faults(EngineFaults::none());
    advance(Duration::from_secs(3)).await;
    let mut log = cluster.take_log();
    log.sort();
    assert_eq!(log, ["ann offline at 1", "bob offline at 1"]);
    assert!(two.hub.user("eve").is_connected().await);
}

#[tokio::test(start_paused = true)]
async fn lost_answers_neither_hide_nor_repeat_that_a_user_came() {
    for seed in 0..20 {
        let cluster = Cluster::with_seed(seed);
        let one = cluster.node();
        let faults = EngineFaults::none().lose_answer(300).max_delay(Duration::from_millis(20));
        for _ in 0..3 {
            let client = one.client("ann").await;
            cluster.engine.set_faults(faults);
            advance(Duration::from_secs(20)).await;
            client.close(1000, "").await;
            advance(Duration::from_secs(20)).await;
            cluster.engine.set_faults(EngineFaults::none());
        }
        let expected = ["ann online at 1", "ann offline at 1"].repeat(3);
        assert_eq!(cluster.take_log(), expected, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_refused_while_the_broker_cannot_be_reached() {
    let cluster = Cluster::default();
    let node = cluster.node();
    cluster.engine.cut(node.id);
    let refused = node.server.client("/?user=ann").json().try_connect().await.unwrap_err();
    assert_eq!(refused.status.as_u16(), 503);
    cluster.engine.heal(node.id);
    node.client("ann").await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_of_a_cluster_is_freed_with_its_last_handle() {
    let cluster = Cluster::default();
    let node = cluster.node();
    let client = node.client("ann").await;
    pause().await;
    assert!(format!("{:?}", cluster.engine).contains("nodes: 1"));
    client.close(1000, "").await;
    pause().await;
    drop(node);
    pause().await;
    assert!(format!("{:?}", cluster.engine).contains("nodes: 0"), "{:?}", cluster.engine);
    advance(Duration::from_secs(61)).await; // the broker's own tasks look once a minute
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_user_is_not_connected_on_any_node() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let mut ann = one.client("ann").await;
    pause().await;
    assert_eq!(two.hub.user("ann").disconnect(CloseCode(4000), "enough").await, 0);
    assert_eq!(ann.expect_close().await, (4000, "enough".to_owned()));
    advance(Duration::from_secs(10)).await;
    for node in [&one, &two] {
        assert!(!node.hub.user("ann").is_connected().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_who_come_and_go_quickly_on_two_nodes_are_gone_in_the_end() {
    const USERS: [&str; 3] = ["ann", "bob", "eve"];
    let cluster = Cluster::default();
    let quick = |hub: HubBuilder| {
        let sessionless = hauyna::SessionOptions::new().window(Duration::ZERO);
        hub.sessions(sessionless).presence_grace(Duration::ZERO)
    };
    let nodes = Arc::new([cluster.node_with(quick), cluster.node_with(quick)]);
    let clients = (0..4_usize).map(|number| {
        let nodes = nodes.clone();
        tokio::spawn(async move {
            let mut random = Random(number as u64);
            for _ in 0..60 {
                let node = &nodes[random.below(2) as usize];
                let client = node.client(USERS[random.below(3) as usize]).await;
                match random.below(3) {
                    0 => client.vanish(),
                    1 => client.close(1000, "").await,
                    _ => drop(client),
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    for node in nodes.iter() {
        wait_until_empty(&node.hub).await;
    }
    let is_balanced = |log: &[String], user: &str| {
        let count =
            |what: &str| log.iter().filter(|line| line.starts_with(&format!("{user} {what}"))).count();
        count("online") == count("offline")
    };
    eventually("everybody has gone", || {
        let log = cluster.log.lock();
        USERS.iter().all(|user| is_balanced(&log, user))
    })
    .await;
    for user in USERS {
        assert!(!nodes[0].hub.user(user).is_connected().await, "{user}");
    }
    assert_eq!(cluster.subscriptions(), 0, "the channels of the users are given back");
    for node in nodes.iter() {
        let mut client = node.client("ann").await;
        nodes[0].hub.user("ann").send("hello").await.unwrap();
        assert_eq!(client.expect("private").await["message"], "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_lost_everything_is_told_again() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let _ann = one.client("ann").await;
    pause().await;
    cluster.engine.flush();
    assert!(!two.hub.user("ann").is_connected().await);
    advance(Duration::from_secs(3)).await;
    assert!(two.hub.user("ann").is_connected().await);
    assert_eq!(two.hub.nodes().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn registered_sockets_are_connections_of_the_cluster() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let (mut client, _connection) = registered(&one.hub, "ann", &user_handler().share()).await;
    pause().await;
    assert!(two.hub.user("ann").is_connected().await);
    two.hub.user("ann").send("hello").await.unwrap();
    assert_eq!(client.next().await["message"], "hello");
    drop(client);
    advance(Duration::from_secs(10)).await;
    assert_eq!(cluster.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_user_who_is_back_is_connected_for_the_other_nodes() {
    let cluster = Cluster::default();
    let (one, two) = (cluster.node(), cluster.node());
    let lost = one.client("ann").await;
    lost.vanish();
    pause().await;
    assert!(!two.hub.user("ann").is_connected().await, "the session waits");
    let _back = one.client("ann").await;
    pause().await;
    assert!(two.hub.user("ann").is_connected().await);
    assert_eq!(cluster.take_log(), ["ann online at 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_knows_its_own_users_before_the_directory_does() {
    for seed in 0..10 {
        let cluster = Cluster::with_seed(seed);
        let one = cluster.node();
        let client = one.client("ann").await;
        pause().await;
        cluster.engine.set_faults(EngineFaults::none().max_delay(Duration::from_millis(200)));
        client.close(1000, "").await;
        wait_until_empty(&one.hub).await;
        assert!(!one.hub.user("ann").is_connected().await, "seed {seed}");
    }
}
