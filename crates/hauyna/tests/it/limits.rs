//! Limits of connections, eviction above them, and sockets that were made elsewhere.

use crate::support::{open_hub, registered, serve, user_handler, wait_for_connections, wait_until_empty};
use hauyna::limits::{AtLimit, Limit};
use hauyna::{
    ChannelOptions, CloseCode, CloseReason, ConnectRequest, ErrorType, Handler, Hub, HubBuilder, json,
};
use hauyna_test::{Client, Frame, TestServer};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

/// Reads the address of clients from a header.
fn with_address_header(builder: HubBuilder) -> HubBuilder {
    builder.client_address(|request: &ConnectRequest| request.query("address")?.parse().ok())
}

async fn status(server: &TestServer, target: &str) -> u16 {
    match server.client(target).try_connect().await {
        Ok(_) => 101,
        Err(refused) => {
            assert!(
                ["limit_exceeded", "unavailable"].map(Some).contains(&refused.json()["error_type"].as_str())
            );
            refused.status.as_u16()
        }
    }
}

/// Connects and keeps the connection.
async fn connect_and_stay(server: &TestServer, target: &str) -> Client {
    let mut client = server.connect(target).await;
    client.expect_nothing().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connection_limit_is_exact_during_concurrent_handshakes() {
    let hub = with_address_header(Hub::builder().max_connections(12).max_connections_per_user(3))
        .max_connections_per_address(5)
        .build();
    let handler = hauyna::Handler::new().identify(|request: ConnectRequest| async move {
        tokio::task::yield_now().await; // simulates a database query
        Ok(request.query("user"))
    });
    let server = TestServer::start(hub.clone(), handler);
    for round in 0..5 {
        let attempts = (0..120).map(|number| {
            let target = format!("/?user=u{}&address=10.0.0.{}", number % 6, number % 4);
            let client = server.client(&target);
            tokio::spawn(async move {
                let mut client = client.try_connect().await.ok()?;
                client.expect_nothing().await; // an admitted connection is not closed again
                Some(client)
            })
        });
        let mut clients = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            clients.extend(attempt.await.unwrap());
        }
        assert_eq!((clients.len(), hub.connections().count()), (12, 12), "in round {round}");
        for user in 0..6 {
            assert!(hub.connections().of_user(format!("u{user}")).len() <= 3);
        }
        for address in 0..4 {
            let address = Some(format!("10.0.0.{address}").parse().unwrap());
            let all = hub.connections().all();
            assert!(all.iter().filter(|connection| connection.address() == address).count() <= 5);
        }
        drop(clients);
        wait_until_empty(&hub).await;
    }
}

#[tokio::test]
async fn connections_per_address_are_limited_by_64_bit_network() {
    let hub = with_address_header(Hub::builder()).max_connections_per_address(2).build();
    let server = serve(&hub);
    let _four = [
        connect_and_stay(&server, "/?address=192.0.2.1").await,
        connect_and_stay(&server, "/?address=192.0.2.1").await,
    ];
    assert_eq!(status(&server, "/?address=192.0.2.1").await, 429);
    assert_eq!(status(&server, "/?address=::ffff:192.0.2.1").await, 429);
    let _other = connect_and_stay(&server, "/?address=192.0.2.2").await;
    let six = [
        connect_and_stay(&server, "/?address=2001:db8::1").await,
        connect_and_stay(&server, "/?address=2001:db8::2").await,
    ];
    assert_eq!(status(&server, "/?address=2001:db8:0:0:ffff::3").await, 429);
    assert_eq!(status(&server, "/?address=2001:db8:0:1::1").await, 101);
    drop(six);
    wait_for_connections(&hub, 3).await;
    assert_eq!(status(&server, "/?address=2001:db8::9").await, 101);
}

#[tokio::test]
async fn headers_do_not_change_the_address_without_a_callback() {
    let hub = Hub::builder().max_connections_per_address(1).build();
    let server = serve(&hub);
    let _first = connect_and_stay(&server, "/").await;
    for header in ["x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip"] {
        let refused = server.client("/").header(header, "203.0.113.7").try_connect().await.unwrap_err();
        assert_eq!(refused.status.as_u16(), 429, "{header}");
    }
}

#[tokio::test]
async fn failing_address_callback_refuses_one_request_or_uses_the_socket() {
    let hub = Hub::builder()
        .max_connections_per_address(1)
        .client_address(|request: &ConnectRequest| {
            assert_ne!(request.query("mode").as_deref(), Some("panic"), "on purpose");
            None
        })
        .build();
    let server = serve(&hub);
    let refused = server.client("/?mode=panic").try_connect().await.unwrap_err();
    assert_eq!(refused.status.as_u16(), 500);
    let first = connect_and_stay(&server, "/").await;
    assert_eq!(hub.connections().all()[0].address(), first.local_address().map(|peer| peer.ip()));
    assert_eq!(status(&server, "/").await, 429);
}

