//! A client that reads too slowly: gaps are closed from the history by offset, or reported.

use crate::script::{EPOCH, Peer, Script, publication, script};
use crate::support::{content, next};
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{Channel, Client, GapReason, Publication, Stream, StreamError};
use serde_json::{Value, json};

async fn slow() -> (Script, Peer, Client, Channel<u64>, Stream<Publication<u64>>) {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let messages = room.messages();
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe("a", 1));
    subscribed.unwrap().keep();
    (script, peer, client, room, messages)
}

fn gap(offset: u64, missed: u64) -> Value {
    json!({ "type": "gap", "channel": "a", "epoch": EPOCH, "offset": offset, "missed": missed })
}

fn page(offsets: impl IntoIterator<Item = u64>, end: u64) -> Value {
    let messages: Vec<_> = offsets.into_iter().map(|offset| publication("a", offset)).collect();
    json!({ "channel": "a", "epoch": EPOCH, "offset": end, "messages": messages })
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_closed_from_history_page_by_page() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.publication("a", 2).await;
    peer.send(gap(2, 4)).await;
    peer.publication("a", 7).await;
    let first = peer.expect("history").await;
    assert_eq!(first["since"], json!({ "epoch": EPOCH, "offset": 2 }));
    peer.publication("a", 8).await;
    peer.ack(&first, page([3, 4], 8)).await;
    let second = peer.expect("history").await;
    assert_eq!(second["since"]["offset"], 4);
    peer.ack(&second, page([5, 6, 7, 8], 8)).await;
    peer.publication("a", 9).await;
    for offset in 2..=9 {
        assert_eq!(content(&mut messages).await, offset, "each once, in order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_the_history_cannot_close_is_reported_in_place() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.publication("a", 2).await;
    peer.send(gap(2, 4)).await;
    peer.publication("a", 7).await;
    let history = peer.expect("history").await;
    let refusal = json!({ "type": "error", "error_type": "validation_error", "message": "", "timestamp": 1,
        "id": history["id"], "temporary": false, "details": { "path": "since", "reason": "too_old" } });
    peer.send(refusal).await;
    assert_eq!(content(&mut messages).await, 2);
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    assert_eq!((gap.reason, gap.from.unwrap().offset, gap.to.unwrap().offset), (GapReason::TooOld, 2, 6));
    assert_eq!(content(&mut messages).await, 7);
}

#[tokio::test(start_paused = true)]
async fn a_temporarily_refused_history_is_requested_again() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.send(gap(1, 1)).await;
    let history = peer.expect("history").await;
    let refusal = json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
        "id": history["id"], "temporary": true, "details": { "retry_after": 300 } });
    peer.send(refusal).await;
    let history = peer.expect("history").await;
    peer.ack(&history, page([2], 2)).await;
    assert_eq!(content(&mut messages).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_gap_during_a_catch_up_is_closed() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.send(gap(1, 1)).await;
    let first = peer.expect("history").await;
    peer.publication("a", 3).await;
    peer.send(gap(3, 1)).await;
    peer.publication("a", 5).await;
    // The page was read before the second gap.
    peer.ack(&first, page([2, 3], 3)).await;
    let second = peer.expect("history").await;
    assert_eq!(second["since"]["offset"], 3);
    peer.ack(&second, page([4, 5], 5)).await;
    for offset in 2..=5 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_restarts_during_a_catch_up_is_delivered() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.publication("a", 2).await;
    peer.send(gap(2, 4)).await;
    peer.publication("a", 7).await;
    let history = peer.expect("history").await;
    let again = json!({ "type": "subscribed", "channel": "a", "epoch": "AAAAAAAAAAE", "offset": 3, "recoverable": true });
    peer.send(again).await;
    peer.publication("a", 4).await;
    let mut answer = page([], 4);
    answer["epoch"] = json!("AAAAAAAAAAE");
    peer.ack(&history, answer).await;
    peer.publication("a", 5).await;
    assert_eq!(content(&mut messages).await, 2);
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    assert_eq!((gap.reason, gap.to.unwrap().offset), (GapReason::EpochChanged, 3));
    assert_eq!((content(&mut messages).await, content(&mut messages).await), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn leftovers_of_an_ended_subscription_do_not_affect_the_next() {
    let (_script, mut peer, _client, room, mut messages) = slow().await;
    let ended = tokio::spawn({
        let room = room.clone();
        async move { room.unsubscribe().await }
    });
    let unsubscribe = peer.expect("unsubscribe_channel").await;
    let since = Position { epoch: Epoch::parse(EPOCH), offset: 1 };
    let begun = tokio::spawn(async move { room.subscribe().since(since).await });
    let subscribe = peer.expect("subscribe_channel").await;
    assert_eq!(subscribe["recover"]["offset"], 1);
    // It was in flight before the server had read either request.
    peer.publication("a", 9).await;
    peer.send(gap(9, 1)).await;
    peer.send(json!({ "type": "unsubscribed", "channel": "a" })).await;
    peer.ack(&unsubscribe, Value::Null).await;
    ended.await.unwrap().unwrap();
    let answer =
        json!({ "channel": "a", "epoch": EPOCH, "offset": 10, "recoverable": true, "recovered": true });
    peer.ack(&subscribe, answer).await;
    begun.await.unwrap().unwrap().keep();
    for offset in 2..=10 {
        peer.publication("a", offset).await;
    }
    for offset in 2..=10 {
        assert_eq!(content(&mut messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_without_history_is_reported_at_once() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let room = client.channel::<u64>("a");
    let mut messages = room.messages();
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), async {
        let request = peer.expect("subscribe_channel").await;
        peer.ack(&request, json!({ "channel": "a", "recoverable": false })).await;
    });
    subscribed.unwrap().keep();
    let none = json!({ "type": "gap", "channel": "a", "epoch": "AAAAAAAAAAA", "offset": 0, "missed": 9 });
    peer.send(none).await;
    peer.send(json!({ "type": "message", "channel": "a", "content": 11, "timestamp": 1 })).await;
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    assert_eq!((gap.reason, gap.missed), (GapReason::Dropped, Some(9)));
    assert_eq!(content(&mut messages).await, 11);
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_an_unknown_epoch_is_closed_from_history() {
    let (_script, mut peer, _client, room, mut messages) = slow().await;
    peer.publication("a", 2).await;
    peer.send(json!({ "type": "gap", "channel": "a", "epoch": "AAAAAAAAAAA", "offset": 0, "missed": 3 }))
        .await;
    peer.publication("a", 6).await;
    let history = peer.expect("history").await;
    assert_eq!(history["since"], json!({ "epoch": EPOCH, "offset": 2 }));
    peer.ack(&history, page(3..=6, 6)).await;
    peer.publication("a", 7).await;
    for offset in 2..=7 {
        assert_eq!(content(&mut messages).await, offset, "each once, in order");
    }
    assert_eq!(room.position(), Some(Position { epoch: Epoch::parse(EPOCH), offset: 7 }));
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_presence_requests_the_list_and_keeps_the_position() {
    let (_script, mut peer, _client, room, mut messages) = slow().await;
    peer.send(json!({ "type": "presence_state", "channel": "a", "count": 0, "users": {}, "offset": 4 }))
        .await;
    peer.send(json!({ "type": "gap", "channel": "a", "missed": 0 })).await;
    let request = peer.expect("presence").await;
    peer.ack(&request, json!({ "channel": "a", "count": 0, "users": {}, "offset": 9 })).await;
    peer.publication("a", 2).await;
    assert_eq!(content(&mut messages).await, 2);
    assert_eq!(room.position().unwrap().offset, 2);
}

#[tokio::test(start_paused = true)]
async fn an_empty_history_before_its_end_is_a_gap() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.send(gap(1, 4)).await;
    let history = peer.expect("history").await;
    peer.ack(&history, page([], 5)).await;
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    assert_eq!(gap.reason, GapReason::TooOld);
    peer.publication("a", 6).await;
    assert_eq!(content(&mut messages).await, 6);
}

#[tokio::test(start_paused = true)]
async fn unreadable_history_messages_still_count() {
    let (_script, mut peer, _client, room, mut messages) = slow().await;
    peer.send(gap(1, 3)).await;
    let history = peer.expect("history").await;
    let change = json!({ "type": "presence_change", "event": "join", "user": "eve", "channel": "a", "metadata": {},
        "status": "online", "connections": 1, "timestamp": 1, "offset": 3 });
    let mut answer = page([2], 3);
    answer["messages"].as_array_mut().unwrap().push(change);
    peer.ack(&history, answer).await;
    peer.publication("a", 4).await;
    assert_eq!((content(&mut messages).await, content(&mut messages).await), (2, 4));
    assert_eq!(room.position().unwrap().offset, 4);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_history_request_releases_held_messages() {
    let (_script, mut peer, _client, _room, mut messages) = slow().await;
    peer.send(gap(1, 4)).await;
    peer.publication("a", 6).await;
    peer.expect("history").await;
    let Err(StreamError::Gap(gap)) = next(&mut messages).await else { panic!("a gap") };
    assert_eq!(gap.reason, GapReason::Dropped);
    assert_eq!(content(&mut messages).await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_gap_after_an_unclosable_one_is_closed_or_reported() {
    for is_closed in [true, false] {
        let (_script, mut peer, _client, _room, mut messages) = slow().await;
        peer.send(gap(1, 1)).await;
        let first = peer.expect("history").await;
        peer.publication("a", 3).await;
        peer.send(gap(3, 2)).await;
        peer.publication("a", 6).await;
        peer.refuse_history(&first, "too_old").await;
        let Err(StreamError::Gap(told)) = next(&mut messages).await else { panic!("a gap") };
        assert_eq!((told.reason, told.from.unwrap().offset), (GapReason::TooOld, 1));
        assert_eq!(content(&mut messages).await, 3);
        let second = peer.expect("history").await;
        assert_eq!(second["since"]["offset"], 3);
        if is_closed {
            let page = json!({ "channel": "a", "epoch": EPOCH, "offset": 6, "oldest": 4,
                "messages": [publication("a", 4), publication("a", 5), publication("a", 6)] });
            peer.ack(&second, page).await;
            assert_eq!((content(&mut messages).await, content(&mut messages).await), (4, 5));
        } else {
            peer.refuse_history(&second, "too_old").await;
            let Err(StreamError::Gap(told)) = next(&mut messages).await else { panic!("a gap") };
            assert_eq!(told.from.unwrap().offset, 3);
        }
        assert_eq!(content(&mut messages).await, 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_history_answer_is_ignored_after_unsubscribing() {
    let (_script, mut peer, _client, room, mut messages) = slow().await;
    peer.send(gap(1, 2)).await;
    let history = peer.expect("history").await;
    let ended = tokio::spawn({
        let room = room.clone();
        async move { room.unsubscribe().await }
    });
    let unsubscribe = peer.expect("unsubscribe_channel").await;
    let begun = tokio::spawn(room.subscribe().into_future());
    let subscribe = peer.expect("subscribe_channel").await;
    let page = json!({ "channel": "a", "epoch": EPOCH, "offset": 3, "oldest": 1,
        "messages": [publication("a", 2), publication("a", 3)] });
    peer.ack(&history, page).await;
    peer.ack(&unsubscribe, Value::Null).await;
    ended.await.unwrap().unwrap();
    peer.ack(&subscribe, json!({ "channel": "a", "epoch": EPOCH, "offset": 9, "recoverable": true })).await;
    begun.await.unwrap().unwrap().keep();
    peer.publication("a", 10).await;
    assert_eq!(content(&mut messages).await, 10);
}
