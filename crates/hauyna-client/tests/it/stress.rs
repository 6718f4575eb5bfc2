//! Many threads share a client: subscriptions start, end, are kept and cancelled while the network cuts
//! connections. At the end, the server has those that are wanted.

use crate::support::{builder, content, hub, named};
use hauyna_client::{Channel, Client};
use hauyna_test::{Cut, FaultProxy, TestServer};
use serde_json::json;
use std::time::Duration;

/// Returns the next of a repeatable series of pseudo-random numbers.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 31)
}

/// Does a random operation on a channel, whose share has ended when it returns.
async fn step(room: &Channel<u64>, state: &mut u64) {
    let wait = Duration::from_micros(random(state) % 3_000);
    let subscribing = tokio::time::timeout(wait, room.subscribe().into_future()).await;
    let Ok(Ok(subscription)) = subscribing else { return };
    match random(state) % 5 {
        0 => drop(subscription),
        1 => _ = tokio::time::timeout(wait, subscription.unsubscribe()).await,
        2 => {
            subscription.keep();
            _ = tokio::time::timeout(wait, room.unsubscribe()).await;
        }
        3 => {
            _ = tokio::time::timeout(wait, room.publish(&1).into_future()).await;
        }
        _ => drop((room.messages(), room.clone(), subscription)),
    }
}

async fn wait_for_answer(client: &Client) {
    // No handler exists, and the refusal is an answer.
    let error = client.request::<()>("nothing", &json!({})).repeatable().await.unwrap_err();
    assert_eq!(error.kind(), "refused", "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shares_on_many_threads_leave_only_the_wanted_subscriptions() {
    let server = TestServer::start(hub().build(), named());
    let proxy = FaultProxy::start(server.address()).await;
    let client = builder(&proxy.url("/?user=ana")).connect().unwrap();
    let kept = client.channel::<u64>("room:kept");
    let mut messages = kept.messages();
    kept.subscribe().await.unwrap().keep();
    let workers: Vec<_> = (0..16)
        .map(|worker| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut state = worker;
                for _ in 0..150 {
                    let room = client.channel::<u64>(&format!("room:{}", random(&mut state) % 4));
                    step(&room, &mut state).await;
                }
            })
        })
        .collect();
    for n in 0..12 {
        kept.publish(&n).await.unwrap();
        proxy.cut_all(Cut::Reset);
    }
    for worker in workers {
        worker.await.unwrap();
    }
    for n in 0..12 {
        assert_eq!(content(&mut messages).await, n);
    }
    // Everything that was to be sent on the current connection has been sent.
    wait_for_answer(&client).await;
    for room in (0..4).map(|n| server.hub().channel(format!("room:{n}"))) {
        for _ in 0..50 {
            if room.subscribers().is_empty() {
                break;
            }
            wait_for_answer(&client).await;
        }
        assert_eq!(room.subscribers().len(), 0, "{}", room.name());
    }
    assert_eq!(server.hub().channel("room:kept").subscribers().len(), 1);
}
