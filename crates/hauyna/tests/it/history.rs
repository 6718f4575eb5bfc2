//! Reading back through a channel's history, by clients and by the application.

use crate::support::{open_hub, serve};
use hauyna::broker::{Continuity, LocalBroker, LocalBrokerOptions};
use hauyna::{ChannelOptions, Handler, HistoryRange, Hub, Position, json};
use hauyna_test::{Client, TestServer};
use serde_json::Value;
use std::time::Duration;

/// Returns a server whose channel `x` had ten publications, of which `kept` remain.
async fn server(kept: u32) -> (Hub, TestServer) {
    let channels = ChannelOptions::new().history(kept, Duration::from_secs(600));
    let hub = Hub::builder().channels("{*any}", channels).build();
    let server = serve(&hub);
    for number in 1..=10 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    (hub, server)
}

/// Returns a plain client and a MessagePack client, both subscribed.
async fn clients(server: &TestServer) -> [Client; 2] {
    let mut clients = [server.connect("/").await, server.message_pack("/").await];
    clients[1].expect("session").await;
    for client in &mut clients {
        client.subscribe("x").await;
    }
    clients
}

async fn history(client: &mut Client, mut range: Value) -> Result<Value, Value> {
    range["type"] = json!("history");
    range["channel"] = json!("x");
    client.request(range).await
}

