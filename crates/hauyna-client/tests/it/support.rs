//! Helpers for several themes: servers, clients that reconnect quickly, and waiting for a state.

use hauyna::connection::RetryPolicy;
use hauyna::{ChannelOptions, Handler, Hub, HubBuilder};
use hauyna_client::{Builder, Client, Publication, State, Stream, StreamError};
use hauyna_test::TestServer;
use std::time::Duration;

pub(crate) fn named() -> Handler {
    Handler::new().identify(|request| Ok(request.query("user").unwrap_or_else(|| "anybody".to_owned())))
}

/// A hub whose channels keep a history, with a policy that reconnects quickly.
pub(crate) fn hub() -> HubBuilder {
    Hub::builder()
        .channels("room:{id}", ChannelOptions::new().history(1_000, Duration::from_secs(600)))
        .channels("live:{id}", ChannelOptions::new().no_history())
        .retry_policy(quick())
}

pub(crate) fn quick() -> RetryPolicy {
    let (base_delay, max_delay) = (Duration::from_millis(20), Duration::from_millis(200));
    RetryPolicy::default().base_delay(base_delay).max_delay(max_delay)
}

pub(crate) fn server() -> TestServer {
    TestServer::start(hub().build(), named())
}

pub(crate) fn client(url: &str) -> Client {
    builder(url).connect().unwrap()
}

pub(crate) fn builder(url: &str) -> Builder {
    let quick = hauyna_client::protocol::RetryTerms {
        max_attempts: None,
        base_delay: 20,
        max_delay: 200,
        backoff_multiplier: 2.0,
        jitter: 1.0,
    };
    Client::builder(url).retry(quick)
}

/// Waits for the next item, within a time limit for tests.
pub(crate) async fn next<T>(stream: &mut Stream<T>) -> Result<T, StreamError> {
    tokio::time::timeout(TIMEOUT, stream.next())
        .await
        .expect("an item in time")
        .expect("a stream that goes on")
}

/// Returns the content of the next publication.
pub(crate) async fn content<M>(stream: &mut Stream<Publication<M>>) -> M {
    next(stream).await.unwrap().content
}

/// Waits for a change to a matching state.
pub(crate) async fn reach(states: &mut Stream<State>, reached: impl Fn(&State) -> bool) -> State {
    loop {
        let state = next(states).await.unwrap();
        if reached(&state) {
            return state;
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);
