//! A long outage of the server: the client reconnects by itself, and each request has a definite outcome.
//! Scripted, on a paused clock.

use crate::script::{EPOCH, Peer, Script, Subscribed, publication, script, session, subscribed};
use crate::support::{next, reach};
use hauyna_client::{Channel, Client, Error, State};
use hauyna_protocol::Position;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Publishing = JoinHandle<Result<Option<Position>, Error>>;

/// The result of an outage.
struct Outcome {
    /// The publications that the server received after it.
    taken: Vec<u64>,
    /// The calls of all publications: the first at the loss, and the others a second apart.
    sent: Vec<Publishing>,
    /// The time from the loss until the client was back.
    away: Duration,
}

impl Outcome {
    /// Checks that each publication of the last `window` was sent, and that each earlier one failed as
    /// expired.
    async fn check(self, window: Duration) {
        let first = self.away.saturating_sub(window).as_secs() + 1;
        let mut accepted = Vec::new();
        for (n, call) in (1..).zip(self.sent) {
            match call.await.unwrap() {
                Ok(position) => {
                    assert!(position.is_some());
                    accepted.push(n);
                }
                Err(Error::Expired) => assert!(n <= first, "publication {n} is within the window"),
                Err(other) => panic!("publication {n}: {other}"),
            }
        }
        assert_eq!(accepted, self.taken, "what was sent is what was told");
        assert!(accepted.iter().all(|n| *n >= first), "{first}: {accepted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_waiting_publications_are_sent() {
    let outcome = outage_of(60).await;
    assert!(outcome.taken.len() >= 30, "{:?}", outcome.taken);
    outcome.check(WINDOW).await;
}

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_the_latest_publications_are_sent() {
    let outcome = outage_of(600).await;
    assert!(outcome.taken.len() >= 30, "{:?}", outcome.taken);
    outcome.check(WINDOW).await;
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_session_window_but_at_least_thirty_seconds() {
    let waited = async |client: &Client| {
        let began = Instant::now();
        let error = client.request::<()>("x", &json!({})).await.unwrap_err();
        assert_eq!(error.kind(), "expired");
        began.elapsed().as_secs()
    };
    let (_script, builder) = script();
    assert_eq!(waited(&builder.connect().unwrap()).await, 120, "before the first session");
    for (window, expected) in [(60_000, 60), (1_000, 30), (600_000, 600)] {
        let (mut script, builder) = self::script();
        let client = builder.connect().unwrap();
        let mut peer = script.accept().await;
        let mut greeting = session("one");
        greeting["resume"]["window"] = json!(window);
        peer.send(greeting).await;
        client.connected().await.unwrap();
        client.offline().await.unwrap();
        drop(peer);
        let mut states = client.states();
        reach(&mut states, |state| matches!(state, State::Reconnecting { .. })).await;
        assert_eq!(waited(&client).await, expected);
    }
}

/// Refuses every attempt until a moment. Returns their number, and the first attempt after it.
async fn refuse_until(script: &mut Script, back: Instant) -> (u32, tokio::io::DuplexStream) {
    for refused in 0.. {
        let attempt = script.raw().await;
        if Instant::now() >= back {
            return (refused, attempt);
        }
    }
    unreachable!("the loop ends by its return")
}

/// Publishes a number every second while the server is away.
fn publish_each_second(room: &Channel<u64>, seconds: u64) -> JoinHandle<Vec<Publishing>> {
    let room = room.clone();
    tokio::spawn(async move {
        let (mut sent, mut clock) = (Vec::new(), tokio::time::interval(Duration::from_secs(1)));
        for n in 1..=seconds {
            clock.tick().await;
            sent.push(tokio::spawn(room.publish(&n).into_future()));
        }
        sent
    })
}

/// Takes the server away for this time. The next server does not know the session, and its channel has three
/// publications that the client has not seen.
async fn outage_of(seconds: u64) -> Outcome {
    let Subscribed { mut script, peer, client, room, mut messages } = subscribed(5).await;
    let mut states = client.states();
    drop(peer);
    reach(&mut states, |state| matches!(state, State::Reconnecting { .. })).await;
    let began = Instant::now();
    let publishing = publish_each_second(&room, seconds);
    let (refused, stream) = refuse_until(&mut script, began + Duration::from_secs(seconds)).await;
    assert!(u64::from(refused) >= seconds / 30, "it never stops trying: {refused} attempts");
    assert!(began.elapsed() <= Duration::from_secs(seconds + 30), "it is back within the longest delay");
    let away = began.elapsed();
    let sent = publishing.await.unwrap();
    let mut peer = script.shake(stream).await.expect("a client that is there");
    peer.send(session("two")).await;
    peer.expect("resume").await;
    let request = peer.expect("subscribe_channel").await;
    assert_eq!(request["recover"], json!({ "epoch": EPOCH, "offset": 5 }));
    let data = json!({ "channel": "a", "epoch": EPOCH, "offset": 8, "recoverable": true, "recovered": true });
    peer.ack(&request, data).await;
    for offset in 6..=8 {
        peer.send(publication("a", offset)).await;
    }
    for offset in 6..=8 {
        assert_eq!(next(&mut messages).await.unwrap().offset, Some(offset), "nothing is lost");
    }
    assert_eq!(client.state(), State::Connected);
    let taken = take_publications(&mut peer).await;
    while let Ok(Some(state)) = tokio::time::timeout(Duration::ZERO, states.next()).await {
        assert!(!matches!(state, Ok(State::Closed(_))), "{state:?}");
    }
    Outcome { taken, sent, away }
}

/// Acknowledges publications until no more come, and returns their contents.
async fn take_publications(peer: &mut Peer) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(5), peer.next()).await {
        assert_eq!(message["type"], "channel_message", "{message}");
        taken.push(message["content"].as_u64().unwrap());
        peer.ack(&message, json!({ "epoch": EPOCH, "offset": 8 + taken.len() })).await;
    }
    taken
}

/// How long the scripted server keeps a session.
const WINDOW: Duration = Duration::from_secs(60);
