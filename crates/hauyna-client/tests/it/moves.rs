//! Moves to another node (`reconnect`): the client opens the next connection before it gives up this one.

use crate::script::{EPOCH, NEXT_EPOCH, Subscribed, script, session, subscribed};
use crate::support::{content, next};
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{Direct, GapReason, State, StreamError};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

fn drain(min: u64, max: u64) -> serde_json::Value {
    json!({ "type": "reconnect", "after": [min, max], "reason": "drain" })
}

#[tokio::test(start_paused = true)]
async fn a_drained_client_moves_within_the_window_without_a_loss() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let (mut messages, mut states) = (room.messages(), client.states());
    let mut old = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), old.subscribe("a", 1));
    subscribed.unwrap().keep();
    let began = Instant::now();
    old.send(drain(2_000, 10_000)).await;

    let mut new = script.accept().await;
    let after = began.elapsed();
    assert!((Duration::from_secs(2)..=Duration::from_secs(10)).contains(&after), "{after:?}");
    assert_eq!(new.expect("resume").await["positions"]["a"]["offset"], 1);
    old.publication("a", 2).await; // sent while the session moves
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
async fn requests_in_flight_are_answered_before_a_move() {
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
async fn the_former_socket_ends_no_subscription() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut messages = room.messages();
    let mut old = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), old.subscribe("a", 1));
    subscribed.unwrap().keep();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    new.send(resumed).await;
    new.subscribe("a", 1).await;
    let buying = tokio::spawn(client.request::<u32>("buy", &json!({})).into_future());
    let request = new.expect("buy").await;
    new.ack(&request, json!(1)).await;
    assert_eq!(buying.await.unwrap().unwrap(), 1, "the new one has answered");
    // This was about the session before.
    old.send(json!({ "type": "unsubscribed", "channel": "a" })).await;
    let mut directs = client.directs::<u64>();
    old.send(json!({ "type": "private", "message": 0, "timestamp": 1 })).await;
    assert!(matches!(next(&mut directs).await, Ok(Direct::Private(_))));
    new.publication("a", 2).await;
    assert_eq!(content(&mut messages).await, 2);
}

