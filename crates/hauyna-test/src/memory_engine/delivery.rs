//! The way of deliveries to one node: a task that lets them take their time, and loses, repeats and reorders
//! them.

use super::broker::Node;
use super::engine::MemoryEngine;
use hauyna::Position;
use hauyna::broker::{MapChange, MapName};
use hauyna::channel::Draft;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the engine sends to a node.
#[derive(Debug, Clone)]
pub(super) enum Delivery {
    Publication(Draft, Option<Position>),
    MapChange(MapName, MapChange),
    /// The link was cut and is back.
    LinkBack,
}

/// The deliveries on their way to a node, by the time when they arrive.
struct OnTheWay {
    /// The number tells deliveries apart that arrive at one time, in the order in which they were sent.
    by_time: BTreeMap<(Instant, u64), Delivery>,
    next_number: u64,
    /// When the latest delivery arrives that no other may overtake.
    latest: Instant,
}

/// Delivers to a node until its broker is dropped.
pub(super) async fn run(engine: MemoryEngine, node: Weak<Node>, mut receiver: mpsc::Receiver<Delivery>) {
    let mut on_the_way = OnTheWay { by_time: BTreeMap::new(), next_number: 0, latest: Instant::now() };
    loop {
        let first = on_the_way.by_time.first_key_value().map(|((at, _), _)| *at);
        let arrival = async {
            match first {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = arrival => {
                let Some(node) = node.upgrade() else { return };
                if let Some((_, delivery)) = on_the_way.by_time.pop_first() {
                    deliver(&node, delivery);
                }
            }
            sent = receiver.recv() => {
                let Some(sent) = sent else { return };
                on_the_way.add(&engine, sent);
            }
        }
    }
}

impl OnTheWay {
    fn add(&mut self, engine: &MemoryEngine, sent: Delivery) {
        let (fault, delay) = engine.delivery_fault();
        let now = Instant::now();
        if matches!(sent, Delivery::LinkBack) {
            return self.insert(self.latest.max(now), sent);
        }
        let at = self.latest.max(now + delay);
        // A link keeps its order and repeats nothing. What is read from a log may come late or twice, and
        // publications without a number are in no log.
        let is_logged = !matches!(sent, Delivery::Publication(_, None));
        if fault.is_overtaken && is_logged {
            // It arrives later than what is sent within the next milliseconds.
            self.insert(at + delay + OVERTAKEN, sent.clone());
        } else {
            self.latest = at;
            if !fault.is_lost {
                self.insert(at, sent.clone());
            }
        }
        if fault.is_repeated && is_logged {
            self.insert(at + delay + OVERTAKEN, sent);
        }
    }

    fn insert(&mut self, at: Instant, delivery: Delivery) {
        self.by_time.insert((at, self.next_number), delivery);
        self.next_number += 1;
    }
}

fn deliver(node: &Arc<Node>, delivery: Delivery) {
    match delivery {
        Delivery::Publication(draft, position) => node.receive(draft, position),
        Delivery::MapChange(map, change) => node.relay().map_changed(&map, &change),
        Delivery::LinkBack => node.link_back(),
    }
}

/// By how much a delivery is late at least, if others may overtake it.
const OVERTAKEN: Duration = Duration::from_millis(2);
