//! Failures of the helpers point to the test: the panic comes from the line that awaits, in this file.

use hauyna::{Handler, Hub, Reject, json};
use hauyna_test::{Client, MemoryServer, advance};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread::current;
use std::time::Duration;

/// Held while a test has the hook, which belongs to the process.
static HOOK: Mutex<()> = Mutex::new(());

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a panic says, and the file that it points to.
#[derive(Debug, Clone, Default)]
struct Seen {
    file: String,
    text: String,
}

/// Runs `f`, which panics on this thread, and returns what the hook saw.
fn panic_of(f: impl FnOnce()) -> Seen {
    let _held = HOOK.lock().unwrap();
    let (seen, thread) = (Arc::new(Mutex::new(Seen::default())), current().id());
    let (noted, earlier) = (seen.clone(), Arc::new(take_hook()));
    let others = earlier.clone();
    set_hook(Box::new(move |panic| match panic.location() {
        Some(location) if current().id() == thread => {
            let text = panic.payload().downcast_ref::<String>().cloned().unwrap_or_default();
            *noted.lock().unwrap() = Seen { file: location.file().to_owned(), text };
        }
        _ => others(panic),
    }));
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    set_hook(Box::new(move |panic| earlier(panic)));
    let seen = seen.lock().unwrap();
    seen.clone()
}

fn panic_of_wait(wait: Wait) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    panic_of(|| runtime.unwrap().block_on(wait))
}

async fn client() -> (MemoryServer, Client) {
    let server = MemoryServer::start(Hub::new(), Handler::new());
    let client = server.client("/").timeout(Duration::from_millis(50)).json().connect().await;
    (server, client)
}

/// Makes a wait of a block with a client that has not read its `session` yet.
macro_rules! waits {
    ($($client:ident => $block:expr),* $(,)?) => {
        vec![$((stringify!($block), Box::pin(async move {
            #[allow(unused_mut, reason = "`close` takes the client")]
            let (_server, mut $client) = client().await;
            let _ = $block;
        }) as Wait)),*]
    };
}

#[test]
fn failed_waits_point_to_the_line_that_awaits() {
    for (what, wait) in waits![
        client => client.expect("ack").await,
        client => client.expect_message("news").await,
        client => client.expect_in_order("news", 2).await,
        client => client.expect_presence("join", "ann").await,
        client => client.expect_nothing().await,
        client => client.expect_silence(Duration::from_secs(1)).await,
        client => client.wait_for("ack").await,
        client => client.answer(&json!(7)).await,
        client => client.next_text().await == client.next_text().await,
        client => client.expect_close().await,
        client => client.expect_end().await,
        client => client.subscribe("nowhere").await,
        client => client.recover("nowhere", &json!({})).await,
        client => client.unsubscribe("nowhere").await,
        client => client.publish("nowhere", json!(1)).await,
        client => client.send_deflated(json!({ "type": "ping" })).await,
    ] {
        let seen = panic_of_wait(wait);
        assert!(seen.file.ends_with("tests/it/failures.rs"), "{what}: {seen:?}");
        assert!(!seen.text.contains("in the call at"), "{what}: {seen:?}");
    }
}

#[test]
fn failed_connections_point_to_the_test() {
    let refusing = || Handler::new().identify(|_| Err::<String, _>(Reject::unauthorized("no")));
    let waits: [Wait; 3] = [
        Box::pin(async move { drop(MemoryServer::start(Hub::new(), refusing()).connect("/").await) }),
        Box::pin(async { drop(Client::connect("ws://127.0.0.1:1/").await) }),
        Box::pin(async { drop(Client::to("ws://127.0.0.1:1/").try_connect().await) }),
    ];
    for wait in waits {
        let seen = panic_of_wait(wait);
        assert!(seen.file.ends_with("tests/it/failures.rs"), "{seen:?}");
    }
    for seen in [
        panic_of(|| drop(Client::to("http://127.0.0.1/"))),
        panic_of(|| drop(Client::to("ws://127.0.0.1/").header("a b", ""))),
        panic_of(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                advance(Duration::from_secs(1)).await;
            });
        }),
    ] {
        assert!(seen.file.ends_with("tests/it/failures.rs"), "{seen:?}");
    }
}

#[test]
fn a_wait_inside_of_a_timeout_names_the_call() {
    let wait: Wait = Box::pin(async {
        let (_server, mut client) = client().await;
        let _ = tokio::time::timeout(Duration::from_secs(9), client.expect("ack")).await;
    });
    let seen = panic_of_wait(wait);
    assert!(seen.text.contains("in the call at") && seen.text.contains("tests/it/failures.rs:"), "{seen:?}");
}