#[tokio::test(start_paused = true)]
async fn messages_on_the_former_socket_do_not_advance_positions() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let (mut messages, mut directs) = (room.messages(), client.directs::<u64>());
    let mut old = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), old.subscribe("a", 1));
    subscribed.unwrap().keep();
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
async fn a_failed_move_keeps_the_connection() {
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
async fn closing_the_old_socket_before_the_new_session_is_no_loss() {
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

#[tokio::test(start_paused = true)]
async fn messages_received_during_a_move_may_be_replayed() {
    let Subscribed { mut script, peer: mut old, client: _client, room: _room, mut messages } =
        subscribed(1).await;
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    assert_eq!(new.expect("resume").await["positions"]["a"]["offset"], 1);
    for offset in [2, 3] {
        old.publication("a", offset).await;
        assert_eq!(content(&mut messages).await, offset);
    }
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] =
        json!([{ "channel": "a", "epoch": EPOCH, "offset": 3, "recoverable": true, "recovered": true }]);
    new.send(resumed).await;
    for offset in 2..=4 {
        new.publication("a", offset).await;
    }
    assert_eq!(content(&mut messages).await, 4, "at once, and none of the others again");
    assert!(tokio::time::timeout(Duration::from_secs(1), new.next()).await.is_err(), "nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn resubscribing_during_a_move_delivers_nothing_twice() {
    for is_answered in [true, false] {
        let Subscribed { mut script, peer: mut old, client: _client, room, mut messages } =
            subscribed(1).await;
        old.send(drain(0, 0)).await;
        let mut new = script.accept().await;
        assert_eq!(new.expect("resume").await["positions"]["a"]["offset"], 1);
        old.publication("a", 2).await;
        assert_eq!(content(&mut messages).await, 2);
        let room_clone = room.clone();
        let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
        let request = old.expect("unsubscribe_channel").await;
        if is_answered {
            old.ack(&request, json!(null)).await;
        }
        let subscribing = tokio::spawn(room.subscribe().into_future());
        match is_answered {
            true => old.subscribe("a", 2).await,
            false => drop(old.expect("subscribe_channel").await),
        }
        let mut resumed = session("two");
        resumed["resumed"] = json!(true);
        resumed["subscriptions"] =
            json!([{ "channel": "a", "epoch": EPOCH, "offset": 2, "recoverable": true, "recovered": true }]);
        new.send(resumed).await;
        for offset in 2..=3 {
            new.publication("a", offset).await;
        }
        assert_eq!(content(&mut messages).await, 3, "at once, and 2 not again");
        ending.await.unwrap().unwrap();
        subscribing.await.unwrap().unwrap().keep();
        assert!(tokio::time::timeout(Duration::from_secs(1), new.next()).await.is_err(), "nothing is asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_to_a_node_without_the_session_ends_the_old_one() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let (mut messages, mut directs) = (room.messages(), client.directs::<u64>());
    let mut old = script.greet("one").await;
    let plain = json!({ "channel": "a", "recoverable": false });
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = old.expect("subscribe_channel").await;
    old.ack(&request, plain.clone()).await;
    subscribing.await.unwrap().unwrap().keep();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    new.send(session("two")).await;
    let request = new.expect("subscribe_channel").await;
    new.ack(&request, plain).await;
    // Both nodes deliver it: the old one does not know yet that its client has left.
    for content in [5, 6] {
        let message = json!({ "type": "message", "channel": "a", "content": content, "timestamp": 1 });
        let direct = json!({ "type": "broadcast", "message": content, "timestamp": 1 });
        for peer in [&mut old, &mut new] {
            peer.send(message.clone()).await;
            peer.send(direct.clone()).await;
        }
    }
    assert!(old.next().await.is_none());
    assert_eq!(old.closed_with, Some(1000), "nobody comes back for that session");
    let gap = next(&mut messages).await;
    assert!(matches!(&gap, Err(StreamError::Gap(gap)) if gap.reason == GapReason::NotRecoverable), "{gap:?}");
    for expected in [5, 6] {
        assert_eq!(content(&mut messages).await, expected);
        let direct = next(&mut directs).await.unwrap();
        assert!(matches!(&direct, Direct::Broadcast(sent) if sent.message == expected), "{direct:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn late_messages_of_a_channel_without_history_belong_to_the_gap() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let (mut messages, mut directs) = (room.messages(), client.directs::<u64>());
    let mut old = script.greet("one").await;
    let subscribing = tokio::spawn(room.subscribe().into_future());
    let request = old.expect("subscribe_channel").await;
    old.ack(&request, json!({ "channel": "a", "recoverable": false })).await;
    subscribing.await.unwrap().unwrap().keep();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] = json!([{ "channel": "a", "recoverable": false }]);
    new.send(resumed).await;
    let gap = next(&mut messages).await;
    assert!(matches!(gap, Err(StreamError::Gap(_))), "{gap:?}");
    // 8 was dropped with the old socket, so nobody could tell what is missing after a 7.
    let plain =
        |content: u64| json!({ "type": "message", "channel": "a", "content": content, "timestamp": 1 });
    old.send(plain(7)).await;
    old.send(json!({ "type": "private", "message": 0, "timestamp": 1 })).await;
    assert!(matches!(next(&mut directs).await, Ok(Direct::Private(_))), "the old one is heard");
    new.send(plain(9)).await;
    assert_eq!(content(&mut messages).await, 9);
}

#[tokio::test(start_paused = true)]
async fn closing_during_a_move_closes_both_sockets() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut old = script.greet("one").await;
    client.connected().await.unwrap();
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    new.expect("resume").await;
    client.close().await;
    for mut peer in [old, new] {
        assert!(peer.next().await.is_none());
        assert_eq!(peer.closed_with, Some(1000));
    }
}

fn moved(token: &str, offset: u64) -> serde_json::Value {
    let mut resumed = session(token);
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] =
        json!([{ "channel": "a", "epoch": EPOCH, "offset": offset, "recoverable": true, "recovered": true }]);
    resumed
}

#[tokio::test(start_paused = true)]
async fn unreadable_messages_during_a_move_keep_the_replay() {
    let Subscribed { mut script, mut peer, client: _client, room: _room, mut messages } = subscribed(1).await;
    let unreadable = json!({ "channel": "a", "offset": 2 });
    peer.send(unreadable.clone()).await;
    let mut old = script.accept().await;
    old.expect("resume").await;
    old.send(moved("two", 1)).await;
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    assert_eq!(new.expect("resume").await["positions"]["a"]["offset"], 1);
    old.send(unreadable).await;
    assert!(old.next().await.is_none());
    new.send(moved("three", 3)).await;
    for offset in 2..=4 {
        new.publication("a", offset).await;
    }
    for offset in 2..=4 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn resubscribing_from_further_back_before_a_resume_recovers_all() {
    let Subscribed { mut script, mut peer, client: _client, room, mut messages } = subscribed(1).await;
    let since = room.position().unwrap();
    for offset in 2..=3 {
        peer.publication("a", offset).await;
        assert_eq!(content(&mut messages).await, offset);
    }
    drop(peer);
    let mut peer = script.accept().await;
    assert_eq!(peer.expect("resume").await["positions"]["a"]["offset"], 3);
    room.unsubscribe().await.unwrap();
    drop(messages);
    let mut messages = room.messages();
    let subscribing = tokio::spawn(room.subscribe().since(since).into_future());
    tokio::task::yield_now().await;
    peer.send(moved("two", 4)).await;
    peer.publication("a", 4).await;
    subscribing.await.unwrap().unwrap().keep();
    let answering = async {
        let request = peer.expect("history").await;
        assert_eq!(request["since"]["offset"], 1);
        let missed = [2, 3, 4].map(|offset| crate::script::publication("a", offset));
        peer.ack(&request, json!({ "channel": "a", "epoch": EPOCH, "offset": 4, "messages": missed })).await;
    };
    tokio::time::timeout(Duration::from_secs(5), answering).await.expect("the history is asked");
    for offset in 2..=4 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn resubscribing_from_further_back_during_a_move_recovers_all() {
    let Subscribed { mut script, peer: mut old, client: _client, room, mut messages } = subscribed(1).await;
    let since = room.position().unwrap();
    for offset in 2..=3 {
        old.publication("a", offset).await;
        assert_eq!(content(&mut messages).await, offset);
    }
    old.send(drain(0, 0)).await;
    let mut new = script.accept().await;
    assert_eq!(new.expect("resume").await["positions"]["a"]["offset"], 3);
    let room_clone = room.clone();
    let ending = tokio::spawn(async move { room_clone.unsubscribe().await });
    old.expect("unsubscribe_channel").await;
    let subscribing = tokio::spawn(room.subscribe().since(since).into_future());
    assert_eq!(
        old.expect("subscribe_channel").await["recover"]["offset"],
        1,
        "the old one was asked in vain"
    );
    new.send(moved("two", 4)).await;
    new.publication("a", 4).await;
    ending.await.unwrap().unwrap();
    subscribing.await.unwrap().unwrap().keep();
    let answering = async {
        let request = new.expect("history").await;
        assert_eq!(request["since"]["offset"], 1);
        let missed = [2, 3, 4].map(|offset| crate::script::publication("a", offset));
        new.ack(&request, json!({ "channel": "a", "epoch": EPOCH, "offset": 4, "messages": missed })).await;
    };
    tokio::time::timeout(Duration::from_secs(5), answering).await.expect("the history is asked");
    for offset in 2..=4 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn resubscribing_from_another_epoch_before_a_resume_is_a_gap() {
    let Subscribed { mut script, mut peer, client: _client, room, mut messages } = subscribed(3).await;
    peer.cut();
    let mut peer = script.accept().await;
    assert_eq!(peer.expect("resume").await["positions"]["a"]["offset"], 3);
    room.unsubscribe().await.unwrap();
    let since = Position { epoch: Epoch::parse(NEXT_EPOCH), offset: 9 };
    let subscribing = tokio::spawn(room.subscribe().since(since).into_future());
    tokio::task::yield_now().await;
    peer.send(moved("two", 5)).await;
    for offset in 4..=6 {
        peer.publication("a", offset).await;
    }
    subscribing.await.unwrap().unwrap().keep();
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    let to = gap.to.map(|to| to.offset);
    assert_eq!((gap.reason, gap.from, to), (GapReason::EpochChanged, Some(since), Some(5)));
    assert_eq!(content(&mut messages).await, 6);
}
