//! Cut connections, restarts and refusals between a client and a real server, by the fault proxy.

use crate::support::{builder, client, content, hub, named, next, reach, server};
use hauyna::Drain;
use hauyna_client::{Client, Closed, Error, GapReason, State, StreamError};
use hauyna_test::{Cut, FaultProxy, TestServer};
use std::time::Duration;

async fn proxied(server: &TestServer) -> (FaultProxy, Client) {
    let proxy = FaultProxy::start(server.address()).await;
    let client = client(&proxy.url("/?user=ana"));
    client.connected().await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn publications_arrive_once_and_in_order_over_many_cuts() {
    let server = server();
    let (proxy, client) = proxied(&server).await;
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    let hub = server.hub().clone();
    let publisher = tokio::spawn(async move {
        for n in 0..300u32 {
            hub.channel("room:1").broadcast(n).await.unwrap();
            tokio::time::timeout(Duration::from_millis(2), std::future::pending::<()>()).await.unwrap_err();
        }
    });
    for n in 0..300 {
        assert_eq!(content(&mut messages).await, n);
        if n % 60 == 10 {
            proxy.cut_all(if n % 120 == 10 { Cut::Reset } else { Cut::Fin });
        }
    }
    publisher.await.unwrap();
}

#[tokio::test]
async fn a_too_large_resume_starts_a_new_session() {
    let server = TestServer::start(hub().build(), named().max_message(1_000));
    let (proxy, client) = proxied(&server).await;
    let rooms: Vec<_> = (0..30).map(|n| client.channel::<u32>(&format!("room:{n}"))).collect();
    let mut streams: Vec<_> = rooms.iter().map(|room| room.messages()).collect();
    for room in &rooms {
        room.subscribe().await.unwrap().keep();
    }
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    for n in 0..30 {
        server.hub().channel(format!("room:{n}")).broadcast(n).await.unwrap();
    }
    proxy.admit();
    for (n, messages) in (0..).zip(&mut streams) {
        assert_eq!(content(messages).await, n);
    }
}

#[tokio::test]
async fn publications_are_made_once_and_in_order_over_cuts() {
    let server = server();
    let (proxy, client) = proxied(&server).await;
    let room = client.channel::<u32>("room:1");
    room.subscribe().await.unwrap().keep();
    for n in 0..60u32 {
        if n % 20 == 5 {
            proxy.cut_all(Cut::Reset);
        }
        room.publish(&n).ttl(Duration::from_secs(20)).await.unwrap();
    }
    let past = room.history().await.unwrap();
    let published: Vec<_> = past.messages.into_iter().map(|message| message.content).collect();
    assert_eq!(published, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_wait_for_a_connection_and_are_sent_in_order() {
    let server = server();
    let (proxy, client) = proxied(&server).await;
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    let mut states = client.states();
    proxy.refuse();
    proxy.cut_all(Cut::Fin);
    reach(&mut states, |state| matches!(state, State::Reconnecting { .. })).await;
    assert!(matches!(room.publish(&9).volatile().await, Err(Error::NotConnected)));
    let publish = async |n| room.publish(&n).await.unwrap();
    let (_, _, ()) = tokio::join!(publish(1), publish(2), async { proxy.admit() });
    assert_eq!((content(&mut messages).await, content(&mut messages).await), (1, 2));
}

#[tokio::test]
async fn a_channel_without_history_reports_a_gap_after_a_cut() {
    let server = server();
    let (proxy, client) = proxied(&server).await;
    let live = client.channel::<u32>("live:1");
    let mut messages = live.messages();
    live.subscribe().await.unwrap().keep();
    proxy.cut_all(Cut::Reset);
    let gap = next(&mut messages).await.unwrap_err();
    assert!(matches!(gap, StreamError::Gap(gap) if gap.reason == GapReason::NotRecoverable));
    server.hub().channel("live:1").broadcast(1).await.unwrap();
    assert_eq!(content(&mut messages).await, 1);
}

#[tokio::test]
async fn a_restarted_server_is_a_gap_and_the_channel_continues() {
    let server = server();
    let (proxy, client) = proxied(&server).await;
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    room.publish(&1).await.unwrap();
    assert_eq!(content(&mut messages).await, 1);
    let another = TestServer::start(hub().build(), named());
    proxy.set_target(another.address());
    proxy.cut_all(Cut::Reset);
    let gap = next(&mut messages).await.unwrap_err();
    assert!(matches!(gap, StreamError::Gap(gap) if gap.reason == GapReason::EpochChanged));
    another.hub().channel("room:1").broadcast(2).await.unwrap();
    assert_eq!(content(&mut messages).await, 2);
}

#[tokio::test]
async fn a_stored_position_is_recovered_after_a_restart() {
    let server = server();
    let first = client(&server.url("/"));
    let room = first.channel::<u32>("room:1");
    room.subscribe().await.unwrap().keep();
    room.publish(&1).await.unwrap();
    let kept = room.position().or(room.subscribe().await.unwrap().position().copied()).unwrap();
    first.close().await;
    server.hub().channel("room:1").broadcast(2).await.unwrap();
    let second = client(&server.url("/"));
    let room = second.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().since(kept).await.unwrap().keep();
    let mut last = content(&mut messages).await;
    if last == 1 {
        // The answer came before the client had received its own publication.
        last = content(&mut messages).await;
    }
    assert_eq!(last, 2);
}

#[tokio::test]
async fn a_disconnected_user_stays_away_with_the_reason() {
    let server = server();
    let client = client(&server.url("/?user=ana"));
    client.connected().await.unwrap();
    let mut states = client.states();
    for connection in server.hub().connections().all() {
        connection.close(hauyna::CloseCode::DISCONNECTED, "enough");
    }
    let state = reach(&mut states, |state| matches!(state, State::Closed(_))).await;
    let closed = Closed::ByServer { code: 3503, reason: "enough".into() };
    assert_eq!(state, State::Closed(closed));
}

#[tokio::test]
async fn a_client_keeps_trying_until_a_server_listens() {
    let server = server();
    let proxy = FaultProxy::start(server.address()).await;
    proxy.refuse();
    let client = builder(&proxy.url("/")).connect().unwrap();
    let room = client.channel::<u32>("room:1");
    let subscribing = tokio::spawn(room.subscribe().into_future());
    while proxy.faults().refused < 2 {
        tokio::task::yield_now().await;
    }
    proxy.admit();
    subscribing.await.unwrap().unwrap().keep();
}

#[tokio::test]
async fn clients_of_a_drained_server_move_to_the_next() {
    let server = server();
    let (proxy, client) = proxied(&server).await;
    let room = client.channel::<u32>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    room.publish(&1).await.unwrap();
    assert_eq!(content(&mut messages).await, 1);
    let next_server = TestServer::start(hub().build(), named());
    proxy.set_target(next_server.address());
    server.hub().drain(Drain::over(Duration::from_millis(300))).await.unwrap();
    let gap = next(&mut messages).await.unwrap_err();
    assert!(matches!(gap, StreamError::Gap(gap) if gap.reason == GapReason::EpochChanged));
    room.publish(&2).await.unwrap();
    assert_eq!(content(&mut messages).await, 2);
    assert_eq!(next_server.hub().connections().count(), 1);
}
