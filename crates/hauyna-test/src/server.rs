//! A server for one test: a hub on a free port of this machine, in the test's runtime.

use crate::located::Located;
use crate::{Client, Connect};
use hauyna::server::Server;
use hauyna::{Handler, Hub, Router};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A hub that is served on a free loopback port. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct TestServer {
    hub: Hub,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Serves one handler at `/`.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime, or if no port is free.
    #[must_use]
    #[track_caller]
    pub fn start(hub: Hub, handler: Handler) -> Self {
        Self::route(hub, |router| router.websocket("/", handler))
    }

    /// Serves the routes that `routes` adds.
    ///
    /// # Panics
    ///
    /// Panics as [`TestServer::start`] does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use hauyna::{Handler, Hub};
    /// use hauyna_test::TestServer;
    ///
    /// let server = TestServer::route(Hub::new(), |router| {
    ///     router.websocket("/chat", Handler::new()).websocket("/echo", Handler::echo())
    /// });
    /// let mut client = server.connect("/echo").await;
    /// client.send_text("hello").await;
    /// assert_eq!(client.next_text().await, "hello");
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn route(hub: Hub, routes: impl FnOnce(Router) -> Router) -> Self {
        let server = routes(Router::new(hub.clone())).into_server();
        Self::serve(hub, server)
    }

    /// Runs a server that was built elsewhere. `hub` must be the hub of its router.
    ///
    /// # Panics
    ///
    /// Panics as [`TestServer::start`] does.
    #[must_use]
    #[track_caller]
    pub fn serve(hub: Hub, server: Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let task =
            tokio::spawn(async move { server.serve_listener(listener).await.expect("a working listener") });
        Self { hub, address, task }
    }

    /// Returns the hub.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a path with its query.
    #[must_use]
    pub fn url(&self, target: &str) -> String {
        format!("ws://{}{target}", self.address)
    }

    /// Returns the options for a connection to a path; see [`Connect`].
    pub fn client(&self, target: &str) -> Connect {
        Client::to(&self.url(target))
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

    /// Shuts the hub down and waits until the listener has closed.
    ///
    /// # Panics
    ///
    /// Panics if serving failed.
    #[track_caller]
    pub fn stop(mut self) -> impl Future<Output = ()> + Send {
        Located::new(async move {
            let shut_down = self.hub.shutdown(Duration::from_secs(5)).await;
            shut_down.map_err(|error| format!("the hub cannot be shut down: {error}"))?;
            (&mut self.task).await.map_err(|error| format!("the server did not end as it should: {error}"))
        })
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
        for connection in self.hub.connections().all() {
            connection.close(hauyna::CloseCode::GOING_AWAY, "the test is over");
        }
    }
}
