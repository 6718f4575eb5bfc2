//! Reconnecting with many channels: few subscriptions are in flight at once, and a rate limit of the server
//! delays them, but ends nothing.

use crate::script::{EPOCH, Peer, script, session};
use crate::support::{builder, content, hub, named};
use hauyna::handler::RateLimit;
use hauyna::{Handler, Rate};
use hauyna_client::{Client, Error, State, Subscription};
use hauyna_test::{Cut, FaultProxy, TestServer};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Subscribes to this number of channels at once.
fn subscribe_to(client: &Client, count: usize) -> JoinSet<Result<(), Error>> {
    let rooms = (0..count).map(|n| client.channel::<u64>(&format!("room:{n:03}")));
    rooms.map(|room| async move { room.subscribe().await.map(Subscription::keep) }).collect()
}

/// Takes the subscription requests that have arrived.
async fn take_requests(peer: &mut Peer) -> Vec<Value> {
    let mut asked = Vec::new();
    while let Ok(request) =
        tokio::time::timeout(Duration::from_millis(10), peer.expect("subscribe_channel")).await
    {
        asked.push(request);
    }
    asked
}

async fn answer(peer: &mut Peer, request: &Value) {
    let data = json!({ "channel": request["channel"], "epoch": EPOCH, "offset": 1, "recoverable": true });
    peer.ack(request, data).await;
}

async fn refuse(peer: &mut Peer, request: &Value, retry_after: u64) {
    peer.send(json!({ "type": "error", "error_type": "rate_limited", "message": "", "timestamp": 1,
        "id": request["id"], "temporary": true, "details": { "retry_after": retry_after } }))
        .await;
}

#[tokio::test(start_paused = true)]
async fn sixteen_subscriptions_are_in_flight_at_once() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let mut subscribing = subscribe_to(&client, 40);
    let mut answered = 0;
    for expected in [16, 16, 8] {
        let requests = take_requests(&mut peer).await;
        assert_eq!(requests.len(), expected);
        for request in &requests {
            answer(&mut peer, request).await;
            answered += 1;
        }
    }
    assert_eq!(answered, 40);
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_rate_limit_pauses_all_subscriptions() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let mut subscribing = subscribe_to(&client, 20);
    let requests = take_requests(&mut peer).await;
    for request in &requests[..15] {
        answer(&mut peer, request).await;
    }
    let refused = Instant::now();
    refuse(&mut peer, &requests[15], 700).await;
    let first = peer.expect("subscribe_channel").await;
    assert_eq!(refused.elapsed().as_millis(), 700, "all wait as long as the server says");
    assert_eq!(first["channel"], requests[15]["channel"], "the one that was refused is the next");
    answer(&mut peer, &first).await;
    for request in take_requests(&mut peer).await {
        answer(&mut peer, &request).await;
    }
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_subscription_times_out_with_its_refusal() {
    let (mut script, builder) = script();
    let client = builder.ttl(Duration::from_secs(20)).connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let began = Instant::now();
    let mut subscribing = subscribe_to(&client, 1);
    let refusing = async {
        loop {
            match peer.next().await {
                Some(request) if request["type"] == "subscribe_channel" => {
                    refuse(&mut peer, &request, 5_000).await;
                }
                Some(_) => {}
                None => unreachable!("the client stays"),
            }
        }
    };
    let subscribed = tokio::select! {
        subscribed = subscribing.join_next() => subscribed,
        () = refusing => None,
    };
    let error = subscribed.unwrap().unwrap().unwrap_err();
    assert_eq!((error.kind(), began.elapsed().as_secs()), ("refused", 30));
}

