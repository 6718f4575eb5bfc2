//! The stand-alone server: listeners, the accept loop and its reaction when file descriptors run out, and
//! optionally one single-threaded runtime per core. `accept` serves each connection.

use super::accept::accepted;
#[cfg(feature = "tls")]
use super::accept::accepted_tls;
use super::{HANDSHAKE_TIMEOUT, RouterService};
use crate::clock::MAX_TIME;
use crate::contain::{self, Panicked};
use crate::error::{Error, Result};
use crate::shard::set_home;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};
use tokio::sync::Semaphore;

/// A server for the routes of a router, from [`Router::into_server`](super::Router::into_server).
#[derive(Debug, Clone)]
#[must_use]
pub struct Server {
    service: RouterService,
    handshake_timeout: Duration,
    handshakes: usize,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::TlsConfig>,
}

impl Server {
    pub(super) fn new(service: RouterService) -> Self {
        Self {
            service,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            handshakes: 16_384,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets how long a client may take from its TCP connection to its upgrade, including middleware and
    /// `identify`; also how long an HTTP connection may be idle between requests, or accept nothing of an
    /// answer. Default: 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        // hyper adds it to an instant, which must not overflow.
        self.handshake_timeout = timeout.min(MAX_TIME);
        self
    }

    /// Sets how many connections may be in the handshake, or use ordinary HTTP, at one time; further ones
    /// are closed. Default: 16,384.
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        // The maximum of tokio's semaphore.
        self.handshakes = handshakes.min(Semaphore::MAX_PERMITS);
        self
    }

    /// Listens on an address and serves until the hub is shut down.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime).
    pub async fn serve(self, address: impl ToSocketAddrs) -> Result {
        crate::clock::runtime()?;
        let listener = listen(first(address).await?, Sharing::First)?;
        tracing::info!(target: "hauyna::server", address = %listener.local_addr()?, "listening");
        self.serve_socket(listener, NoDelay::OffByListener).await
    }

    /// Serves a listening socket until the hub is shut down.
    ///
    /// # Errors
    ///
    /// The socket cannot be used with this runtime, or
    /// [`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime).
    pub async fn serve_listener(self, listener: StdListener) -> Result {
        crate::clock::runtime()?;
        listener.set_nonblocking(true)?;
        self.serve_socket(listener, NoDelay::On).await
    }

    async fn serve_socket(self, listener: StdListener, delay: NoDelay) -> Result {
        // tokio panics if the runtime has no I/O, and at the first connection if it has no timers.
        let listener = contain::call_uncounted(|| TcpListener::from_std(listener));
        let listener = listener.map_err(|Panicked| Error::no_runtime())??;
        crate::clock::timers()?;
        self.accept(listener, delay).await;
        Ok(())
    }

    /// Listens with one single-threaded runtime per worker, each with its own shard and socket, so that a
    /// connection stays on one core. Blocks until the hub is shut down. `ready` is called with the address
    /// once connections are accepted.
    ///
    /// The hub should have as many shards as there are workers.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or a thread cannot be started.
    pub fn serve_per_core(
        self,
        address: SocketAddr,
        workers: usize,
        ready: impl FnOnce(SocketAddr),
    ) -> Result {
        let first = listen(address, Sharing::First)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..workers {
            listeners.push(listen(address, Sharing::Further)?);
        }
        tracing::info!(target: "hauyna::server", %address, workers, "listening");
        ready(address);
        std::thread::scope(|scope| {
            let threads: Vec<_> = listeners
                .into_iter()
                .enumerate()
                .map(|(worker, listener)| {
                    let server = self.clone();
                    let builder = std::thread::Builder::new().name(format!("hauyna-{worker}"));
                    builder.spawn_scoped(scope, move || server.work(worker, listener)).map_err(Error::from)
                })
                .collect::<Result<_>>()?;
            for thread in threads {
                thread.join().map_err(|_| Error::config("a worker panicked"))??;
            }
            Ok(())
        })
    }

