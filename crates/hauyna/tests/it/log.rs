//! The log: stable targets, levels, fields and their names, and what must never be logged.

use crate::support::{eventually, open_hub, user_handler};
use hauyna::{ChannelOptions, Context, Handler, Hub, json};
use hauyna_test::TestServer;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The log lines of this thread while it exists.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .without_time()
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).filter(|line| line.contains("hauyna::")).collect()
    }

    /// Returns the line of a target with this message, followed only by fields.
    fn line(&self, level: &str, target: &str, message: &str) -> String {
        let found = self.lines().into_iter().find(|line| {
            line.trim_start().starts_with(level) && line.contains(&format!("{target}: {message}"))
        });
        found.unwrap_or_else(|| panic!("no {level} {target}: {message} in {:#?}", self.lines()))
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

#[tokio::test]
async fn connection_and_channel_events_have_their_documented_fields() {
    let (log, _guard) = Log::capture();
    let server =
        TestServer::route(open_hub().build(), |router| router.websocket("/live/{zone}", user_handler()));
    let mut client = server.client("/live/7?user=ann&token=s3cr3t").json().connect().await;
    client.expect("session").await;
    client.subscribe("room:7").await;
    let id = server.hub().connections().of_user("ann")[0].id();
    client.close(4001, "").await;
    eventually("the connection has closed", || server.hub().stats().closed == 1).await;
    let opened = log.line("DEBUG", "hauyna::connection", "opened");
    assert!(opened.ends_with(&format!("id={id} user=ann route=\"/live/{{zone}}\"")), "{opened}");
    let subscribed = log.line("DEBUG", "hauyna::channel", "subscribed");
    assert!(subscribed.ends_with(&format!("id={id} channel=room:7")), "{subscribed}");
    let unsubscribed = log.line("DEBUG", "hauyna::channel", "unsubscribed");
    assert!(unsubscribed.ends_with(&format!("id={id} channel=room:7")), "{unsubscribed}");
    let closed = log.line("DEBUG", "hauyna::connection", "closed");
    assert!(closed.ends_with(&format!("id={id} reason=\"client\"")), "{closed}");
    assert!(!log.lines().concat().contains("s3cr3t"));
}

#[tokio::test]
async fn refusals_and_faults_are_logged_without_client_data() {
    let (log, _guard) = Log::capture();
    let handler = user_handler().on_open(|cx: Context| async move {
        match cx.query("fail") {
            Some(_) => Err(hauyna::Error::other("the database\nis down")),
            None => Ok(()),
        }
    });
    let server = TestServer::route(Hub::new(), |router| {
        let refusing = Handler::new().identify(|_| Err::<String, _>(hauyna::Reject::unauthorized("no")));
        router.websocket("/", handler).websocket("/no", refusing)
    });
    server.client("/no?token=s3cr3t").try_connect().await.unwrap_err();
    let refused = log.line("DEBUG", "hauyna::server", "refused");
    assert!(refused.ends_with("route=\"/no\" status=401"), "{refused}");
    let mut broken = server.connect("/").await;
    broken.send_raw(b"\xff\xffs3cr3t").await;
    broken.expect_close().await;
    assert!(log.line("DEBUG", "hauyna::connection", "broke the protocol").contains(" id="));
    // Other tests in this process may have used up the lines of this second.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !log.lines().concat().contains("a request failed") && Instant::now() < deadline {
        server.connect("/?fail=1").await.expect_close().await;
    }
    let failed = log.line("DEBUG", "hauyna::connection", "refused by on_open");
    assert!(failed.contains("the database\\nis down"), "one line: {failed}");
    assert!(log.line("ERROR", "hauyna::connection", "a request failed").contains(" error="));
    assert!(!log.lines().concat().contains("s3cr3t"));
}

#[tokio::test]
async fn refused_subscription_that_no_function_decides_about_is_logged_with_its_remedy() {
    let (log, _guard) = Log::capture();
    let hub = Hub::builder().channels("secret", ChannelOptions::new().private()).build();
    let server = TestServer::start(hub, user_handler());
    let mut client = server.connect("/?user=ann").await;
    let mut refusals = Vec::new();
    for channel in ["secret", "chat:1"] {
        let request = json!({ "type": "subscribe_channel", "channel": channel });
        let refusal = client.request(request).await.unwrap_err();
        refusals.push((
            refusal["error_type"].clone(),
            refusal["message"].clone(),
            refusal["details"].clone(),
        ));
    }
    assert_eq!(refusals[0], refusals[1], "the client does not learn which channels are declared");
    let id = server.hub().connections().of_user("ann")[0].id();
    for (kind, named) in [
        ("an undeclared channel", "channel=chat:1 remedy=\"declare the channel"),
        ("a private channel without a rule", "channel=secret remedy=\"decide with `ChannelOptions::auth"),
    ] {
        let message = format!("a subscription to {kind} was refused");
        let line = log.line("DEBUG", "hauyna::channel", &message);
        assert!(line.contains(&format!("id={id} {named}")), "{line}");
        assert_eq!(log.lines().iter().filter(|line| line.contains(&message)).count(), 1);
    }
}

