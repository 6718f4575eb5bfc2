//! One accepted TCP connection until its end or its upgrade: the TLS handshake, if the server has TLS, and
//! reading the head, under one deadline that slow bytes do not extend. Upgrades are answered here; every
//! other request goes to hyper with the bytes read so far. `serve` calls this.

use super::RouterService;
use super::admit::admit;
use crate::request::ConnectRequest;
use crate::transport::{Link, Rewound, with_scratch};
use bytes::Bytes;
use hauyna_websocket::handshake::{Head, HeadReader, Refusal, wants_websocket, write_head};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The byte stream of a new connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Converts the stream into the transport of an upgraded connection.
    fn link(self, early: Vec<u8>) -> Link;
}

impl Stream for TcpStream {
    fn link(self, early: Vec<u8>) -> Link {
        Link::tcp(self, early)
    }
}

#[cfg(feature = "tls")]
impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn link(self, early: Vec<u8>) -> Link {
        Link::other(Box::new(self), early)
    }
}

/// How far a new connection has come when its deadline no longer applies.
enum Outcome<S> {
    /// It was upgraded, or refused and closed.
    Done,
    /// It is an ordinary HTTP request, or one that has to pass layers.
    Http(S, Bytes),
}

/// Serves a new connection; `timeout` is for the head and the decision together.
pub(super) async fn accepted(service: RouterService, stream: TcpStream, peer: SocketAddr, timeout: Duration) {
    serve(service, stream, peer, Deadline::after(timeout)).await;
}

/// Serves a new connection with TLS, like [`accepted`]: `timeout` includes the TLS handshake.
#[cfg(feature = "tls")]
pub(super) async fn accepted_tls(
    service: RouterService,
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    timeout: Duration,
) {
    let deadline = Deadline::after(timeout);
    match tokio::time::timeout_at(deadline.at, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve(service, stream, peer, deadline).await,
        Ok(Err(error)) => log_lost_connection(&service, &error.to_string()),
        Err(_) => log_lost_connection(&service, "the TLS handshake took too long"),
    }
}

#[cfg(feature = "tls")]
fn log_lost_connection(service: &RouterService, why: &str) {
    service.routes.hub.0.metrics.handshakes_refused.increment();
    tracing::debug!(target: "hauyna::server", why = %why.escape_debug(), "no TLS");
}

/// When a handshake must be over, and the timeout for what follows.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self { at: crate::clock::after(timeout), timeout }
    }
}

async fn serve<S: Stream>(service: RouterService, stream: S, peer: SocketAddr, deadline: Deadline) {
    let Deadline { at, timeout } = deadline;
    let routes = service.routes.clone();
    match tokio::time::timeout_at(at, arrive(&service, stream, peer)).await {
        Ok(Ok(Outcome::Http(stream, read))) => {
            let service = service.for_peer(peer).with_timeout(timeout);
            // On the heap: few connections need it, and it would make the task of every connection larger.
            Box::pin(http(service, Rewound::new(read, stream, timeout), timeout)).await;
        }
        Ok(Ok(Outcome::Done)) => {}
        Ok(Err(error)) => tracing::debug!(target: "hauyna::server", %error, "lost before its upgrade"),
        Err(_) => {
            routes.hub.0.metrics.handshakes_refused.increment();
            tracing::debug!(target: "hauyna::server", "too slow for a handshake");
        }
    }
}

async fn arrive<S: Stream>(
    service: &RouterService,
    mut stream: S,
    peer: SocketAddr,
) -> io::Result<Outcome<S>> {
    let (routes, start) = (&service.routes, Instant::now());
    let head = match read_head(&mut stream).await? {
        Ok(head) => head,
        Err(refusal) => {
            routes.hub.0.metrics.handshakes_refused.increment();
            let mut answer = Vec::new();
            refusal.write_response(&mut answer);
            return refuse(stream, &answer).await;
        }
    };
    let Head { request, bytes, head_len, .. } = head;
    let (parts, ()) = request.into_parts();
    let endpoint = routes.find(parts.uri.path()).cloned();
    let Some(endpoint) = endpoint.filter(|_| wants_websocket(&parts) && !service.is_layered()) else {
        return Ok(Outcome::Http(stream, bytes.into()));
    };
    let request = ConnectRequest::new(parts, Some(peer), endpoint.clone());
    match admit(routes, &endpoint, request).await {
        Ok(admission) => {
            let mut answer = Vec::with_capacity(256);
            admission.upgrade.write_response(admission.protocol(), admission.extensions(), &mut answer);
            // Registered before the client can know; if the answer cannot be written, dropping it takes it
            // back.
            let connection = admission.register(routes);
            stream.write_all(&answer).await?;
            connection.start(stream.link(bytes[head_len..].to_vec()));
            routes.hub.0.metrics.handshakes.observe(start.elapsed());
            Ok(Outcome::Done)
        }
        Err(refused) => {
            let response = refused.response();
            let mut answer = Vec::with_capacity(512);
            write_head(&response, &mut answer);
            answer.extend_from_slice(response.body().as_bytes());
            refuse(stream, &answer).await
        }
    }
}

async fn read_head<S: Stream>(stream: &mut S) -> io::Result<Result<Head, Refusal>> {
    let mut reader = HeadReader::new();
    poll_fn(|cx| {
        loop {
            let done = with_scratch(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(reader.push(buffer.filled())))
            });
            match ready!(done) {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(head))) => return Poll::Ready(Ok(Ok(head))),
                Ok(Err(refusal)) => return Poll::Ready(Ok(Err(refusal))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    })
    .await
}

/// Sends a refusal and closes, without a reset that could discard the answer before the client has read it.
async fn refuse<S: Stream>(mut stream: S, answer: &[u8]) -> io::Result<Outcome<S>> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let drain = async {
        let mut remaining = MAX_DRAINED_BYTES;
        while remaining > 0 {
            let read = poll_fn(|cx| {
                with_scratch(|scratch| {
                    let mut buffer = ReadBuf::new(scratch);
                    ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
                    Poll::Ready(io::Result::Ok(buffer.filled().len()))
                })
            });
            match read.await {
                Ok(0) | Err(_) => return,
                Ok(read) => remaining = remaining.saturating_sub(read),
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    Ok(Outcome::Done)
}

/// Serves an ordinary HTTP/1.1 connection whose first head has been read already.
async fn http<S: Stream>(service: RouterService, io: Rewound<S>, timeout: Duration) {
    let hub = service.routes.hub.clone();
    let service = TowerToHyperService::new(service);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(16 * 1024)
        .max_headers(100)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = hub.0.lifecycle.until_stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = crate::clock::timeout(timeout, connection).await;
        }
    }
}

/// Maximum number of bytes read and dropped after a refusal.
const MAX_DRAINED_BYTES: usize = 256 * 1024;
