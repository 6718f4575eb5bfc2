//! Races and crowds: subscriptions that race with the end of their connection, names by the hundred thousand,
//! and many clients that leave at once.

use crate::support::{
    Random, eventually, open_hub, session_client, subscriber, user_handler, wait_until_empty,
};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::{ChannelOptions, Connection, Hub, Reject, json};
use hauyna_test::{Client, TestServer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscription_racing_with_the_connection_end_leaves_nothing_behind() {
    const ROUNDS: u64 = 5_000;
    let handler = user_handler().authorize_subscribe(|cx, request| async move {
        let name = request.name();
        let mut random = Random(cx.user().len() as u64 ^ name.len() as u64 ^ u64::from(std::process::id()));
        for _ in 0..random.below(6) {
            tokio::task::yield_now().await;
        }
        if name.starts_with('d') { Err(Reject::denied("no")) } else { Ok(()) }
    });
    let hub = Hub::builder().channels("{*any}", ChannelOptions::new().announce_subscribers()).build();
    let server = Arc::new(TestServer::start(hub.clone(), handler));
    let workers = (0..8_u64).map(|worker| {
        let server = server.clone();
        tokio::spawn(async move {
            let mut random = Random(worker);
            for _ in 0..ROUNDS / 8 {
                let own = format!("w{worker}");
                let mut client = server.connect(&format!("/?user={own}")).await;
                for id in 0..random.below(4) {
                    let name = format!("{}{}", ["a", "b", "d"][random.below(3) as usize], random.below(3));
                    let kind = if random.below(4) == 0 { "unsubscribe_channel" } else { "subscribe_channel" };
                    client.send(json!({ "type": kind, "id": format!("r{id}"), "channel": name })).await;
                }
                match random.below(4) {
                    0 => client.vanish(),
                    1 => client.send_close(1000, "").await,
                    2 => {
                        for connection in server.hub().connections().of_user(&own) {
                            connection.close(hauyna::CloseCode(4000), "");
                        }
                    }
                    _ => assert!(client.request(json!({ "type": "ping" })).await.is_ok()),
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    eventually("the last is open", || hub.stats().opened == ROUNDS).await;
    wait_until_empty(&hub).await;
    assert_eq!((hub.stats().opened, hub.stats().panics), (ROUNDS, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_name_explosion_leaves_no_channel_behind() {
    const NAMES: u64 = 100_000;
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler().no_error_budget());
    let mut client = server.connect("/").await;
    let mut random = Random(1);
    for batch in 0..NAMES / 1000 {
        let mut frames = Vec::new();
        for _ in 0..1000 {
            let kind = if random.below(3) == 0 { "unsubscribe_channel" } else { "subscribe_channel" };
            let text = json!({ "type": kind, "channel": format!("n{}", random.below(NAMES)) }).to_string();
            hauyna_websocket::encode_into(
                &mut frames,
                hauyna_websocket::OpCode::Text,
                text.as_bytes(),
                Some([7; 4]),
            );
        }
        client.send_raw(&frames).await;
        client.send(json!({ "type": "ping", "id": "end" })).await;
        while client.next().await["type"] != "pong" {}
        assert!(hub.stats().channels <= 128, "{batch}");
        for name in hub.connections().all()[0].channels() {
            client.send(json!({ "type": "unsubscribe_channel", "channel": name })).await;
        }
    }
    client.send(json!({ "type": "ping", "id": "end" })).await;
    while client.next().await["id"] != "end" {}
    assert_eq!(hub.stats().channels, hub.connections().all()[0].channels().len());
    client.vanish();
    wait_until_empty(&hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mass_leave_does_not_stall_other_channels() {
    const CROWD: usize = 2_000;
    let hub = open_hub().build();
    let server = Arc::new(TestServer::start(hub.clone(), user_handler()));
    let mut crowd = Vec::new();
    for chunk in 0..CROWD / 100 {
        let joining = (0..100).map(|number| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut client = server.connect(&format!("/?user=c{chunk}-{number}")).await;
                for channel in ["crowd", "pair", &format!("own{}", number % 10)] {
                    client.subscribe(channel).await;
                }
                client
            })
        });
        for client in joining.collect::<Vec<_>>() {
            crowd.push(client.await.unwrap());
        }
    }
    assert_eq!(hub.stats().connections, CROWD);
    let (mut ann, mut ben) =
        (subscriber(&server, "ann", "chat").await, subscriber(&server, "ben", "chat").await);
    let began = Instant::now();
    drop(crowd);
    let mut longest = Duration::ZERO;
    let mut rounds = 0;
    while hub.stats().connections > 2 || rounds < 100 {
        let sent = Instant::now();
        ann.send(json!({ "type": "channel_message", "channel": "chat", "content": rounds })).await;
        ann.expect("message").await;
        assert_eq!(ben.expect("message").await["content"], rounds);
        longest = longest.max(sent.elapsed());
        rounds += 1;
        assert!(began.elapsed() < Duration::from_secs(20), "{} are left", hub.stats().connections);
    }
    assert!(longest < Duration::from_secs(2), "a message took {longest:?}");
    eventually("their channels have ended", || hub.stats().channels == 1).await;
}

#[tokio::test]
async fn earlier_broadcast_is_not_delivered_to_a_new_connection() {
    let hub = open_hub().shards(4).build();
    let server = TestServer::start(hub.clone(), user_handler());
    for number in 0..1000 {
        hub.connections().broadcast(number).await.unwrap();
    }
    for _ in 0..8 {
        let mut client = server.connect("/").await;
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn two_hubs_in_one_process_are_independent() {
    let (one, two) = (open_hub().build(), open_hub().build());
    let (first, second) =
        (TestServer::start(one.clone(), user_handler()), TestServer::start(two.clone(), user_handler()));
    let mut a = subscriber(&first, "u", "x").await;
    let mut b = subscriber(&second, "u", "x").await;
    one.channel("x").broadcast("one").await.unwrap();
    one.user("u").send("private").await.unwrap();
    one.connections().broadcast("all").await.unwrap();
    let mut kinds =
        [a.next().await, a.next().await, a.next().await].map(|message| message["type"].to_string());
    kinds.sort(); // only the messages of one channel have an order
    assert_eq!(kinds, ["\"broadcast\"", "\"message\"", "\"private\""]);
    b.expect_nothing().await;
    assert_eq!((one.stats().connections, two.stats().published), (1, 0));
    first.stop().await;
    b.expect_nothing().await;
}

#[tokio::test]
async fn nothing_keeps_a_closed_connection_alive() {
    let mark = Arc::new(());
    let given = mark.clone();
    let handler = user_handler().on_open(move |cx| {
        let given = given.clone();
        async move {
            cx.connection().with_extensions(|values| values.insert(given));
            Ok(())
        }
    });
    let hub = open_hub().shards(1).sessions(hauyna::SessionOptions::none()).build();
    let server = TestServer::start(hub.clone(), handler);
    let mut keeper = subscriber(&server, "keeper", "x").await;
    let base = Arc::strong_count(&mark);
    let mut random = Random(3);
    let mut clients = Vec::new();
    for number in 0..200 {
        if clients.len() < 5 || random.below(2) == 0 {
            clients.push(subscriber(&server, &format!("u{number}"), "x").await);
        } else {
            let gone: Client = clients.swap_remove(random.below(clients.len() as u64) as usize);
            gone.vanish();
        }
        hub.channel("x").broadcast(number).await.unwrap();
        keeper.expect("message").await;
    }
    drop(clients);
    eventually("all values are dropped", || Arc::strong_count(&mark) == base).await;
    assert_eq!(hub.stats().subscriptions, 1);
}

/// Subscribes and unsubscribes a connection from two tasks at once. Returns how often each succeeded.
async fn toggle(hub: &Hub, connection: &Connection, rounds: usize) -> usize {
    let channel = hub.channel("x");
    let (subscribing, unsubscribing) = ((channel.clone(), connection.clone()), (channel, connection.clone()));
    let subscribing = tokio::spawn(async move {
        let (channel, connection) = subscribing;
        let mut count = 0;
        for _ in 0..rounds {
            count += usize::from(channel.subscribe(&connection, ()).await.is_ok());
            tokio::task::yield_now().await;
        }
        count
    });
    let unsubscribing = tokio::spawn(async move {
        let (channel, connection) = unsubscribing;
        let mut count = 0;
        for _ in 0..rounds {
            count += usize::from(channel.unsubscribe(&connection).is_ok());
            tokio::task::yield_now().await;
        }
        count
    });
    subscribing.await.unwrap() + unsubscribing.await.unwrap()
}

/// Returns how many entries repeat the previous one.
fn repeated(notices: &[String]) -> usize {
    notices.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribers_listeners_and_client_see_changes_in_order() {
    let hub = Hub::builder().channels("x", ChannelOptions::new().announce_subscribers()).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let events = Arc::new(Mutex::new(Vec::new()));
    let listener_events = events.clone();
    hub.events().on_system([SystemKind::Subscribed, SystemKind::Unsubscribed], move |_, event| {
        let kind = match event {
            SystemEvent::Subscribed { connection, .. } => Some((connection, "subscribed")),
            SystemEvent::Unsubscribed { connection, .. } => Some((connection, "unsubscribed")),
            _ => None,
        };
        if let Some((connection, kind)) = kind
            && **connection.user() == *"ann"
        {
            listener_events.lock().push(kind.to_owned());
        }
        async { Ok(()) }
    });
    let mut observer = subscriber(&server, "observer", "x").await;
    observer.expect("channel_event").await;
    let mut ann = session_client(&server, "/?user=ann").await;
    let connection = hub.connections().of_user("ann").remove(0);
    let (mut count, mut announced, mut notices) = (0, Vec::new(), Vec::new());
    for _ in 0..60 {
        count += toggle(&hub, &connection, 50).await;
        hub.channel("x").broadcast(json!({ "type": "end" })).await.unwrap();
        connection.send(json!({ "type": "end_of_ann" })).unwrap();
        loop {
            let message = observer.next().await;
            match message["type"].as_str().unwrap() {
                "end" => break,
                _ => announced.push(message["event"].as_str().unwrap().to_owned()),
            }
        }
        loop {
            let message = ann.next().await;
            match message["type"].as_str().unwrap() {
                "end_of_ann" => break,
                kind @ ("subscribed" | "unsubscribed") => notices.push(kind.to_owned()),
                _ => {}
            }
        }
    }
    eventually("the listener has all events", || events.lock().len() == count).await;
    assert!(count > 100, "{count}");
    assert_eq!((announced.len(), notices.len()), (count, count));
    assert_eq!([repeated(&announced), repeated(&notices), repeated(&events.lock())], [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answer_to_unsubscribe_arrives_before_the_next_subscription_notice() {
    let hub = open_hub().build();
    let server = TestServer::start(hub.clone(), user_handler().no_error_budget());
    let mut ann = session_client(&server, "/?user=ann").await;
    let connection = hub.connections().of_user("ann").remove(0);
    let is_done = Arc::new(AtomicBool::new(false));
    let (subscribing, ends) = (hub.channel("x"), is_done.clone());
    let subscribing = tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            let _ = subscribing.subscribe(&connection, ()).await;
            tokio::task::yield_now().await;
        }
    });
    let mut notices = Vec::new();
    for id in 0..100_000 {
        if notices.len() >= 200 {
            break;
        }
        ann.send(json!({ "type": "unsubscribe_channel", "id": id, "channel": "x" })).await;
        loop {
            let message = ann.next().await;
            if let kind @ ("subscribed" | "ack") = message["type"].as_str().unwrap() {
                notices.push(kind.to_owned());
            }
            if message["id"] == id {
                break;
            }
        }
    }
    is_done.store(true, Ordering::Relaxed);
    subscribing.await.unwrap();
    assert!(notices.len() >= 200, "{}", notices.len());
    assert_eq!(repeated(&notices), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn opened_is_the_first_event_of_a_connection() {
    let hub = open_hub().build();
    let events = Arc::new(Mutex::new(Vec::new()));
    let listener_events = events.clone();
    hub.events().on_system([SystemKind::Opened, SystemKind::Subscribed], move |_, event| {
        match event {
            SystemEvent::Opened { connection, .. } => {
                listener_events.lock().push((connection.id(), "opened"));
            }
            SystemEvent::Subscribed { connection, .. } => {
                listener_events.lock().push((connection.id(), "subscribed"));
            }
            _ => {}
        }
        async { Ok(()) }
    });
    let is_done = Arc::new(AtomicBool::new(false));
    let (application, ends) = (hub.clone(), is_done.clone());
    let subscribing = tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            for connection in application.connections().all() {
                let _ = application.channel("x").subscribe(&connection, ()).await;
            }
            tokio::task::yield_now().await;
        }
    });
    let server = TestServer::start(hub.clone(), user_handler());
    for _ in 0..300 {
        let client = server.connect("/").await;
        eventually("it is subscribed", || hub.channel("x").subscription_count() == 1).await;
        client.close(1000, "").await;
        eventually("the connection is unsubscribed", || hub.channel("x").subscription_count() == 0).await;
    }
    is_done.store(true, Ordering::Relaxed);
    subscribing.await.unwrap();
    eventually("the listener has all events", || events.lock().len() == 600).await;
    for pair in events.lock().chunks(2) {
        assert_eq!((pair[0].1, pair[1].1), ("opened", "subscribed"));
        assert_eq!(pair[0].0, pair[1].0);
    }
}
