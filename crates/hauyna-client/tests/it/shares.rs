//! Several parts of a program use one channel: each has a share of the subscription, and the last one ends
//! it.

use crate::script::{Peer, script};
use crate::support::{client, content, server};
use hauyna_client::{Client, Error, Subscription};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

async fn answer_next(peer: &mut Peer, kind: &str) -> Value {
    let request = peer.expect(kind).await;
    peer.ack(&request, json!({ "channel": request["channel"], "recoverable": false })).await;
    request
}

/// Returns a client with two shares of one subscription, which was requested once.
async fn two_shares() -> (Client, Peer, [Subscription; 2]) {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let room = client.channel::<u64>("a");
    let (first, second) = (room.subscribe().into_future(), room.clone().subscribe().into_future());
    let (first, second, _) = tokio::join!(first, second, answer_next(&mut peer, "subscribe_channel"));
    (client, peer, [first.unwrap(), second.unwrap()])
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_shares_ends_the_subscription() {
    let (client, mut peer, [first, second]) = two_shares().await;
    first.unsubscribe().await.unwrap();
    let request = tokio::spawn(client.request::<Value>("x", &json!({})).into_future());
    answer_next(&mut peer, "x").await;
    request.await.unwrap().unwrap();
    let (ended, _) = tokio::join!(second.unsubscribe(), answer_next(&mut peer, "unsubscribe_channel"));
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_a_handle_ends_its_share() {
    let (client, mut peer, [first, second]) = two_shares().await;
    drop(second);
    let room = client.channel::<u64>("a");
    let third = room.subscribe().await.unwrap();
    drop(first);
    drop(third);
    answer_next(&mut peer, "unsubscribe_channel").await;
    // A new subscription has new shares, whatever handles of the old one existed.
    let (subscribed, _) =
        tokio::join!(room.subscribe().into_future(), answer_next(&mut peer, "subscribe_channel"));
    subscribed.unwrap().keep();
    peer.expect("ping").await;
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_takes_its_share_back() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let room = client.channel::<u64>("a");
    let waiting = tokio::spawn(room.subscribe().into_future());
    let request = peer.expect("subscribe_channel").await;
    waiting.abort();
    assert_eq!(peer.expect("unsubscribe_channel").await["channel"], request["channel"]);
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_the_channel_ends_all_shares_and_waiting_calls() {
    let (client, mut peer, [first, second]) = two_shares().await;
    let room = client.channel::<u64>("a");
    let (ended, _) = tokio::join!(room.unsubscribe(), answer_next(&mut peer, "unsubscribe_channel"));
    ended.unwrap();
    first.unsubscribe().await.unwrap();
    drop(second);
    let waiting = tokio::spawn(room.subscribe().into_future());
    peer.expect("subscribe_channel").await;
    let (ended, _) = tokio::join!(room.unsubscribe(), answer_next(&mut peer, "unsubscribe_channel"));
    ended.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::Unsubscribed)));
}

#[tokio::test(start_paused = true)]
async fn any_number_of_calls_wait_for_one_subscription() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let waiting: Vec<_> = (0..500).map(|_| tokio::spawn(room.subscribe().into_future())).collect();
    let mut peer = script.greet("one").await;
    answer_next(&mut peer, "subscribe_channel").await;
    for call in waiting {
        call.await.unwrap().unwrap().keep();
    }
}

#[tokio::test]
async fn a_real_server_delivers_until_the_last_share_ends() {
    let server = server();
    let client = crate::support::client(&server.url("/"));
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    let first = room.subscribe().await.unwrap();
    let second = room.subscribe().await.unwrap();
    drop(first);
    room.publish(&1).await.unwrap();
    assert_eq!(content(&mut messages).await, 1);
    second.unsubscribe().await.unwrap();
    assert_eq!(server.hub().channel("room:1").subscribers().len(), 0);
    assert_eq!(room.position(), None);
}

#[test]
fn dropping_a_client_while_its_runtime_ends_does_not_panic() {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = serving.block_on(async { server() });
    let url = server.url("/?user=ana");
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("ending") {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        report(panic);
    }));
    for _ in 0..300 {
        let mut ending = tokio::runtime::Builder::new_multi_thread();
        let ending = ending.worker_threads(2).thread_name("ending").enable_all().build().unwrap();
        ending.block_on(async {
            let client = client(&url);
            let room = client.channel::<u64>("room:1");
            let _subscription = room.subscribe().await.unwrap();
        });
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}
