//! No deadline fires early, wherever it starts between two sweeps, and none is late by more than half of its
//! length or two seconds. Runs with a test clock.

use crate::support::{registered, user_handler};
use hauyna::connection::ConnectionState;
use hauyna::{CloseCode, CloseReason, Connection, Context, Handler, Heartbeat, Hub, json};
use hauyna_test::{Client, Frame, advance};
use hauyna_websocket::{Fragment, FrameHead, OpCode};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Moments after the opening of a connection, in milliseconds.
const MOMENTS: [u64; 9] = [3, 101, 247, 249, 333, 498, 754, 1_007, 1_553];

/// Opens a connection with this handler and waits until it is `moment` milliseconds old.
async fn connection_at(moment: u64, handler: Handler) -> (Hub, Client, Connection) {
    let hub = Hub::new();
    let (client, connection) = registered(&hub, "u", &handler.share()).await;
    advance(ms(moment)).await;
    (hub, client, connection)
}

/// Checks that a deadline fired neither early nor too late.
fn assert_on_time(what: &str, moment: u64, began: Instant, time: Duration) {
    let took = began.elapsed();
    let latest = time + (time / 2).min(ms(2_000)) + ms(20);
    assert!(
        (time..=latest).contains(&took),
        "{what} of {time:?} fired after {took:?}, started at {moment} ms"
    );
}

async fn state(connection: &Connection, wanted: ConnectionState) {
    while connection.state() != wanted {
        tokio::time::timeout(ms(1), std::future::pending::<()>()).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn callback_has_its_full_timeout() {
    for moment in MOMENTS {
        let handler = user_handler()
            .no_heartbeat()
            .callback_timeout(ms(1_000))
            .on("hang", async |_: Context, _: Value| -> hauyna::Result { std::future::pending().await });
        let (_hub, mut client, _) = connection_at(moment, handler).await;
        let began = Instant::now();
        let error = client.request(json!({ "type": "hang" })).await.unwrap_err();
        assert_eq!(error["error_type"], "timeout");
        assert_on_time("a callback", moment, began, ms(1_000));
    }
}

#[tokio::test(start_paused = true)]
async fn connection_that_just_sent_is_not_idle() {
    for moment in MOMENTS {
        let handler = user_handler()
            .no_heartbeat()
            .idle_after(ms(2_000))
            .on("note", async |_: Context, _: Value| Ok(()));
        let (_hub, mut client, connection) = connection_at(moment, handler).await;
        let began = Instant::now();
        client.request(json!({ "type": "note" })).await.unwrap();
        state(&connection, ConnectionState::Idle).await;
        assert_on_time("silence", moment, began, ms(2_000));
    }
}

#[tokio::test(start_paused = true)]
async fn unfinished_message_has_its_full_timeout() {
    for moment in MOMENTS {
        let (_hub, mut client, _) =
            connection_at(moment, user_handler().no_heartbeat().read_timeout(ms(1_000))).await;
        let began = Instant::now();
        let head = FrameHead { fragment: Fragment::More, ..FrameHead::of(OpCode::Text) };
        client.send_frame(head, b"{").await;
        assert_eq!(client.expect_close().await.0, 3501);
        assert_on_time("a message", moment, began, ms(1_000));
    }
}

#[tokio::test(start_paused = true)]
async fn pong_may_arrive_until_the_timeout() {
    for interval in [400, 1_000, 1_300] {
        let heartbeat = Heartbeat::every(ms(interval)).timeout(ms(1_000));
        let (_hub, mut client, _) = connection_at(1, user_handler().heartbeat(heartbeat)).await;
        assert_eq!(client.next_frame().await, Frame::Ping(Vec::new()));
        let began = Instant::now();
        while !matches!(client.next_frame().await, Frame::Close(Some((3012, _)))) {}
        assert_on_time("a ping", interval, began, ms(1_000));
    }
}

#[tokio::test(start_paused = true)]
async fn socket_may_block_for_the_full_write_timeout() {
    for moment in MOMENTS {
        let (sender, mut reasons) = mpsc::channel(1);
        let handler =
            user_handler().no_heartbeat().write_timeout(ms(1_000)).on_close(move |_, reason: CloseReason| {
                let sender = sender.clone();
                async move { sender.send(reason).await.map_err(hauyna::Error::other) }
            });
        let (_hub, client, connection) = connection_at(moment, handler).await;
        let began = Instant::now();
        connection.send("x".repeat(200_000)).unwrap();
        assert_eq!(reasons.recv().await, Some(CloseReason::WriteTimeout));
        assert_on_time("a write", moment, began, ms(1_000));
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn close_handshake_has_its_full_five_seconds() {
    for moment in MOMENTS {
        let (hub, client, connection) = connection_at(moment, user_handler().no_heartbeat()).await;
        let began = Instant::now();
        connection.close(CloseCode::NORMAL, "");
        while hub.stats().connections > 0 {
            tokio::time::timeout(ms(1), std::future::pending::<()>()).await.unwrap_err();
        }
        assert_on_time("a close", moment, began, ms(5_000));
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn pong_is_not_late_while_a_callback_delays_reading() {
    let heartbeat = Heartbeat::every(ms(400)).timeout(ms(1_000));
    let handler = user_handler().heartbeat(heartbeat).on("work", async |_: Context, _: Value| {
        tokio::time::timeout(ms(4_321), std::future::pending::<()>()).await.unwrap_err();
        Ok(())
    });
    let (hub, mut client, _) = connection_at(1, handler).await;
    for id in 0..5 {
        assert_eq!(client.next_frame().await, Frame::Ping(Vec::new()));
        client.send(json!({ "type": "work", "id": id })).await;
        // The pong stays unread until the callback ends.
        client.send_frame(FrameHead::of(OpCode::Pong), b"").await;
        while client.next().await["id"] != id {}
    }
    assert_eq!((hub.stats().connections, hub.stats().heartbeat_timeouts), (1, 0));
}
