//! A server for one test without sockets: each connection is a pipe in memory. Only the test's runtime is
//! involved, so with a paused clock every run is the same.

use crate::{Client, Connect};
use hauyna::server::RouterService;
use hauyna::{Handler, Hub, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

/// A hub that is served over pipes in memory, with the real handshake (through hyper and the router's tower
/// service) and real frames. It has the clients of a [`TestServer`](crate::TestServer), but no address:
/// callbacks see no peer address. Dropping it closes all connections.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use hauyna::{ChannelOptions, Handler, Hub, Presence};
/// use hauyna_test::{MemoryServer, advance};
/// use std::time::Duration;
///
/// let channels = ChannelOptions::new().presence(Presence::each());
/// let hub = Hub::builder().channels("room:{id}", channels).presence_grace(Duration::from_secs(30)).build();
/// let handler = Handler::new().identify(|request| Ok(request.query("user")));
/// let server = MemoryServer::start(hub, handler);
///
/// let mut ann = server.connect("/?user=ann").await;
/// ann.subscribe("room:7").await;
/// ann.expect("presence_state").await;
/// let mut bob = server.connect("/?user=bob").await;
/// bob.subscribe("room:7").await;
/// ann.expect_presence("join", "bob").await;
///
/// bob.vanish();
/// ann.expect_silence(Duration::from_secs(29)).await; // bob may still come back
/// ann.expect_presence("leave", "bob").await;
/// # }
/// ```
pub struct MemoryServer {
    hub: Hub,
    connector: MemoryConnector,
}

/// A connector that opens pipes to a server.
#[derive(Clone)]
pub(crate) struct MemoryConnector {
    service: RouterService,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl MemoryServer {
    /// Serves one handler at `/`.
    #[must_use]
    #[track_caller]
    pub fn start(hub: Hub, handler: Handler) -> Self {
        Self::route(hub, |router| router.websocket("/", handler))
    }

    /// Serves the routes that `routes` adds.
    #[must_use]
    #[track_caller]
    pub fn route(hub: Hub, routes: impl FnOnce(Router) -> Router) -> Self {
        let service = routes(Router::new(hub.clone())).into_service();
        Self { hub, connector: MemoryConnector { service, connections: Arc::default() } }
    }

    /// Returns the hub.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the options for a connection to a path; see [`Connect`]. `receive_buffer` sets the length of
    /// the pipe, by default 64 KiB. Bytes that wait in the pipe count as sent.
    pub fn client(&self, target: &str) -> Connect {
        Client::to(&format!("ws://memory{target}")).through(self.connector.clone())
    }

    /// Connects a plain client: JSON, no `session`.
    ///
    /// # Panics
    ///
    /// Panics as [`Connect::connect`] does.
    #[track_caller]
    pub fn connect(&self, target: &str) -> impl Future<Output = Client> + Send + use<> {
        self.client(target).connect()
    }

    /// Connects a client of `hauyna.v1.json`.
    ///
    /// # Panics
    ///
    /// Panics as [`Connect::connect`] does.
    #[track_caller]
    pub fn json(&self, target: &str) -> impl Future<Output = Client> + Send + use<> {
        self.client(target).json().connect()
    }

    /// Connects a client of `hauyna.v1.msgpack`.
    ///
    /// # Panics
    ///
    /// Panics as [`Connect::connect`] does.
    #[track_caller]
    pub fn message_pack(&self, target: &str) -> impl Future<Output = Client> + Send + use<> {
        self.client(target).message_pack().connect()
    }
}

impl MemoryConnector {
    pub(crate) fn open(&self, bytes: Option<usize>) -> DuplexStream {
        let (near, far) = tokio::io::duplex(bytes.unwrap_or(PIPE));
        let service = TowerToHyperService::new(self.service.clone());
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
        let mut connections = self.connections.lock();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            // The client sees how its connection ended.
            let _ = connection.with_upgrades().await;
        });
        near
    }
}

impl fmt::Debug for MemoryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryServer").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Drop for MemoryServer {
    fn drop(&mut self) {
        for connection in self.hub.connections().all() {
            connection.close(hauyna::CloseCode::GOING_AWAY, "the test is over");
        }
    }
}

/// Bytes of a pipe, in each direction.
const PIPE: usize = 64 * 1024;