    fn work(self, worker: usize, listener: StdListener) -> Result {
        let hub = self.service.routes.hub.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .event_interval(EVENT_INTERVAL)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let shard = worker % hub.0.shards.len();
            set_home(shard);
            hub.0.start(shard);
            self.serve_socket(listener, NoDelay::OffByListener).await?;
            hub.0.until_empty().await;
            Ok(())
        })
    }

    async fn accept(self, listener: TcpListener, delay: NoDelay) {
        let slots = Arc::new(Semaphore::new(self.handshakes));
        let hub = self.service.routes.hub.clone();
        hub.0.background.remember_runtime();
        let mut stopped = std::pin::pin!(hub.0.lifecycle.until_stopped());
        let mut spare = File::open("/dev/null").ok();
        loop {
            let accepted_now = tokio::select! {
                biased;
                () = stopped.as_mut() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted_now {
                Ok((stream, peer)) => {
                    // It could not be opened again while no descriptors were free.
                    spare = spare.or_else(|| File::open("/dev/null").ok());
                    let Ok(slot) = slots.clone().try_acquire_owned() else {
                        hub.0.metrics.handshakes_refused.increment();
                        continue;
                    };
                    if delay == NoDelay::On || !cfg!(target_os = "linux") {
                        let _ = stream.set_nodelay(true); // an error means it is closed
                    }
                    let (service, timeout) = (self.service.clone(), self.handshake_timeout);
                    #[cfg(feature = "tls")]
                    if let Some(tls) = &self.tls {
                        let (service, acceptor) = (service, tls.acceptor());
                        tokio::spawn(async move {
                            accepted_tls(service, acceptor, stream, peer, timeout).await;
                            drop(slot);
                        });
                        continue;
                    }
                    tokio::spawn(async move {
                        accepted(service, stream, peer, timeout).await;
                        drop(slot);
                    });
                }
                Err(error) if is_client_fault(&error) => {}
                Err(error) => {
                    hub.0.metrics.accept_errors.increment();
                    crate::log::limited("accept", || {
                        tracing::warn!(target: "hauyna::server", %error, "cannot accept connections");
                    });
                    // No descriptors: a spare one is freed to accept and close the next connection, so that
                    // its client notices.
                    drop(spare.take());
                    if let Ok(Ok((refused, _))) =
                        tokio::time::timeout(Duration::from_millis(1), listener.accept()).await
                    {
                        drop(refused);
                    }
                    spare = File::open("/dev/null").ok();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn first(address: impl ToSocketAddrs) -> Result<SocketAddr> {
    let named = |error: io::Error| {
        let text = format!("cannot find the address to listen on, host:port as in 127.0.0.1:8080: {error}");
        io::Error::new(error.kind(), text)
    };
    let found = lookup_host(address).await.map_err(named)?.next();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address").into())
}

/// Whether a socket is the first of this server on its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    First,
    Further,
}

/// Whether a listener sets `TCP_NODELAY`, without which small messages wait for acknowledgements (Nagle).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoDelay {
    On,
    /// Linux passes the option of a listener on to its connections, which saves each of them a system call.
    OffByListener,
}

/// Opens a listening socket whose address several workers may share.
fn listen(address: SocketAddr, sharing: Sharing) -> Result<StdListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    if sharing == Sharing::First {
        // With `SO_REUSEPORT` a second server would silently share the port, so check first that it is free.
        socket(address)?.bind(&address.into()).map_err(named)?;
    }
    let socket = socket(address)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into()).map_err(named)?;
    // Before it listens: connections that arrive earlier do not inherit the option, and stay delayed.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG).map_err(named)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether the error is that of a connection which ended before it was accepted.
fn is_client_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Number of tasks that run between two checks of the sockets. Tokio's default of 61 means tens of
/// milliseconds with connections that flood and busy shards, during which all other connections wait.
const EVENT_INTERVAL: u32 = 8;
/// Connections that may wait for `accept`; in a reconnect storm all arrive at once.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_connects_before_it_is_served_is_not_delayed() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Sharing::First).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }

    #[tokio::test]
    async fn invalid_address_is_refused_with_the_form_of_a_valid_one() {
        for address in ["8080", "localhost", "127.0.0.1:99999"] {
            let error = first(address).await.unwrap_err();
            assert!(error.to_string().contains("host:port"), "{error}");
        }
    }
}
