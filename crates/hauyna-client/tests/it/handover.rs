//! `reconnect`: the next connection is made before this one is given up.

use crate::script::{EPOCH, script, session};
use crate::support::{content, next};
use hauyna_client::{Direct, State};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

fn drain(min: u64, max: u64) -> serde_json::Value {
    json!({ "type": "reconnect", "after": [min, max], "reason": "drain" })
}

#[tokio::test(start_paused = true)]
async fn a_drained_client_moves_within_the_window_and_is_never_disconnected() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let (mut messages, mut states) = (room.messages(), client.states());
    let mut old = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), old.subscribe("a", 1));
    subscribed.unwrap();
    let began = Instant::now();
    old.send(drain(2_000, 10_000)).await;

    let mut new = script.accept().await;
    let after = began.elapsed();
    assert!((Duration::from_secs(2)..=Duration::from_secs(10)).contains(&after), "{after:?}");
    assert_eq!(new.expect("resume").await["positions"]["a"]["offset"], 1);
    old.publication("a", 2).await; // on its way while the session moves
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] =
        json!([{ "channel": "a", "epoch": EPOCH, "offset": 2, "recoverable": true, "recovered": true }]);
    new.send(resumed).await;
    new.publication("a", 2).await;
    new.publication("a", 3).await;
    old.close(3013).await;
    assert_eq!((content(&mut messages).await, content(&mut messages).await), (2, 3));
    assert_eq!(client.session().unwrap().connection_id, "c-two");
    client.close().await;
    while let Some(state) = states.next().await {
        let state = state.unwrap();
        assert!(!matches!(state, State::Reconnecting { .. }), "{state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_on_its_way_is_answered_before_the_client_moves() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut old = script.greet("one").await;
    client.connected().await.unwrap();
    let answer = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = old.expect("buy").await;
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    let next = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    old.ack(&request, json!(1)).await;
    assert_eq!(answer.await.unwrap().unwrap(), 1);
    new.expect("resume").await;
    new.send(session("two")).await;
    let request = new.expect("buy").await;
    new.ack(&request, json!(2)).await;
    assert_eq!(next.await.unwrap().unwrap(), 2, "what came meanwhile goes to the new node");
}

#[tokio::test(start_paused = true)]
async fn the_old_socket_ends_no_subscription_of_the_new_one() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut messages = room.messages();
    let mut old = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), old.subscribe("a", 1));
    subscribed.unwrap();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    new.send(session("two")).await;
    new.subscribe("a", 1).await;
    let buying = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = new.expect("buy").await;
    new.ack(&request, json!(1)).await;
    assert_eq!(buying.await.unwrap().unwrap(), 1, "the new one has answered");
    // It was true of the session before.
    old.send(json!({ "type": "unsubscribed", "channel": "a" })).await;
    let mut directs = client.directs::<u64>();
    old.send(json!({ "type": "private", "message": 0, "timestamp": 1 })).await;
    assert!(matches!(next(&mut directs).await, Ok(Direct::Private(_))));
    new.publication("a", 2).await;
    assert_eq!(content(&mut messages).await, 2);
}

#[tokio::test(start_paused = true)]
async fn numbered_messages_that_the_old_socket_still_brings_do_not_move_the_position_of_the_new_one() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let (mut messages, mut directs) = (room.messages(), client.directs::<u64>());
    let mut old = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), old.subscribe("a", 1));
    subscribed.unwrap();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] =
        json!([{ "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true, "recovered": true }]);
    new.send(resumed).await;
    while client.session().unwrap().connection_id != "c-two" {
        tokio::task::yield_now().await;
    }
    old.publication("a", 9).await;
    old.send(json!({ "type": "private", "from": "bob", "message": 7, "timestamp": 1 })).await;
    let direct = next(&mut directs).await.unwrap();
    assert!(
        matches!(direct, Direct::Private(sent) if sent.message == 7),
        "what has no number comes from either"
    );
    new.publication("a", 2).await;
    assert_eq!(content(&mut messages).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_that_fails_leaves_the_client_where_it_is() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut old = script.greet("one").await;
    client.connected().await.unwrap();
    old.send(drain(0, 0)).await;
    drop(script.raw().await);
    let answer = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = old.expect("buy").await;
    old.ack(&request, json!(1)).await;
    assert_eq!(answer.await.unwrap().unwrap(), 1);
    old.close(3001).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_old_socket_is_closed_before_the_new_one_has_greeted_is_not_offline_either() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut old = script.greet("one").await;
    client.connected().await.unwrap();
    let mut states = client.states();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    old.close(3013).await;
    assert!(old.next().await.is_none());
    let answer = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    new.send(session("two")).await;
    let request = new.expect("buy").await;
    new.ack(&request, json!(1)).await;
    assert_eq!(answer.await.unwrap().unwrap(), 1);
    client.close().await;
    let state = states.next().await.expect("the end").unwrap();
    assert!(matches!(state, State::Closed(_)), "{state:?}");
}
