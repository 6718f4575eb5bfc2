//! A client that has received the answer to its handshake is registered, on every transport; one that has not
//! leaves nothing behind.

use crate::sessions::{connect_user, connect_with_token, hub, lose};
use crate::support::{eventually, now, user_handler, wait_for_connections};
use hauyna::events::{SystemEvent, SystemKind};
use hauyna::server::{Body, RouterService};
use hauyna::{CloseCode, Hub, Router, json};
use hauyna_protocol::Encoding;
use hauyna_test::{Client, TestServer};
use http::{Request, Response, StatusCode};
use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_layer::layer_fn;
use tower_service::Service;

/// A layer that loses the answers of its service while the flag is set.
#[derive(Clone)]
struct Losing {
    inner: RouterService,
    is_losing: Arc<AtomicBool>,
}

impl Service<Request<Body>> for Losing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, is_losing) = (self.inner.call(request), self.is_losing.clone());
        Box::pin(async move {
            let mut answer = answer.await?;
            if is_losing.load(Ordering::SeqCst) {
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                answer.headers_mut().clear();
            }
            Ok(answer)
        })
    }
}

/// A layer that does something between the answer of its service and its arrival at the client.
#[derive(Clone)]
struct Acting {
    inner: RouterService,
    act: Arc<dyn Fn() + Send + Sync>,
}

impl Service<Request<Body>> for Acting {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, act) = (self.inner.call(request), self.act.clone());
        Box::pin(async move {
            let answer = answer.await;
            act();
            answer
        })
    }
}

fn losing(router: Router, is_losing: &Arc<AtomicBool>) -> Router {
    let is_losing = is_losing.clone();
    router.layer(layer_fn(move |inner| Losing { inner, is_losing: is_losing.clone() }))
}

/// Performs a handshake on its own thread. Returns whether the hub knows the user when the answer arrives.
fn is_found(hub: &Hub, address: SocketAddr, user: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET /?user={user} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    let is_connected = now(hub.user(user).is_connected());
    assert_eq!(&answer, b"HTTP/1.1 101");
    is_connected
}