#[tokio::test]
async fn callbacks_log_within_a_span_of_connection_and_user() {
    let (log, _guard) = Log::capture();
    let handler = user_handler().on("work", async |_: Context, _: serde_json::Value| {
        tracing::info!(target: "hauyna::test", "at first");
        tokio::task::yield_now().await;
        tracing::info!(target: "hauyna::test", "after waiting");
        Ok(())
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.connect("/?user=ann").await;
    client.request(json!({ "type": "work" })).await.unwrap();
    let id = server.hub().connections().of_user("ann")[0].id();
    for message in ["at first", "after waiting"] {
        let span = format!("callback{{id={id} user=ann}}");
        assert!(log.lines().iter().any(|line| line.contains(&span) && line.ends_with(message)), "{message}");
    }
}

#[tokio::test]
async fn long_and_odd_names_are_cut_and_escaped() {
    let (log, _guard) = Log::capture();
    let server = TestServer::start(open_hub().build(), user_handler());
    let mut client = server.connect(&format!("/?user=%E2%80%AE{}", "u".repeat(200))).await;
    let channel = format!("\u{2028}{}", "c".repeat(200));
    client.request(json!({ "type": "subscribe_channel", "channel": channel })).await.unwrap();
    let opened = log.line("DEBUG", "hauyna::connection", "opened");
    assert!(opened.contains(&format!("user=\\u{{202e}}{}… ", "u".repeat(63))), "{opened}");
    let subscribed = log.line("DEBUG", "hauyna::channel", "subscribed");
    assert!(subscribed.ends_with(&format!("channel=\\u{{2028}}{}…", "c".repeat(63))), "{subscribed}");
}

#[tokio::test]
async fn flood_of_failing_requests_logs_few_lines() {
    let (log, _guard) = Log::capture();
    let handler = user_handler()
        .on("fail", async |_: Context, _: serde_json::Value| -> hauyna::Result {
            Err(hauyna::Error::other("no"))
        })
        .on_close(|_, _| async { Err(hauyna::Error::other("no")) });
    let server = TestServer::start(Hub::builder().channels("{*any}", ChannelOptions::new()).build(), handler);
    let mut client = server.client("/").timeout(Duration::from_secs(60)).connect().await;
    for _ in 0..2_000 {
        client.request(json!({ "type": "fail" })).await.unwrap_err();
    }
    for _ in 0..200 {
        server.connect("/").await.close(1000, "").await;
    }
    let loud = log.lines().iter().filter(|line| !line.trim_start().starts_with("DEBUG")).count();
    assert!(loud < 400, "{loud} lines");
}

/// Returns the source files of the library.
fn sources() -> Vec<(String, String)> {
    let mut left = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    files
}

/// Returns a macro call up to its closing parenthesis.
fn call(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ')' && depth == 0
    });
    &text[..end.expect("a closing parenthesis")]
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn address_limit_without_a_known_address_logs_a_line() {
    let (log, _guard) = Log::capture();
    let hub = Hub::builder().max_connections_per_address(1).build();
    let app = hauyna::Router::new(hub.clone()).websocket("/", user_handler()).into_axum::<()>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let _clients =
        [hauyna_test::Client::to(&url).connect().await, hauyna_test::Client::to(&url).connect().await];
    let line = log.line("WARN", "hauyna::server", "a client without an address is not limited by it");
    assert!(line.contains("connect info"), "{line}");
}

#[test]
fn every_log_line_of_the_library_is_in_the_guide() {
    let guide = include_str!("../../../../docs/operations.md");
    let mut seen = 0;
    for (path, text) in sources() {
        for level in ["debug", "info", "warn", "error"] {
            for (at, _) in text.match_indices(&format!("tracing::{level}!(")) {
                let mut literals = call(&text[at..]).split('"').skip(1).step_by(2);
                let (target, message) = (literals.next().unwrap(), literals.last().unwrap());
                for part in [target, message] {
                    assert!(guide.contains(&format!("`{part}`")), "{path}: {part}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn every_warning_and_error_log_is_rate_limited() {
    let mut seen = 0;
    for (path, text) in sources() {
        for (at, _) in text.match_indices("tracing::warn!").chain(text.match_indices("tracing::error!")) {
            seen += 1;
            let before = &text[at.saturating_sub(300)..at];
            assert!(
                path.ends_with("/log.rs") || before.contains("limited("),
                "{path}: {}",
                &text[at..at + 80]
            );
            assert!(text[at..].contains("target: \"hauyna::"), "{path}");
        }
    }
    assert!(seen > 5);
}
