//! The deadlines of a shard's connections, checked together about once a second: heartbeat, writing, closing,
//! unfinished messages, slow callbacks. No connection has a timer of its own. The shard's task calls this.

use crate::clock::Tick;
use crate::close::CloseReason;
use crate::connection::{ConnectionCore, Deadlines};
use crate::contain;
use crate::event::emit;
use crate::hub::HubCore;
use crate::outbox::Phase;
use crate::shard::yield_to_thread;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Checks every connection of a shard, some hundreds at a time.
pub(super) async fn sweep(hub: &HubCore, shard: usize) {
    let (mut backlog, mut now) = (0, hub.clock.tick());
    for (index, connection) in hub.registry.of_shard(shard).into_iter().enumerate() {
        // A panic costs one connection its check in this sweep, and no other one.
        let looked = contain::call(&hub.metrics.panics, || check_connection(&connection, now));
        backlog += looked.unwrap_or_default() as u64;
        if index % MAX_CHECKED_PER_TURN == MAX_CHECKED_PER_TURN - 1 {
            yield_to_thread().await;
            now = hub.clock.tick();
        }
    }
    hub.background.adopt();
    hub.background.adopt_stalled();
    hub.shards[shard].traffic.backlog.set(backlog);
    if is_broker_due(hub, hub.shards[shard].sweep_period()) {
        check_broker(hub);
    }
}

/// Whether no shard has checked the broker in the last sweep. Any shard does it: not every shard has
/// connections, or a runtime that makes progress.
fn is_broker_due(hub: &HubCore, period: u32) -> bool {
    let (now, last) = (hub.clock.tick().0, hub.broker_seen.load(Ordering::Relaxed));
    let is_due = now.wrapping_sub(last) >= period - period / 4;
    is_due && hub.broker_seen.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Lets the broker do its periodic work, and emits an event when it becomes reachable or unreachable.
fn check_broker(hub: &HubCore) {
    let looked = contain::call(&hub.metrics.panics, || {
        hub.broker.sweep();
        hub.broker.is_ready()
    });
    let is_ready = looked.unwrap_or(false);
    if hub.broker_is_up.swap(is_ready, Ordering::Relaxed) == is_ready {
        return;
    }
    if is_ready {
        tracing::info!(target: "hauyna::broker", "can be reached");
        emit!(hub.events, BrokerUp);
    } else {
        crate::log::limited("broker", || {
            tracing::warn!(target: "hauyna::broker", "cannot be reached");
        });
        emit!(hub.events, BrokerDown);
    }
}

/// Checks the deadlines of a connection and returns how many bytes wait for it.
fn check_connection(connection: &Arc<ConnectionCore>, now: Tick) -> usize {
    let (phase, blocked, backlog) = connection.liveness_checks().note_progress();
    enforce_deadlines(connection, phase, blocked, now);
    backlog
}

fn enforce_deadlines(connection: &Arc<ConnectionCore>, phase: Phase, blocked: Option<Tick>, now: Tick) {
    let endpoint = connection.endpoint();
    let expired = |since: Tick, timeout: Duration| now.since(since) >= timeout;
    match phase {
        Phase::Gone => return,
        Phase::Closing(since) if expired(since, CLOSE_TIMEOUT) => return connection.end(CloseReason::Lost),
        Phase::Closed(since) if expired(since, CLOSE_TIMEOUT) => return connection.end(CloseReason::Lost),
        Phase::Closing(_) | Phase::Closed(_) => return,
        Phase::Open => {}
    }
    connection.transitions().keep_past(now);
    if blocked.is_some_and(|since| expired(since, endpoint.write_timeout)) {
        connection.sender().count_slow_consumer();
        return connection.end(CloseReason::WriteTimeout);
    }
    let Deadlines { busy, unfinished, heard, spoke, beat, pinged } = connection.liveness_checks().deadlines();
    if busy.is_some_and(|since| expired(since, endpoint.callback_timeout)) {
        connection.liveness_checks().expire_callback();
    }
    if busy.is_some() || blocked.is_some() {
        // Nothing is read meanwhile, so silence proves nothing about the peer.
        return connection.liveness_checks().stop_reading_timeout();
    }
    if unfinished.is_some_and(|since| expired(since, endpoint.message_timeout)) {
        return connection.close_with(hauyna_protocol::close::CloseCode::BAD_REQUEST, CloseReason::Protocol);
    }
    let is_silent =
        endpoint.heartbeat.is_some_and(|heartbeat| expired(heard, heartbeat.interval.saturating_mul(2)));
    if is_silent || endpoint.idle_after.is_some_and(|timeout| expired(spoke, timeout)) {
        connection.transitions().mark_idle();
    }
    let Some(heartbeat) = endpoint.heartbeat else { return };
    if pinged.is_some_and(|since| expired(since, heartbeat.timeout)) {
        connection.metrics().heartbeat_timeouts.increment();
        connection.close_dead();
    } else if expired(beat, heartbeat.interval) {
        // Sent whatever the peer sends: a client that only sends also needs signs of life from the server.
        connection.liveness_checks().ping(beat, heartbeat.interval);
    }
}

/// How long a close handshake may take (RFC 6455 §7.1.1 leaves it open).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CHECKED_PER_TURN: usize = 512;