#[tokio::test]
async fn oldest_connection_of_a_user_is_evicted_for_the_newest() {
    let (sender, mut reasons) = mpsc::channel(8);
    let handler = user_handler().on_close(move |cx, reason| {
        let sender = sender.clone();
        async move { sender.send((cx.user().to_string(), reason)).await.map_err(hauyna::Error::other) }
    });
    let hub =
        Hub::builder().max_connections_per_user(2).at_limit(Limit::PerUser, AtLimit::CloseOldest).build();
    let server = TestServer::start(hub.clone(), handler);
    let mut other = connect_and_stay(&server, "/?user=other").await;
    let mut tabs = Vec::new();
    for _ in 0..2 {
        tabs.push(connect_and_stay(&server, "/?user=u").await);
    }
    for _ in 0..5 {
        tabs.push(connect_and_stay(&server, "/?user=u").await);
        let mut oldest = tabs.remove(0);
        assert_eq!(oldest.expect_close().await, (3504, "replaced by a newer connection".to_owned()));
        oldest.send_close(3504, "").await;
        assert_eq!(reasons.recv().await, Some(("u".to_owned(), CloseReason::Replaced)));
    }
    for tab in &mut tabs {
        tab.expect_nothing().await;
    }
    other.expect_nothing().await;
    assert_eq!(hub.connections().of_user("u").len(), 2);
    drop((tabs, other));
    wait_until_empty(&hub).await;
}

#[tokio::test]
async fn only_the_oldest_connection_is_evicted_for_a_newcomer() {
    let hub = Hub::builder()
        .max_connections(3)
        .at_limit(Limit::Total, AtLimit::CloseOldest)
        .max_connections_per_user(1)
        .at_limit(Limit::PerUser, AtLimit::CloseOldest)
        .build();
    let server = serve(&hub);
    let mut a = connect_and_stay(&server, "/?user=a").await;
    let mut b = connect_and_stay(&server, "/?user=b").await;
    let mut c = connect_and_stay(&server, "/?user=c").await;
    let mut again = connect_and_stay(&server, "/?user=c").await;
    assert_eq!(c.expect_close().await.0, 3504, "its user connected again");
    a.expect_nothing().await;
    let mut d = connect_and_stay(&server, "/?user=d").await;
    assert_eq!(a.expect_close().await.0, 3504, "the oldest connection is evicted");
    for client in [&mut b, &mut again, &mut d] {
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn registered_socket_is_a_connection_like_any_other() {
    let (sender, mut reasons) = mpsc::channel(8);
    let handler = user_handler()
        .on_open(|cx| async move { cx.subscribe("news", ()).await })
        .on("echo", async |_, value: Value| Ok(value["value"].clone()))
        .on_close(move |_, reason| {
            let sender = sender.clone();
            async move { sender.send(reason).await.map_err(hauyna::Error::other) }
        })
        .share();
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new()).max_connections_per_user(1).build();
    let (mut alice, connection) = registered(&hub, "alice", &handler).await;
    assert_eq!((connection.peer(), connection.address()), (None, None));
    assert_eq!(alice.request(json!({ "type": "echo", "value": 7 })).await.unwrap(), 7);
    alice.subscribe("more").await;
    hub.channel("news").broadcast("hello").await.unwrap();
    assert_eq!(alice.expect("message").await["content"], "hello");
    hub.user("alice").send("psst").await.unwrap();
    assert_eq!(alice.expect("private").await["message"], "psst");
    let refuse =
        |user: &str| hub.connections().register(tokio::io::duplex(64).0, user, &handler).unwrap_err();
    assert_eq!(refuse("alice").error_type(), ErrorType::LimitExceeded);
    assert_eq!(refuse("").error_type(), ErrorType::ValidationError);
    assert!(hub.connections().unregister(connection.id()));
    assert!(!hub.connections().unregister(connection.id()));
    assert_eq!(alice.expect_close().await, (1000, String::new()));
    alice.send_close(1000, "").await;
    assert_eq!(reasons.recv().await, Some(CloseReason::Application(1000)));
    wait_until_empty(&hub).await;
    hub.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(refuse("bob").error_type(), ErrorType::Unavailable);
}

#[tokio::test]
async fn clear_closes_everybody_with_its_code_and_reason() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(connect_and_stay(&server, "/").await);
    }
    hub.connections().broadcast("the last word").await.unwrap();
    assert_eq!(hub.connections().clear(CloseCode(4002), "moved"), 5);
    assert_eq!(hub.connections().clear(CloseCode(4003), "again"), 0);
    for client in &mut clients {
        assert_eq!(client.expect_close().await, (4002, "moved".to_owned()));
        client.send_close(4002, "").await;
    }
    wait_until_empty(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn cleanup_closes_only_connections_that_were_silent_too_long() {
    let handler = Handler::new().no_heartbeat().share();
    let hub = Hub::new();
    let (mut silent, _) = registered(&hub, "silent", &handler).await;
    let (mut loud, _) = registered(&hub, "loud", &handler).await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(30)).await;
        loud.ping(b"").await; // not a message, but a sign of life
        while !matches!(loud.next_frame().await, Frame::Pong(_)) {}
    }
    assert_eq!(hub.connections().cleanup_inactive(Duration::from_secs(400)), 0);
    assert_eq!(hub.connections().cleanup_inactive(Duration::from_secs(200)), 1);
    assert_eq!(silent.expect_close().await, (3012, "inactive".to_owned()));
    silent.send_close(3012, "").await;
    loud.expect_nothing().await;
    assert_eq!(hub.connections().count(), 1);
}

#[tokio::test]
async fn message_that_excludes_a_connection_is_not_delivered_to_it() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let mut phone = connect_and_stay(&server, "/?user=a").await;
    let own = hub.connections().of_user("a")[0].id();
    let (mut desk, mut other) =
        (connect_and_stay(&server, "/?user=a").await, connect_and_stay(&server, "/?user=b").await);
    hub.user("a").send("one").except(own).await.unwrap();
    hub.connections().send_to_many(["a", "b"], "many").except(own).await.unwrap();
    assert_eq!(desk.expect("private").await["message"], "one");
    assert_eq!(desk.expect("private").await["message"], "many");
    assert_eq!(other.expect("private").await["message"], "many");
    phone.expect_nothing().await;
}
