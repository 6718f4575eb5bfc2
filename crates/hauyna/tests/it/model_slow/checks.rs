//! Requests and their answers, and the expected state of clients and of the hub's counters.

use super::clients::Received;
use super::world::{self, Line, RATED};
use super::{Ordering, Peer, Run, json};
use crate::support::{eventually, wait_until_empty};
use serde_json::Value;

impl Run {
    /// Sends a request. Returns `None` if it is refused because of the client's rate, or if the connection is
    /// closed for a valid reason.
    pub(super) async fn ask(&mut self, device: u64, mut request: Value) -> Option<Result<Value, Value>> {
        self.steps.push(format!("{device} asks {request}"));
        let peer = self.clients.get_mut(&device).unwrap();
        let id = peer.next_id();
        request["id"] = json!(id);
        peer.client.send(request).await;
        let answer = loop {
            match self.clients.get_mut(&device).unwrap().receive().await {
                Received::Closed(code) => {
                    self.closed(device, code).await;
                    return None;
                }
                Received::Message(message) if message["id"] == id => break message,
                Received::Message(message) => self.clients.get_mut(&device).unwrap().accept(&message),
            }
        };
        self.admitted(device, answer)
    }

    /// Checks whether an answer is the refusal of a request over the rate.
    fn admitted(&mut self, device: u64, mut answer: Value) -> Option<Result<Value, Value>> {
        let is_refused = answer["type"] == "error";
        self.counts.refused += u64::from(is_refused);
        if device == RATED {
            let left = self.left.entry(device).or_insert(world::REQUESTS);
            let Some(less) = left.checked_sub(1) else {
                assert_eq!(answer["error_type"], "rate_limited");
                return None;
            };
            *left = less;
        }
        Some(if is_refused { Err(answer) } else { Ok(answer["data"].take()) })
    }

    /// Checks that a connection closed by the server was one that did not read.
    async fn closed(&mut self, device: u64, code: u16) {
        self.steps.push(format!("{device} is closed with {code}"));
        assert_eq!(code, 3008);
        let mut peer = self.forget(device);
        assert!(peer.may_be_closed(), "closed although it has read everything: {:?}", peer.volume);
        self.counts.slow += 1;
        peer.client.send_close(code, "").await;
        peer.client.expect_end().await;
        self.is_gone(device).await;
    }

    /// Removes a client from the model, with its counts.
    pub(super) fn forget(&mut self, device: u64) -> Peer {
        let peer = self.clients.remove(&device).unwrap();
        let unreported: u64 = peer.logs.values().map(|log| log.unreported()).sum();
        self.counts.unreported += peer.unreported + unreported;
        self.counts.gaps += peer.gaps;
        self.counts.missed += peer.missed;
        peer
    }

    /// Checks from time to time that reading clients have everything, before too much accumulates.
    pub(super) async fn check_readers(&mut self) {
        for device in self.clients.keys().copied().collect::<Vec<_>>() {
            let peer = &self.clients[&device];
            let is_due = peer.volume.bytes > UNREAD || self.random.below(6) == 0;
            if !self.clients[&device].is_stalled && is_due {
                self.check(device).await;
            }
        }
    }

    /// Checks that the client gets everything that the model expects or a gap for it, and nothing else.
    /// Returns whether it is still connected.
    pub(super) async fn check(&mut self, device: u64) -> bool {
        while !self.clients[&device].is_complete() {
            let peer = self.clients.get_mut(&device).unwrap();
            match peer.receive().await {
                Received::Closed(code) => {
                    self.closed(device, code).await;
                    return false;
                }
                Received::Message(message) => peer.accept(&message),
            }
        }
        self.ask(device, json!({ "type": "ping" })).await;
        let Some(peer) = self.clients.get_mut(&device) else { return false };
        assert!(peer.line == Line::Narrow || peer.missed == 0);
        peer.settle();
        true
    }

    /// Lets all clients read, then checks the counters and that nothing is left.
    pub(super) async fn finish(&mut self) {
        for device in self.clients.keys().copied().collect::<Vec<_>>() {
            self.resume(device).await;
        }
        let members = self.clients.keys().filter(|device| world::is_member(**device)).count();
        let subscriptions: usize = self.clients.values().map(|peer| peer.logs.len()).sum();
        let hub = self.hub().clone();
        eventually("the subscriptions match the model", || {
            hub.stats().subscriptions == (subscriptions + members) as u64
        })
        .await;
        for device in self.clients.keys().copied().collect::<Vec<_>>() {
            self.forget(device).client.close(1000, "").await;
        }
        self.counters().await;
        wait_until_empty(&hub).await;
    }

    async fn counters(&self) {
        let (stats, counts) = (self.hub().stats(), &self.counts);
        assert_eq!((stats.published, stats.refused), (counts.published, counts.refused));
        assert_eq!(stats.slow_consumers, counts.slow, "{counts:?}");
        let dropped = counts.missed..=counts.missed + counts.unreported;
        assert!(dropped.contains(&stats.dropped), "{} were dropped: {counts:?}", stats.dropped);
        assert_eq!(stats.panics, 0);
        let reported = &self.reported;
        eventually("listeners learn of slow consumers", || {
            reported.slow.load(Ordering::Relaxed) == counts.slow
        })
        .await;
        eventually("listeners learn of each gap once", || {
            let gaps = reported.gaps.load(Ordering::Relaxed);
            gaps == counts.gaps || gaps > counts.gaps && counts.unreported > 0
        })
        .await;
    }
}

/// Maximum bytes that a reading client has not read: the kernel buffers them on a wide socket.
const UNREAD: usize = 16 * 1024;
