//! A subscribed channel continues under another epoch, announced or not: the client reports everything that
//! may be lost.

use crate::script::{EPOCH, NEXT_EPOCH, Peer, Subscribed, publication, session, subscribed};
use crate::support::{content, next};
use hauyna_client::protocol::{Epoch, Position};
use hauyna_client::{Error, Gap, GapReason, Publication, Stream, StreamError};
use serde_json::{Value, json};
use std::time::Duration;

fn subscribed_message(offset: u64, rest: &Value) -> Value {
    let mut message = json!({ "type": "subscribed", "channel": "a", "epoch": NEXT_EPOCH, "offset": offset, "recoverable": true });
    message.as_object_mut().unwrap().append(&mut rest.as_object().unwrap().clone());
    message
}

fn at(epoch: &str, offset: u64) -> Position {
    Position { epoch: Epoch::parse(epoch), offset }
}

async fn gap(messages: &mut Stream<Publication<u64>>) -> Gap {
    let Err(StreamError::Gap(gap)) = next(messages).await else { panic!("a gap") };
    gap
}

async fn publish(peer: &mut Peer, offsets: impl IntoIterator<Item = u64>) {
    for offset in offsets {
        peer.publication("a", offset).await;
    }
}

async fn read(messages: &mut Stream<Publication<u64>>, offsets: impl IntoIterator<Item = u64>) {
    for offset in offsets {
        assert_eq!(content(messages).await, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_change_without_a_loss_is_adopted() {
    let Subscribed { mut script, mut peer, client: _client, room, mut messages } = subscribed(40).await;
    publish(&mut peer, 41..=42).await;
    peer.send(subscribed_message(0, &json!({ "recovered": true }))).await;
    publish(&mut peer, 1..=20).await;
    read(&mut messages, (41..=42).chain(1..=20)).await;
    assert_eq!(room.position(), Some(at(NEXT_EPOCH, 20)));
    drop(peer);
    let mut peer = script.accept().await;
    let resume = peer.expect("resume").await;
    assert_eq!(resume["positions"]["a"], json!({ "epoch": NEXT_EPOCH, "offset": 20 }));
}

#[tokio::test(start_paused = true)]
async fn an_epoch_change_with_a_loss_is_a_gap() {
    let Subscribed { mut peer, mut messages, room, client: _client, script: _script } = subscribed(41).await;
    peer.send(subscribed_message(3, &json!({ "recovered": false, "reason": "epoch_changed" }))).await;
    publish(&mut peer, 4..=5).await;
    let told = gap(&mut messages).await;
    assert_eq!(
        (told.reason, told.from, told.to),
        (GapReason::EpochChanged, Some(at(EPOCH, 41)), Some(at(NEXT_EPOCH, 3)))
    );
    read(&mut messages, 4..=5).await;
    assert_eq!(room.position(), Some(at(NEXT_EPOCH, 5)));
}

#[tokio::test(start_paused = true)]
async fn an_unannounced_restart_of_the_numbering_is_a_gap() {
    for already_read in [0, 2] {
        let Subscribed { mut peer, mut messages, client: _client, script: _script, .. } =
            subscribed(41).await;
        publish(&mut peer, 42..42 + already_read).await;
        publish(&mut peer, 1..=2).await;
        let history = peer.expect("history").await;
        assert_eq!(history["since"], json!({ "epoch": EPOCH, "offset": 41 + already_read }));
        peer.refuse_history(&history, "epoch_changed").await;
        publish(&mut peer, 3..=20).await;
        read(&mut messages, 42..42 + already_read).await;
        assert_eq!(gap(&mut messages).await.reason, GapReason::EpochChanged);
        read(&mut messages, 1..=20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_stream_is_delivered_without_a_history() {
    let Subscribed { mut peer, mut messages, client: _client, script: _script, .. } = subscribed(41).await;
    publish(&mut peer, 1..=2).await;
    let history = peer.expect("history").await;
    peer.send(json!({ "type": "error", "error_type": "permission_denied", "message": "", "timestamp": 1,
        "id": history["id"], "temporary": false }))
        .await;
    publish(&mut peer, 3..=4).await;
    let _ = gap(&mut messages).await;
    read(&mut messages, 1..=4).await;
}

#[tokio::test(start_paused = true)]
async fn a_share_with_a_position_of_another_epoch_silences_no_stream() {
    let Subscribed { mut peer, mut messages, room, client: _client, script: _script } = subscribed(41).await;
    publish(&mut peer, 1..=2).await;
    let history = peer.expect("history").await;
    peer.refuse_history(&history, "epoch_changed").await;
    let _ = gap(&mut messages).await;
    read(&mut messages, 1..=2).await;
    room.subscribe().since(at(EPOCH, 41)).await.unwrap().keep();
    publish(&mut peer, 3..=4).await;
    read(&mut messages, 3..=4).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_delivered_once_without_a_gap() {
    let Subscribed { mut peer, mut messages, client: _client, script: _script, .. } = subscribed(1).await;
    publish(&mut peer, [2, 3, 3, 4]).await;
    let history = peer.expect("history").await;
    let page = json!({ "channel": "a", "epoch": EPOCH, "offset": 4, "messages": [publication("a", 4)] });
    peer.ack(&history, page).await;
    publish(&mut peer, [5]).await;
    read(&mut messages, 2..=5).await;
}

#[tokio::test(start_paused = true)]
async fn held_messages_survive_an_epoch_change() {
    let Subscribed { mut peer, mut messages, room, client: _client, script: _script } = subscribed(1).await;
    publish(&mut peer, [2]).await;
    peer.send(json!({ "type": "gap", "channel": "a", "epoch": EPOCH, "offset": 2, "missed": 4 })).await;
    publish(&mut peer, [7, 8]).await;
    let history = peer.expect("history").await;
    peer.send(subscribed_message(8, &json!({ "recovered": true }))).await;
    publish(&mut peer, [9]).await;
    peer.refuse_history(&history, "epoch_changed").await;
    read(&mut messages, [2]).await;
    let _ = gap(&mut messages).await;
    read(&mut messages, 7..=9).await;
    assert_eq!(room.position(), Some(at(NEXT_EPOCH, 9)));
}

/// The message by which the client learns of the new epoch.
#[derive(Clone, Copy, Debug)]
enum EpochChange {
    WithTheLoss,
    Notice,
    Gap,
    History,
    /// A page of the history under the next epoch, whose numbering continues.
    Page,
}

async fn change_epoch(peer: &mut Peer, how: EpochChange) {
    match how {
        EpochChange::WithTheLoss => {}
        EpochChange::Notice => {
            peer.send(subscribed_message(1, &json!({ "recovered": true }))).await;
            peer.publication("a", 2).await;
        }
        EpochChange::Gap => {
            peer.send(
                json!({ "type": "gap", "channel": "a", "epoch": NEXT_EPOCH, "offset": 1, "missed": 1 }),
            )
            .await;
            let history = peer.expect("history").await;
            let page = json!({ "channel": "a", "epoch": NEXT_EPOCH, "offset": 2, "messages": [publication("a", 2)] });
            peer.ack(&history, page).await;
        }
        EpochChange::History => {
            publish(peer, [1]).await;
            let history = peer.expect("history").await;
            peer.refuse_history(&history, "epoch_changed").await;
        }
        EpochChange::Page => {
            publish(peer, [1]).await;
            let history = peer.expect("history").await;
            let page = json!({ "channel": "a", "epoch": NEXT_EPOCH, "offset": 2, "messages": [publication("a", 2)] });
            peer.ack(&history, page).await;
        }
    }
    // The client reads everything before the loss.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_publication_from_before_an_epoch_change_is_not_repeated() {
    for how in [
        EpochChange::WithTheLoss,
        EpochChange::Notice,
        EpochChange::Gap,
        EpochChange::History,
        EpochChange::Page,
    ] {
        let Subscribed { mut script, mut peer, room, client: _client, messages: _messages } =
            subscribed(1).await;
        let published = tokio::spawn(room.publish(&7).into_future());
        peer.expect("channel_message").await;
        change_epoch(&mut peer, how).await;
        drop(peer);
        let mut peer = script.accept().await;
        peer.expect("resume").await;
        let mut resumed = session("two");
        resumed["resumed"] = json!(true);
        resumed["subscriptions"] = json!([{ "channel": "a", "epoch": NEXT_EPOCH, "offset": 2,
            "recoverable": true, "recovered": true }]);
        peer.send(resumed).await;
        let repeated = tokio::time::timeout(Duration::from_secs(1), peer.next()).await.ok();
        assert_eq!(repeated, None, "{how:?}");
        assert!(matches!(published.await.unwrap(), Err(Error::OutcomeUnknown)), "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_not_repeated_if_its_position_was_given_up() {
    let Subscribed { mut script, mut peer, room, client: _client, messages: _messages } = subscribed(1).await;
    let published = tokio::spawn(room.publish(&7).into_future());
    let unreadable = json!({ "channel": "a", "offset": 2 });
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] = json!([{ "channel": "a", "epoch": EPOCH, "offset": 1, "recoverable": true,
        "recovered": true }]);
    peer.expect("channel_message").await;
    peer.send(unreadable.clone()).await;
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(resumed.clone()).await;
    peer.expect("channel_message").await;
    peer.send(unreadable).await;
    let mut peer = script.accept().await;
    assert_eq!(peer.expect("resume").await["positions"], json!({}));
    resumed["subscriptions"] = json!([{ "channel": "a", "epoch": NEXT_EPOCH, "offset": 2, "recoverable": true,
        "recovered": false, "reason": "unknown_position" }]);
    peer.send(resumed).await;
    let repeated = tokio::time::timeout(Duration::from_secs(1), peer.next()).await.ok();
    assert_eq!(repeated, None);
    assert!(matches!(published.await.unwrap(), Err(Error::OutcomeUnknown)));
}
