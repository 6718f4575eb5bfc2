//! Random sequences over three nodes whose links are cut and whose calls fail: in the end every node knows
//! who is connected, and, unless answers of the engine are lost, everybody has come as often as they have gone.

use super::cluster_nodes::{Cluster, Node, pause};
use super::support::Random;
use hauyna::broker::{Beat, Broker, MapName, MapRange, Relay};
use hauyna_test::{Client, EngineFaults, advance};
use std::time::Duration;

const USERS: [&str; 3] = ["ann", "bob", "eve"];

struct Run {
    cluster: Cluster,
    nodes: [Node; 3],
    clients: Vec<(&'static str, Client)>,
    random: Random,
    /// Whether answers of the engine are lost, which are all that says that a user came or went.
    loses_answers: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let cluster = Cluster::with_seed(seed);
        let nodes = [cluster.node(), cluster.node(), cluster.node()];
        Self { cluster, nodes, clients: Vec::new(), random: Random(seed), loses_answers: seed % 2 == 1 }
    }

    async fn step(&mut self) {
        let number = self.random.below(3) as usize;
        let (node, user) = (&self.nodes[number], USERS[self.random.below(3) as usize]);
        match self.random.below(8) {
            0..3 => {
                // A node without a link to the engine refuses it.
                if let Ok(client) = node.server.client(&format!("/?user={user}")).json().try_connect().await {
                    self.clients.push((user, client));
                }
            }
            3..5 if !self.clients.is_empty() => {
                let index = self.random.below(self.clients.len() as u64) as usize;
                let (_, mut client) = self.clients.swap_remove(index);
                client.send_close(1000, "").await;
                pause().await;
            }
            5 => self.cluster.engine.cut(node.id),
            6 => self.cluster.engine.heal(node.id),
            _ => {
                let delay = Duration::from_millis(self.random.below(100));
                let refused = if self.random.below(2) == 0 { 0 } else { 300 };
                let lost = if self.loses_answers { 200 } else { 0 };
                let faults = EngineFaults::none().refuse(refused).lose_answer(lost).max_delay(delay);
                self.cluster.engine.set_faults(faults);
            }
        }
        advance(Duration::from_millis(1 + self.random.below(8000))).await;
    }

    /// Repairs everything, and checks what the nodes know then.
    async fn check(mut self, seed: u64) {
        self.cluster.engine.set_faults(EngineFaults::none());
        self.nodes.iter().for_each(|node| self.cluster.engine.heal(node.id));
        advance(Duration::from_secs(60)).await;
        for is_last in [false, true] {
            for user in USERS {
                let is_connected = self.clients.iter().any(|(of, _)| *of == user);
                for node in &self.nodes {
                    let known = node.hub.user(user).is_connected().await;
                    assert_eq!(known, is_connected, "seed {seed}: {user} at {}", node.id);
                }
                let log = self.cluster.log_of(user);
                let online = log.iter().filter(|line| line.contains("online")).count();
                let came_and_went = (online, log.len() - online + usize::from(is_connected));
                let is_even = came_and_went.0 == came_and_went.1;
                assert!(is_even || self.loses_answers, "seed {seed}: {log:?}");
            }
            if is_last {
                break;
            }
            for (_, mut client) in self.clients.drain(..) {
                client.send_close(1000, "").await;
                pause().await;
            }
            advance(Duration::from_secs(30)).await;
        }
        assert_eq!(self.cluster.subscriptions(), 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_agree_on_who_is_connected_once_their_links_are_back() {
    for seed in 0..40 {
        let mut run = Run::new(seed);
        for _ in 0..40 {
            run.step().await;
        }
        run.check(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_left_while_their_node_was_taken_for_dead_does_not_stay() {
    let cluster = Cluster::default();
    let node = cluster.node();
    let clients = [node.client("ann").await, node.client("bob").await];
    let other = cluster.engine.broker();
    other.start(Relay::to(|_| {}));
    let directory = other.directory().unwrap();
    pause().await;
    cluster.engine.cut(node.id);
    let [ann, _bob] = clients;
    ann.close(1000, "").await;
    advance(Duration::from_secs(20)).await;
    // It takes the node for dead, and is gone itself before it has swept.
    assert_eq!(directory.beat(Beat::default()).await.unwrap().gone, [node.id]);
    cluster.engine.heal(node.id);
    advance(Duration::from_secs(5)).await;
    for (user, count) in [("ann", 0), ("bob", 1)] {
        let page = directory.read(&MapName::new("user", user), MapRange::all()).await.unwrap();
        assert_eq!(page.fields.len(), count, "{user}");
    }
}