fn offsets(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|message| message["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn history_before_a_position_is_read_back_to_the_beginning() {
    let (_hub, server) = server(100).await;
    for mut client in clients(&server).await {
        let newest = history(&mut client, json!({ "reverse": true, "limit": 3 })).await.unwrap();
        assert_eq!((offsets(&newest), &newest["oldest"]), (vec![10, 9, 8], &json!(1)));
        let at = |offset: u64| json!({ "epoch": newest["epoch"], "offset": offset });
        for range in
            [json!({ "since": at(8), "reverse": true, "limit": 3 }), json!({ "before": at(8), "limit": 3 })]
        {
            assert_eq!(offsets(&history(&mut client, range).await.unwrap()), [7, 6, 5]);
        }
        let mut seen = offsets(&newest);
        while seen.last() != newest["oldest"].as_u64().as_ref() {
            let range = json!({ "before": at(*seen.last().unwrap()), "limit": 3 });
            seen.extend(offsets(&history(&mut client, range).await.unwrap()));
            assert!(seen.len() <= 10, "{seen:?}");
        }
        assert!(seen.into_iter().eq((1..=10).rev()));
        assert!(offsets(&history(&mut client, json!({ "before": at(1) })).await.unwrap()).is_empty());
        assert!(offsets(&history(&mut client, json!({ "before": at(0) })).await.unwrap()).is_empty());
        assert_eq!(offsets(&history(&mut client, json!({ "before": at(11) })).await.unwrap()).len(), 10);
        assert!(
            offsets(&history(&mut client, json!({ "before": at(5), "limit": 0 })).await.unwrap()).is_empty()
        );
    }
}

#[tokio::test]
async fn scrolling_back_ends_where_older_publications_are_dropped() {
    let (_hub, server) = server(4).await;
    for mut client in clients(&server).await {
        let top = history(&mut client, json!({ "limit": 0 })).await.unwrap();
        assert_eq!(top["oldest"], 7);
        let at = |offset: u64| json!({ "epoch": top["epoch"], "offset": offset });
        for (before, expected) in [(9, vec![8, 7]), (7, vec![]), (3, vec![])] {
            let page = history(&mut client, json!({ "before": at(before) })).await.unwrap();
            assert_eq!((offsets(&page), &page["oldest"]), (expected, &json!(7)), "{before}");
        }
        let refused = history(&mut client, json!({ "since": at(3) })).await.unwrap_err();
        assert_eq!(refused["details"], json!({ "path": "since", "reason": "too_old" }));
    }
}

#[tokio::test]
async fn history_from_an_invalid_position_is_refused() {
    let (_hub, server) = server(100).await;
    for mut client in clients(&server).await {
        let top = history(&mut client, json!({ "limit": 0 })).await.unwrap();
        let at = |offset: u64| json!({ "epoch": top["epoch"], "offset": offset });
        let largest = (1_u64 << 53) - 1;
        for before in [json!({ "epoch": "AAAAAAAAAAE", "offset": 5 }), at(12), at(largest)] {
            let refused = history(&mut client, json!({ "before": before })).await.unwrap_err();
            assert_eq!(refused["details"]["reason"], "epoch_changed");
        }
        let both = history(&mut client, json!({ "before": at(5), "since": at(2) })).await.unwrap_err();
        assert_eq!(
            (&both["error_type"], &both["details"]["path"]),
            (&json!("validation_error"), &json!("before"))
        );
    }
}

#[tokio::test]
async fn application_reads_a_history_in_both_directions() {
    let (hub, _server) = server(8).await;
    let read = async |range: HistoryRange| {
        let page = hub.channel("x").history(range).await.unwrap();
        let offsets = page.publications.iter().map(|publication| publication.position().unwrap().offset);
        (offsets.collect::<Vec<_>>(), page.oldest, page.continuity)
    };
    let top = hub.channel("x").history(HistoryRange::top()).await.unwrap().top;
    let at = |offset| Position { offset, ..top };
    assert_eq!(read(HistoryRange::newest().limit(2)).await, (vec![10, 9], 3, Continuity::Whole));
    assert_eq!(read(HistoryRange::before(at(9)).limit(2)).await, (vec![8, 7], 3, Continuity::TooMany));
    assert_eq!(read(HistoryRange::before(at(5)).limit(2)).await, (vec![4, 3], 3, Continuity::Whole));
    assert_eq!(read(HistoryRange::before(at(2))).await, (vec![], 3, Continuity::Whole));
    assert_eq!(read(HistoryRange::after(at(7))).await, (vec![8, 9, 10], 3, Continuity::Whole));
    assert_eq!(read(HistoryRange::after(at(1))).await, (vec![], 3, Continuity::TooOld));
    assert_eq!(read(HistoryRange::after(at(u64::MAX))).await.2, Continuity::EpochChanged);
    assert_eq!(read(HistoryRange::before(at(u64::MAX))).await.2, Continuity::EpochChanged);
}

#[tokio::test(start_paused = true)]
async fn expired_publications_are_in_no_page_and_no_recovery() {
    let hub = Hub::builder()
        .channels("{*any}", ChannelOptions::new().history(100, Duration::from_secs(60)))
        .build();
    let first = hub.channel("x").broadcast("old").await.unwrap().position.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    for range in
        [HistoryRange::all(), HistoryRange::newest(), HistoryRange::before(Position { offset: 2, ..first })]
    {
        let page = hub.channel("x").history(range).await.unwrap();
        assert_eq!((page.publications.len(), page.oldest, page.top), (0, 2, first));
    }
    let page = hub.channel("x").history(HistoryRange::after(Position { offset: 0, ..first })).await.unwrap();
    assert_eq!(page.continuity, Continuity::TooOld);
    assert_eq!(hub.inspect().channel("x").await.unwrap().history, 0);
}

/// One channel may use the whole memory for histories.
#[tokio::test]
async fn channel_keeps_as_many_messages_as_it_declares() {
    let hub = open_hub().build();
    let server = serve(&hub);
    let start = server.connect("/").await.subscribe("x").await;
    let text = "x".repeat(1000);
    for _ in 0..20_000 {
        hub.channel("x").broadcast(&text).await.unwrap();
    }
    let page = hub.channel("x").history(HistoryRange::newest().limit(1)).await.unwrap();
    assert_eq!((page.top.offset, page.oldest), (20_000, 1));
    assert_eq!(server.connect("/").await.recover("x", &start).await["reason"], "too_many");
}

/// Returns how many publications of 1,000 bytes 1 MiB holds while clients of so many wire variants are
/// connected.
async fn kept_in_a_mebibyte(variants: usize) -> usize {
    let options = LocalBrokerOptions::new().max_history_bytes(1 << 20);
    let channels = ChannelOptions::new().history(u32::MAX, Duration::from_secs(600));
    let builder = Hub::builder().channels("{*any}", channels).recovery_limit(u32::MAX);
    let hub = builder.broker(LocalBroker::new(options)).build();
    let server = TestServer::start(hub.clone(), Handler::new().deflate());
    let client = || server.client("/");
    let all = [
        client().json(),
        client().message_pack(),
        client().json().deflate(),
        client().message_pack().deflate(),
    ];
    let mut clients = Vec::new();
    for client in all.into_iter().take(variants) {
        clients.push(client.connect().await);
    }
    for _ in 0..2000 {
        hub.channel("x").broadcast("x".repeat(1000)).await.unwrap();
    }
    hub.channel("x").history(HistoryRange::all()).await.unwrap().publications.len()
}

#[tokio::test]
async fn frames_of_each_wire_variant_count_as_history_bytes() {
    for variants in 1..=4 {
        let kept = kept_in_a_mebibyte(variants).await;
        let bytes = kept * 1000 * (1 + variants);
        assert!((1 << 19..=1 << 20).contains(&bytes), "{kept} publications in {variants} variants");
    }
}