async fn all_are_found(hub: &Hub, address: SocketAddr) {
    let hub = hub.clone();
    let clients = move || {
        let missed = (0..300).filter(|number| !is_found(&hub, address, &format!("user-{number}"))).count();
        assert_eq!(missed, 0, "clients that were not registered when they got the answer");
    };
    tokio::task::spawn_blocking(clients).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_is_registered_before_the_standalone_server_answers() {
    let hub = hub().build();
    let server = TestServer::start(hub.clone(), user_handler());
    all_are_found(&hub, server.address()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_is_registered_before_the_answer_through_a_layer() {
    let hub = hub().build();
    let server = TestServer::route(hub.clone(), |router| {
        losing(router.websocket("/", user_handler()), &Arc::default())
    });
    all_are_found(&hub, server.address()).await;
}

#[cfg(feature = "axum")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_is_registered_before_an_axum_application_answers() {
    let hub = hub().build();
    let app = Router::new(hub.clone()).websocket("/", user_handler()).into_axum();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    all_are_found(&hub, address).await;
}

#[tokio::test]
async fn messages_sent_during_the_handshake_follow_its_answer() {
    let hub = hub().build();
    let callback_hub = hub.clone();
    hub.events().on_system([SystemKind::Opened], move |_, event: SystemEvent| {
        if let SystemEvent::Opened { connection, .. } = event {
            connection.send(json!({ "type": "hello" })).unwrap();
        }
        let callback_hub = callback_hub.clone();
        async move {
            callback_hub.connections().broadcast(json!("all")).await?;
            Ok(())
        }
    });
    let server = TestServer::start(hub.clone(), user_handler());
    let mut plain = server.connect("/?user=ann").await;
    assert_eq!(plain.next().await["type"], "hello");
    assert_eq!(plain.next().await["message"], "all");
    let mut client = server.json("/?user=bob").await;
    assert_eq!(client.next().await["type"], "session");
    assert_eq!(client.next().await["type"], "hello");
    assert_eq!(client.next().await["message"], "all");
}

#[tokio::test]
async fn registration_is_undone_if_the_handshake_answer_is_lost() {
    let called = Arc::new(AtomicUsize::new(0));
    let (opened, closed) = (called.clone(), called.clone());
    let handler = user_handler()
        .on_open(move |_| {
            opened.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        })
        .on_close(move |_, _| {
            closed.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
    let hub = hub().max_connections_per_user(1).build();
    hub.groups().add("ann", "editors").await.unwrap();
    let is_losing = Arc::new(AtomicBool::new(false));
    let server = TestServer::route(hub.clone(), |router| losing(router.websocket("/", handler), &is_losing));
    let refused = |target: &str| {
        let client = server.client(target).json();
        async move { client.try_connect().await.unwrap_err().status }
    };
    let nobody = || (hub.connections().count(), hub.stats().subscriptions) == (0, 0);

    is_losing.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(refused("/?user=ann").await, StatusCode::BAD_GATEWAY);
        eventually("the registration is undone", nobody).await;
    }
    assert_eq!((called.load(Ordering::SeqCst), hub.stats().sessions), (0, 0));
    is_losing.store(false, Ordering::SeqCst);
    let (ann, session) = connect_user(&server, "ann").await;
    lose(&hub, ann).await;

    is_losing.store(true, Ordering::SeqCst);
    let token = session["resume"]["token"].as_str().unwrap();
    assert_eq!(refused(&format!("/?user=ann&resume={token}")).await, StatusCode::BAD_GATEWAY);
    eventually("the registration is undone", nobody).await;
    assert_eq!(hub.stats().sessions, 1, "the session still waits");
    is_losing.store(false, Ordering::SeqCst);
    let mut ann = connect_with_token(&server, "ann", &session, Encoding::Json).await;
    ann.send(json!({ "type": "resume" })).await;
    assert_eq!(ann.expect("session").await["resumed"], true);
    assert_eq!(called.load(Ordering::SeqCst), 1, "opened once, and not closed");
    assert_eq!(hub.stats().opened - hub.stats().closed, 1);
}

#[tokio::test]
async fn client_gone_before_the_handshake_answer_leaves_nothing() {
    let (entered, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (inside, released) = (entered.clone(), release.clone());
    let handler = hauyna::Handler::new().identify(move |_| {
        let (inside, released) = (inside.clone(), released.clone());
        async move {
            inside.notify_one();
            released.notified().await;
            Ok::<_, hauyna::Reject>("ann".to_owned())
        }
    });
    let hub = hub().max_connections_per_user(1).build();
    let server = TestServer::start(hub.clone(), handler);
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(stream.try_write(request).unwrap(), request.len());
    entered.notified().await;
    // Resets the connection, so that the answer cannot be written.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    release.notify_one();
    eventually("the connection has opened and closed", || {
        hub.stats().opened == hub.stats().closed && hub.stats().opened == 1
    })
    .await;
    assert_eq!(hub.connections().count(), 0);
    release.notify_one();
    let mut client = Client::to(&format!("ws://{}/", server.address())).json().connect().await;
    assert_eq!(client.expect("session").await["user"], "ann");
}

#[tokio::test]
async fn connection_closed_before_the_answer_emits_no_events() {
    let called = Arc::new(AtomicUsize::new(0));
    let (opened, closed) = (called.clone(), called.clone());
    let handler = user_handler()
        .on_open(move |_| {
            opened.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        })
        .on_close(move |_, _| {
            closed.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
    let hub = hub().build();
    let code = Arc::new(AtomicUsize::new(0));
    let (of, sent) = (hub.clone(), code.clone());
    let act: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        let code = CloseCode(u16::try_from(sent.load(Ordering::SeqCst)).unwrap());
        assert_eq!(now(of.user("ann").disconnect(code, "")), 1);
    });
    let acting = layer_fn(move |inner| Acting { inner, act: act.clone() });
    let server = TestServer::route(hub.clone(), |router| router.websocket("/", handler).layer(acting));
    for expected in [3503, 3011] {
        code.store(usize::from(expected), Ordering::SeqCst);
        let mut ann = server.client("/?user=ann").connect().await;
        assert_eq!(ann.expect_close().await.0, expected);
        ann.vanish();
        wait_for_connections(&hub, 0).await;
    }
    assert_eq!((hub.stats().opened, hub.stats().closed, hub.stats().sessions), (2, 2, 0));
    assert_eq!(called.load(Ordering::SeqCst), 0, "no callback ran");
}
