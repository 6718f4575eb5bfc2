//! The log of attempts: one warning for a series of failures, one line when the connection is back, and no
//! secrets. Scripted, on a paused clock.

use crate::script::{Script, script, script_of};
use crate::support::reach;
use hauyna_client::{Client, Closed, State};
use serde_json::json;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that this thread has logged since the start.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .without_time()
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Returns the client's lines of a level, without their target.
    pub(crate) fn lines(&self, level: &str) -> Vec<String> {
        let start = format!("{level} hauyna_client: ");
        self.text()
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix(&start))
            .map(str::to_owned)
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_series_of_failures_is_one_warning_and_one_final_line() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut states = client.states();
    let mut peer = script.greet("one").await;
    reach(&mut states, |state| *state == State::Connected).await;
    assert_eq!((log.lines("WARN").len(), log.lines("INFO").len()), (0, 0));
    for series in 1..=2 {
        drop(peer);
        for _ in 0..5 {
            drop(script.raw().await);
        }
        peer = script.greet("next").await;
        reach(&mut states, |state| *state == State::Connected).await;
        let (warned, told) = (log.lines("WARN"), log.lines("INFO"));
        assert_eq!((warned.len(), told.len()), (series, series), "{warned:#?} {told:#?}");
        assert!(
            warned[series - 1].starts_with("cannot connect url=\"ws://script.test/chat\""),
            "{warned:#?}"
        );
        assert!(warned[series - 1].contains("retry_in_ms="), "{warned:#?}");
        assert!(told[series - 1].starts_with("connected again url=\"ws://script.test/chat\""), "{told:#?}");
    }
    let attempts = log.lines("DEBUG").iter().filter(|line| line.starts_with("connecting ")).count();
    assert_eq!(attempts, 13, "each attempt is logged");
    assert_eq!(client.last_failure(), None);
}

#[tokio::test(start_paused = true)]
async fn the_head_of_each_message_is_logged_at_debug_level() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut events = client.events::<serde_json::Value>("order");
    let mut peer = script.greet("one").await;
    let request = client.request::<serde_json::Value>("pay", &json!({ "card": "s3cr3t" }));
    let answered = tokio::spawn(async move { request.await });
    let asked = peer.next().await.unwrap();
    peer.send(json!({ "type": "ack", "id": asked["id"], "timestamp": 1, "data": { "card": "s3cr3t" } }))
        .await;
    peer.send(json!({ "type": "message", "channel": "orders", "offset": 7, "content": "s3cr3t" })).await;
    peer.send(json!({ "type": "order", "name": "s3cr3t" })).await;
    answered.await.unwrap().unwrap();
    events.next().await.unwrap().unwrap();
    let lines = log.lines("DEBUG");
    let has =
        |start: &str, part: &str| lines.iter().any(|line| line.starts_with(start) && line.contains(part));
    assert!(has("sent type=\"pay\"", "bytes="), "{lines:#?}");
    assert!(has("received type=\"ack\"", "id="), "{lines:#?}");
    assert!(has("received type=\"message\" channel=\"orders\"", "offset=7"), "{lines:#?}");
    assert!(!log.text().contains("s3cr3t"));
}

#[tokio::test(start_paused = true)]
async fn application_texts_in_message_heads_are_cut_in_the_log() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let mut events = client.events::<serde_json::Value>("order");
    let mut peer = script.greet("one").await;
    peer.send(json!({ "type": "order", "id": { "card": "s3cr3t" }, "channel": null, "offset": ["s3cr3t"] }))
        .await;
    peer.send(json!({ "type": "order", "id": "é".repeat(100_000) + "s3cr3t" })).await;
    peer.send(json!({ "type": "order", "id": "7\nWARN all is lost", "offset": -1 })).await;
    for _ in 0..3 {
        events.next().await.unwrap().unwrap();
    }
    assert!(!log.text().contains("s3cr3t"));
    let lines = log.lines("DEBUG");
    let orders: Vec<_> = lines.iter().filter(|line| line.starts_with("received type=\"order\"")).collect();
    assert_eq!(orders.len(), 3, "{lines:#?}");
    assert!(orders.iter().all(|line| line.len() < 300), "{orders:#?}");
    assert!(orders[2].contains("id=\"7\\nWARN all is lost\""), "{orders:#?}");
}

