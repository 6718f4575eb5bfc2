//! Runtimes that exist but are not driven, as between two calls of `block_on`, and runtimes without timers:
//! the background work of the hub continues in another runtime with connections.

use crate::support::{eventually, now, open_hub, subscriber, user_handler, wait_for_connections};
use hauyna::events::SystemKind;
use hauyna::{ChannelOptions, Error, Hub, Presence, SessionOptions, json};
use hauyna_test::{TestServer, WrappedBroker};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Counts the group changes that a listener receives.
fn count_group_changes(hub: &Hub) -> Arc<AtomicU64> {
    let delivered = Arc::new(AtomicU64::new(0));
    let count = delivered.clone();
    hub.events().on_system([SystemKind::GroupChanged], move |_, _| {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    delivered
}

#[test]
fn events_are_delivered_although_their_runtime_is_idle() {
    let (hub, first, second) = (open_hub().shards(1).build(), single(), single());
    let delivered = count_group_changes(&hub);
    first.block_on(async { hub.groups().add("ann", "g").await }).unwrap();
    let (server, mut client) = second.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "ben", "x").await;
        eventually("the event is delivered", || delivered.load(Ordering::Relaxed) == 1).await;
        (server, client)
    });
    // The first runtime is driven again, and repeats nothing.
    first.block_on(async {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        hub.groups().add("ann", "h").await.unwrap();
    });
    second.block_on(async {
        eventually("the next event is delivered", || delivered.load(Ordering::Relaxed) == 2).await;
        hub.channel("x").broadcast(json!(1)).await.unwrap();
        client.wait_for("message").await;
    });
    assert_eq!((delivered.load(Ordering::Relaxed), hub.stats().panics), (2, 0));
    drop(server);
}

#[test]
fn sessions_and_presence_expire_although_their_runtime_is_idle() {
    let sessions = SessionOptions::new().window(Duration::from_millis(50));
    let channels = ChannelOptions::new().presence(Presence::each());
    let hub = Hub::builder().shards(1).sessions(sessions).channels("{*any}", channels).build();
    let (first, second) = (single(), single());
    let _kept = first.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        drop(subscriber(&server, "ann", "room").await);
        wait_for_connections(&hub, 0).await;
        server
    });
    assert_eq!((now(hub.channel("room").presence()).len(), hub.stats().sessions), (1, 1));
    second.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let _client = subscriber(&server, "ben", "x").await;
        eventually("ann has left", || now(hub.channel("room").presence()).is_empty()).await;
        assert_eq!(hub.stats().sessions, 0);
    });
}

#[test]
fn event_of_a_runtime_without_timers_is_delivered_by_another_one() {
    let hub = open_hub().shards(1).build();
    let (delivered, second) = (count_group_changes(&hub), single());
    let _kept = second.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "ben", "x").await;
        (server, client)
    });
    Builder::new_current_thread().build().unwrap().block_on(async {
        for number in 0..5 {
            hub.groups().add("ann", &format!("g-{number}")).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    second.block_on(eventually("all events are delivered", || delivered.load(Ordering::Relaxed) == 5));
}

#[test]
fn broker_is_swept_whichever_shard_runs() {
    let sweeps = Arc::<AtomicU64>::default();
    let count = sweeps.clone();
    let broker = WrappedBroker::default().on_sweep(move |local| {
        count.fetch_add(1, Ordering::Relaxed);
        local.sweep();
    });
    let hub = open_hub().shards(2).broker(broker).build();
    let idle = single();
    // One connection in each shard, on a runtime that is no longer driven.
    let _kept = idle.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let clients = [subscriber(&server, "a", "x").await, subscriber(&server, "b", "x").await];
        (server, clients)
    });
    // Then one connection in each shard in turn.
    for user in ["c", "d"] {
        single().block_on(async {
            let server = TestServer::start(hub.clone(), user_handler());
            let _client = subscriber(&server, user, "x").await;
            let before = sweeps.load(Ordering::Relaxed);
            eventually("the broker is swept", || sweeps.load(Ordering::Relaxed) > before + 1).await;
        });
    }
}

#[test]
fn running_listener_finishes_after_another_runtime_took_over() {
    let (hub, first, second) = (open_hub().shards(1).build(), single(), single());
    let (begun, ended, gate) =
        (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::new(Semaphore::new(0)));
    let (begins, ends, waits) = (begun.clone(), ended.clone(), gate.clone());
    hub.events().on_system([SystemKind::GroupChanged], move |_, _| {
        let (begins, ends, waits) = (begins.clone(), ends.clone(), waits.clone());
        async move {
            if begins.fetch_add(1, Ordering::Relaxed) == 0 {
                waits.acquire().await.map(drop).map_err(Error::other)?;
            }
            ends.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    first.block_on(async {
        hub.groups().add("ann", "g").await.unwrap();
        eventually("the listener runs", || begun.load(Ordering::Relaxed) == 1).await;
    });
    let (_server, _client) = second.block_on(async {
        let server = TestServer::start(hub.clone(), user_handler());
        let client = subscriber(&server, "ben", "x").await;
        hub.groups().add("ann", "h").await.unwrap();
        eventually("the next event is delivered", || ended.load(Ordering::Relaxed) == 1).await;
        (server, client)
    });
    gate.add_permits(1);
    first.block_on(eventually("the first listener has finished", || ended.load(Ordering::Relaxed) == 2));
    // It has delivered nothing else, and the other task continues.
    now(hub.groups().add("ann", "i")).unwrap();
    second.block_on(eventually("one more event is delivered", || ended.load(Ordering::Relaxed) == 3));
    assert_eq!(begun.load(Ordering::Relaxed), 3);
}
