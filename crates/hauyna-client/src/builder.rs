//! The options of a client, and its start.

use crate::client::{Client, State, TokenSource, boxed_error};
use crate::connector::{Connector, Endpoint, Network};
use crate::error::InvalidUrl;
use crate::random::Random;
use crate::run::{ClientTask, Target, WakeUps};
use crate::shared::{Channels, Shared};
use crate::stream::{Broadcaster, BufferBounds};
use hauyna_protocol::{Encoding, RetryTerms};
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The options of a client; made by [`Client::builder`].
#[must_use = "a client begins with `connect`"]
pub struct Builder {
    url: String,
    connector: Option<Arc<dyn Connector>>,
    network: Network,
    seed: Option<u64>,
    timeout: Duration,
    ttl: Option<Duration>,
    bounds: BufferBounds,
    options: Options,
}

/// The options that the task keeps.
pub(crate) struct Options {
    pub(crate) token: Option<TokenSource>,
    pub(crate) encoding: Encoding,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) deflate: Option<hauyna_websocket::Deflate>,
    pub(crate) max_message: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) retry: Option<RetryTerms>,
    pub(crate) max_requests: usize,
    pub(crate) max_outbox_bytes: usize,
    pub(crate) responders: BTreeMap<String, Responder>,
}

/// Answers requests of the server of one kind.
pub(crate) type Responder = Arc<dyn Fn(Box<RawValue>) -> ResponderFuture + Send + Sync>;
type ResponderFuture = Pin<Box<dyn Future<Output = Result<Box<RawValue>, String>> + Send>>;

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        let options = Options {
            token: None,
            encoding: Encoding::Json,
            headers: Vec::new(),
            deflate: None,
            max_message: 16 << 20,
            connect_timeout: Duration::from_secs(10),
            retry: None,
            max_requests: 1_000,
            max_outbox_bytes: 1 << 20,
            responders: BTreeMap::new(),
        };
        Self {
            url: url.to_owned(),
            connector: None,
            network: Network::default(),
            seed: None,
            timeout: Duration::from_secs(10),
            ttl: None,
            bounds: BufferBounds { items: 1_024, bytes: 8 << 20 },
            options,
        }
    }

    /// Sets the source of tokens, which is called before every attempt and before the credentials expire. The
    /// token is sent as a sub-protocol, which no access log records, so it must consist of the characters of
    /// an HTTP token, as a JWT does. An error is a failed attempt.
    ///
    /// # Panics
    ///
    /// If it is called twice.
    pub fn token<F, R, E>(mut self, source: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        assert!(self.options.token.is_none(), "`token` is called twice");
        self.options.token = Some(boxed_error(source));
        self
    }

    /// Answers the requests of the server of one kind. An error is sent to the server as a refusal.
    ///
    /// # Panics
    ///
    /// If this kind has a handler already.
    pub fn on_request<T, A, F, R, E>(mut self, event: &str, handler: F) -> Self
    where
        T: DeserializeOwned,
        A: Serialize,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
        E: fmt::Display,
    {
        let responder: Responder = Arc::new(move |data: Box<RawValue>| {
            let answer = serde_json::from_str(data.get()).map(&handler);
            Box::pin(async move {
                let answer =
                    answer.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())?;
                serde_json::value::to_raw_value(&answer).map_err(|error| error.to_string())
            })
        });
        let old = self.options.responders.insert(event.to_owned(), responder);
        assert!(old.is_none(), "`on_request` is called twice for `{event}`");
        self
    }

    /// Encodes messages as MessagePack instead of JSON.
    pub fn message_pack(mut self) -> Self {
        self.options.encoding = Encoding::MessagePack;
        self
    }

    /// Offers compression to the server (permessage-deflate).
    pub fn deflate(mut self) -> Self {
        self.options.deflate = Some(hauyna_websocket::Deflate::default());
        self
    }

    /// Adds a header to every handshake, such as `Origin` or `Cookie`.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.options.headers.push((name, value));
        self
    }

    /// Sets how long the answer to a request may take. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a request may wait to be sent. Default: as long as the server keeps a lost session, at
    /// least 30 s; before the first session 120 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Bounds the requests that are not answered, by number and bytes. Default: 1,000 and 1 MiB.
    pub fn outbox(mut self, requests: usize, bytes: usize) -> Self {
        (self.options.max_requests, self.options.max_outbox_bytes) = (requests, bytes);
        self
    }

    /// Bounds the items that wait for one slow reader of a stream, by number and bytes. Default: 1,024 and 8
    /// MiB.
    pub fn stream_buffer(mut self, items: usize, bytes: usize) -> Self {
        self.bounds = BufferBounds { items: items.max(1), bytes };
        self
    }

    /// Bounds a message of the server, in bytes. Default: 16 MiB. A larger one ends the connection. If it
    /// comes again on the next one, each channel reports a gap.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.options.max_message = bytes;
        self
    }

    /// Bounds the duration of one attempt, including the token. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets the retry policy, instead of that of the server. Default: the policy of the server, and until it
    /// is known 1 s, doubled up to 30 s, without a limit. The client waits a random part of each delay, from
    /// none to all of it; it ignores `jitter`. `max_attempts` counts the failed attempts since the last
    /// session.
    pub fn retry(mut self, terms: RetryTerms) -> Self {
        self.options.retry = Some(terms);
        self
    }

    /// Sets how byte streams are opened, instead of TCP and TLS.
    ///
    /// # Panics
    ///
    /// If it is called twice.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        assert!(self.connector.is_none(), "`connector` is called twice");
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Makes delays and the keys of publications repeatable, for simulations. Two clients of one user must
    /// not share a seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the TLS configuration, which `wss` requires.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.network.tls = Some(config);
        self
    }

    /// Starts the client. It connects by itself; [`Client::connected`] waits for that, but requests need not.
    /// In a runtime without a timer it ends at once, with [`Closed::TaskEnded`](crate::Closed::TaskEnded).
    ///
    /// # Errors
    ///
    /// The URL is invalid, or it is `wss` without `tls` or a [`connector`](Self::connector).
    ///
    /// # Panics
    ///
    /// If it is called outside a Tokio runtime.
    pub fn connect(self) -> Result<Client, InvalidUrl> {
        let endpoint = Endpoint::parse(&self.url)?;
        if endpoint.is_secure && self.connector.is_none() && !self.network.has_tls() {
            return Err(InvalidUrl::NoTls);
        }
        let mut random = Random::new(self.seed);
        let shared = Arc::new(Shared {
            broadcaster: Broadcaster::default(),
            channels: Channels::default(),
            wake_ups: WakeUps::default(),
            state: watch::Sender::new(State::Connecting),
            session: Mutex::new(None),
            last_failure: Mutex::new(None),
            retry_at: Mutex::new(None),
            timeout: self.timeout,
            ttl: self.ttl,
            window: Mutex::new(DEFAULT_TTL),
            bounds: self.bounds,
            key_prefix: random.number(),
            keys: AtomicU64::new(0),
            first_after_token: AtomicU64::new(0),
        });
        let connector = self.connector.unwrap_or_else(|| Arc::new(self.network));
        let (commands, incoming) = mpsc::channel(COMMAND_CAPACITY);
        let task =
            ClientTask::new(self.options, Target { endpoint, connector }, shared.clone(), incoming, random);
        tokio::spawn(task.run());
        Ok(Client::new(commands, shared))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).finish_non_exhaustive()
    }
}

/// How long a request waits for a connection before the first session: the time for which a server keeps a
/// session by default.
const DEFAULT_TTL: Duration = Duration::from_secs(120);
/// Number of commands that may wait for the task. Further callers wait.
const COMMAND_CAPACITY: usize = 256;