#[tokio::test(start_paused = true)]
async fn unsolicited_errors_of_one_kind_are_one_warning_per_connection() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    let error = |kind: &str| json!({ "type": "error", "error_type": kind, "message": "", "timestamp": 1, "temporary": false });
    for connection in 1..=2 {
        let mut peer = script.greet("one").await;
        for _ in 0..20 {
            peer.send(error("permission_denied")).await;
        }
        client.reconnect().await.unwrap();
        while peer.next().await.expect("a client that is there")["type"] != "ping" {}
        assert_eq!(log.lines("WARN").len(), connection * 2 - 1, "{:#?}", log.lines("WARN"));
        // The attempt after the loss fails, which is a warning of its own.
        drop(peer);
        drop(script.raw().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_warning_names_the_address_without_its_query_and_the_status() {
    let (log, _guard) = Log::capture();
    let (mut script, builder) = script_of("ws://script.test/chat?token=s3cr3t");
    let client = builder.token(|| async { Ok::<_, String>("s3cr3t".to_owned()) }).connect().unwrap();
    answer(&mut script, "503 Service Unavailable").await;
    answer(&mut script, "404 Not Found").await;
    assert_eq!(client.connected().await, Err(Closed::Refused { status: 404 }));
    let warned = log.lines("WARN");
    assert_eq!(warned.len(), 2, "the first of the series, and the one that ends the client: {warned:#?}");
    assert!(warned[0].contains("url=\"ws://script.test/chat\" error=the server answered 503"), "{warned:#?}");
    assert!(warned[1].ends_with("status=404"), "no next try: {warned:#?}");
    assert!(!log.text().contains("s3cr3t"));
    assert_eq!(client.last_failure().unwrap(), "the server answered 404 Not Found");
}

#[tokio::test(start_paused = true)]
async fn permanent_failures_close_the_client() {
    for status in [401, 403, 404, 410] {
        let (mut script, builder) = script();
        let client = builder.connect().unwrap();
        answer(&mut script, &format!("{status} No")).await;
        assert_eq!(client.connected().await, Err(Closed::Refused { status }));
        assert_eq!(client.state(), State::Closed(Closed::Refused { status }));
        assert!(script.is_idle(Duration::from_secs(600)).await, "{status}");
    }
    let (mut script, builder) = script();
    let client = builder.token(|| async { Ok::<_, String>("two words".to_owned()) }).connect().unwrap();
    assert_eq!(client.connected().await, Err(Closed::InvalidRequest));
    assert!(script.is_idle(Duration::from_secs(600)).await);
    // The token source may return another token the next time.
    let client = script_with_token(&mut script).await;
    let _peer = script.greet("one").await;
    client.connected().await.unwrap();
}

async fn script_with_token(script: &mut Script) -> Client {
    let (other, builder) = self::script();
    *script = other;
    let client = builder.token(|| async { Ok::<_, String>("fresh".to_owned()) }).connect().unwrap();
    answer(script, "401 Unauthorized").await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_connected_leaves_the_client_connecting() {
    let (mut script, builder) = script();
    let client = builder.connect().unwrap();
    drop(script.raw().await);
    assert!(tokio::time::timeout(Duration::from_secs(5), client.connected()).await.is_err());
    assert!(client.last_failure().unwrap().starts_with("cannot connect: "), "{:?}", client.last_failure());
    assert_eq!(client.retry_at(), None, "the second attempt is under way");
    let mut states = client.states();
    let peer = script.greet("one").await;
    client.connected().await.unwrap();
    drop(peer);
    reach(&mut states, |state| matches!(state, State::Reconnecting { .. })).await;
    let at = client.retry_at().expect("an attempt is planned");
    drop(script.raw().await);
    let late = Instant::now() - at;
    assert!(late < Duration::from_millis(5), "it is made then, by a timer of a millisecond: {late:?}");
    client.offline().await.unwrap();
    assert!(script.is_idle(Duration::from_secs(60)).await);
    assert_eq!(client.retry_at(), None, "without a network there is none");
}

/// Answers the next attempt with a status line.
async fn answer(script: &mut Script, status: &str) {
    let mut stream = script.raw().await;
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
}