#[tokio::test(start_paused = true)]
async fn unanswered_subscriptions_make_room_for_others() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let _subscribing = subscribe_to(&client, 18);
    assert_eq!(take_requests(&mut peer).await.len(), 16);
    let began = Instant::now();
    peer.expect("subscribe_channel").await;
    assert_eq!(began.elapsed().as_secs(), 9, "ten seconds are an answer's");
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_not_given_up_while_it_answers() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let mut subscribing = subscribe_to(&client, 16);
    for request in take_requests(&mut peer).await {
        answer(&mut peer, &request).await;
    }
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed.unwrap().unwrap();
    }
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    let requests = take_requests(&mut peer).await;
    assert_eq!(requests.len(), 16);
    for request in &requests {
        assert!(script.is_idle(Duration::from_secs(2)).await, "another attempt begins everything again");
        answer(&mut peer, request).await;
    }
    assert!(script.is_idle(Duration::from_secs(20)).await);
    assert_eq!(client.state(), State::Connected);
}

#[tokio::test(start_paused = true)]
async fn one_slow_subscription_keeps_the_connection() {
    let (mut script, builder) = script();
    let client = builder.timeout(Duration::from_secs(2)).connect().unwrap();
    let mut peer = script.greet("one").await;
    let mut subscribing = subscribe_to(&client, 2);
    for request in take_requests(&mut peer).await {
        answer(&mut peer, &request).await;
    }
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed.unwrap().unwrap();
    }
    drop(peer);
    let mut peer = script.greet("two").await;
    peer.expect("resume").await;
    for request in &take_requests(&mut peer).await {
        // By default, a server gives its application 30 s.
        assert!(script.is_idle(Duration::from_secs(29)).await, "another attempt begins everything again");
        answer(&mut peer, request).await;
    }
    assert!(script.is_idle(Duration::from_secs(20)).await);
    assert_eq!(client.state(), State::Connected);
}

#[tokio::test(start_paused = true)]
async fn a_restored_subscription_without_an_answer_ends_the_connection() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let mut subscribing = subscribe_to(&client, 1);
    let requests = take_requests(&mut peer).await;
    answer(&mut peer, &requests[0]).await;
    subscribing.join_next().await.unwrap().unwrap().unwrap();
    drop(peer);
    let mut peer = script.greet("two").await;
    let began = Instant::now();
    let answering = async {
        while let Some(message) = peer.next().await {
            if message["type"] == "ping" {
                peer.send(json!({ "type": "pong", "id": message["id"] })).await;
            }
        }
    };
    answering.await;
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_late_rate_limit_does_not_keep_the_task_busy() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    client.connected().await.unwrap();
    let _subscribing = subscribe_to(&client, 40);
    let late = take_requests(&mut peer).await;
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(10)).await;
    assert_eq!(take_requests(&mut peer).await.len(), 16);
    let began = Instant::now();
    refuse(&mut peer, &late[0], 100).await;
    let next = peer.expect("subscribe_channel").await;
    assert_eq!(next["channel"], late[0]["channel"]);
    assert_eq!(began.elapsed().as_secs(), 10, "there is room when the others are late");
}

#[tokio::test(start_paused = true)]
async fn subscriptions_refused_by_the_client_block_no_others() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut peer = script.greet("one").await;
    let mut subscribing: JoinSet<_> = (0..16)
        .map(|n| client.channel::<u64>(&format!("a:{n:02}")))
        .map(|room| async move {
            let metadata = json!({ "text": "x".repeat(1_000) });
            room.subscribe().metadata(&metadata).await.map(Subscription::keep)
        })
        .collect();
    for request in take_requests(&mut peer).await {
        answer(&mut peer, &request).await;
    }
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed.unwrap().unwrap();
    }
    let mut subscribing = subscribe_to(&client, 1);
    let requests = take_requests(&mut peer).await;
    answer(&mut peer, &requests[0]).await;
    subscribing.join_next().await.unwrap().unwrap().unwrap();
    drop(peer);
    let mut peer = script.accept().await;
    let mut session = crate::script::session("two");
    session["limits"] = json!({ "max_message": 500 });
    peer.send(session).await;
    peer.expect("resume").await;
    let began = Instant::now();
    assert_eq!(peer.expect("subscribe_channel").await["channel"], "room:000");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A server with a rate limit that makes a hundred subscriptions take seconds.
