//! One accepted TCP connection up to its end or its upgrade: TLS is begun, where it is wanted, and the head is
//! read, under a single deadline that no trickle extends; upgrades are answered here, every other request goes to hyper with what was read.

use super::admit::admit;
use super::{ConnectRequest, RouterService};
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

/// A fresh connection's bytes.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection as it is used from then on.
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

/// How far a fresh connection has come when its deadline no longer counts.
enum Outcome<S> {
    /// It was upgraded, or refused and closed.
    Done,
    /// An ordinary HTTP request, or one that has to pass layers.
    Http(S, Bytes),
}

/// Serves a fresh connection; `patience` is for the head and the decision together.
pub(super) async fn accepted(
    service: RouterService,
    (stream, peer): (TcpStream, SocketAddr),
    timeout: Duration,
) {
    serve(service, (stream, peer), Deadline::after(timeout)).await;
}

/// As [`accepted`], with TLS: `patience` is for its handshake, too.
#[cfg(feature = "tls")]
pub(super) async fn accepted_tls(
    (service, acceptor): (RouterService, tokio_rustls::TlsAcceptor),
    (stream, peer): (TcpStream, SocketAddr),
    patience: Duration,
) {
    let deadline = Deadline::after(patience);
    match tokio::time::timeout_at(deadline.at, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve(service, (stream, peer), deadline).await,
        Ok(Err(error)) => log_lost_connection(&service, &error.to_string()),
        Err(_) => log_lost_connection(&service, "too slow for the handshake of TLS"),
    }
}

#[cfg(feature = "tls")]
fn log_lost_connection(service: &RouterService, why: &str) {
    service.routes.hub.0.metrics.handshakes_refused.increment();
    tracing::debug!(target: "hauyna::server", why = %why.escape_debug(), "no TLS");
}

/// Until when a handshake must be over, and how long other things may take.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    patience: Duration,
}

impl Deadline {
    fn after(patience: Duration) -> Self {
        Self { at: crate::clock::after(patience), patience }
    }
}

async fn serve<S: Stream>(service: RouterService, (stream, peer): (S, SocketAddr), deadline: Deadline) {
    let Deadline { at, patience } = deadline;
    let routes = service.routes.clone();
    match tokio::time::timeout_at(at, arrive(&service, stream, peer)).await {
        Ok(Ok(Outcome::Http(stream, read))) => {
            let service = service.for_peer(peer).with_timeout(patience);
            // On the heap: almost nobody needs it, and everybody's task would be the larger for it.
            Box::pin(http(service, Rewound::new(read, stream, patience), patience)).await;
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
    let (routes, began) = (&service.routes, Instant::now());
    let head = match read_head(&mut stream).await? {
        Ok(head) => head,
        Err(refusal) => {
            routes.hub.0.metrics.handshakes_refused.increment();
            let mut answer = Vec::new();
            refusal.write_response(&mut answer);
            return refuse(stream, &answer).await;
        }
    };
    let Head { request, bytes, head_len } = head;
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
            // Before its client can know: where the answer cannot be written, this takes it back.
            let connection = admission.register(routes);
            stream.write_all(&answer).await?;
            connection.start(stream.link(bytes[head_len..].to_vec()));
            routes.hub.0.metrics.handshakes.observe(began.elapsed());
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

/// Sends a refusal and closes, without resetting the connection under an answer that is not read yet.
async fn refuse<S: Stream>(mut stream: S, answer: &[u8]) -> io::Result<Outcome<S>> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let drain = async {
        let mut left = MAX_DRAINED_BYTES;
        while left > 0 {
            let read = poll_fn(|cx| {
                with_scratch(|scratch| {
                    let mut buffer = ReadBuf::new(scratch);
                    ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
                    Poll::Ready(io::Result::Ok(buffer.filled().len()))
                })
            });
            match read.await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    Ok(Outcome::Done)
}

/// An ordinary HTTP/1.1 connection, the head of its first request read already.
async fn http<S: Stream>(service: RouterService, io: Rewound<S>, patience: Duration) {
    let hub = service.routes.hub.clone();
    let service = TowerToHyperService::new(service);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(16 * 1024)
        .max_headers(100)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = hub.0.lifecycle.until_stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = crate::clock::timeout(patience, connection).await;
        }
    }
}

/// Bytes that are read and dropped after a refusal.
const MAX_DRAINED_BYTES: usize = 256 * 1024;