fn limited() -> TestServer {
    let limit = RateLimit::new().messages(Rate::per_second(40).burst(40));
    // The error budget is small, so that refused requests would close the connection.
    let handler: Handler = named().rate_limit(limit).error_budget(Rate::per_second(1).burst(5));
    TestServer::start(hub().build(), handler)
}

#[tokio::test]
async fn a_hundred_channels_are_restored_on_a_rate_limited_server() {
    let server = limited();
    let proxy = FaultProxy::start(server.address()).await;
    let client = builder(&proxy.url("/?user=ana")).connect().unwrap();
    let mut states = client.states();
    let rooms: Vec<_> = (0..100).map(|n| client.channel::<u64>(&format!("room:{n:03}"))).collect();
    let mut messages: Vec<_> = rooms.iter().map(|room| room.messages()).collect();
    let mut subscribing = subscribe_to(&client, 100);
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed.unwrap().unwrap();
    }
    // This server does not know the session.
    let another = limited();
    proxy.set_target(another.address());
    proxy.cut_all(Cut::Reset);
    for (room, messages) in rooms.iter().zip(&mut messages) {
        let gap = tokio::time::timeout(Duration::from_secs(60), messages.next()).await.unwrap();
        assert!(gap.unwrap().is_err(), "each is told that the server's memory is another one");
        another.hub().channel(room.name()).broadcast(7).await.unwrap();
        assert_eq!(content(messages).await, 7, "{}", room.name());
    }
    while let Ok(Some(state)) = tokio::time::timeout(Duration::ZERO, states.next()).await {
        assert!(!matches!(state, Ok(State::Closed(_))), "{state:?}");
    }
    let connections = another.hub().stats().opened;
    assert_eq!(connections, 1, "it was closed and came back");
}

#[tokio::test(start_paused = true)]
async fn a_resume_too_large_for_a_proxy_fails_no_subscription() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let names = ["a", "b", "c"].map(|letter| letter.repeat(200));
    let mut peer = script.greet("one").await;
    for name in &names {
        let room = client.channel::<u64>(name);
        let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe(name, 1));
        subscribed.unwrap().keep();
    }
    drop(peer);
    // A node that does not know the session answers at once, before the proxy in front of it has read
    // `resume`.
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    peer.send(session("two")).await;
    for _ in &names {
        peer.expect("subscribe_channel").await;
    }
    peer.close(1009).await;
    let mut peer = script.accept().await;
    assert_eq!(peer.protocols.len(), 1, "the next one would end in the same way: {:?}", peer.protocols);
    peer.send(session("three")).await;
    for name in &names {
        peer.subscribe(name, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_resume_that_was_too_large_fails_no_request_of_the_session_resumed_without_it() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let name = "a".repeat(200);
    let room = client.channel::<u64>(&name);
    let mut peer = script.greet("one").await;
    let (subscribed, ()) = tokio::join!(room.subscribe().into_future(), peer.subscribe(&name, 7));
    subscribed.unwrap().keep();
    drop(peer);
    // The server waits five seconds for `resume`; the proxy before it has yet to read it.
    let mut peer = script.accept().await;
    peer.expect("resume").await;
    let mut resumed = session("two");
    resumed["resumed"] = json!(true);
    resumed["subscriptions"] = json!([{ "channel": name, "epoch": EPOCH, "offset": 7, "recoverable": true,
        "recovered": false, "reason": "unknown_position" }]);
    peer.send(resumed).await;
    let small = tokio::spawn(client.request::<()>("small", &json!({})).repeatable().into_future());
    peer.expect("small").await;
    peer.close(1009).await;
    let mut peer = script.accept().await;
    assert_eq!(peer.protocols.len(), 1, "the next one would end in the same way: {:?}", peer.protocols);
    peer.send(session("three")).await;
    peer.subscribe(&name, 7).await;
    let request = peer.expect("small").await;
    peer.ack(&request, json!(null)).await;
    small.await.unwrap().unwrap();
}
