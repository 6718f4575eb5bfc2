//! Code in front of `identify`: middleware of the router and of a handler, and tower layers, on every
//! transport.

use crate::support::{open_hub, user_handler, wait_for_connections, wait_until_empty};
use hauyna::middleware::{Admitted, Next};
use hauyna::server::Body;
use hauyna::{ConnectRequest, Context, Handler, Hub, Identity, Reject, Router, Value, json};
use hauyna_test::TestServer;
use http::{Request, Response};
use parking_lot::Mutex;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

type Log = Arc<Mutex<Vec<String>>>;

/// Returns a middleware that notes its begin and its outcome.
fn noting_middleware(
    log: &Log,
    name: &'static str,
) -> impl Fn(ConnectRequest, Next) -> Pin<Box<dyn Future<Output = Result<Admitted, Reject>> + Send>> + use<> {
    let log = log.clone();
    move |request, next| {
        let log = log.clone();
        Box::pin(async move {
            log.lock().push(format!("{name} begins"));
            let result = next.run(request).await;
            log.lock().push(match &result {
                Ok(admitted) => format!("{name} sees {}", admitted.user()),
                Err(reject) => format!("{name} sees {reject}"),
            });
            result
        })
    }
}

#[tokio::test]
async fn middleware_runs_in_order_before_identify_and_sees_the_outcome() {
    let log = Log::default();
    let handler = Handler::new()
        .identify(|request| request.query("user").ok_or(Reject::unauthorized("who?")))
        .middleware(noting_middleware(&log, "third"));
    let server = TestServer::route(Hub::new(), |router| {
        let router = router.middleware(noting_middleware(&log, "first")).websocket("/", handler);
        router.middleware(noting_middleware(&log, "second"))
    });
    server.connect("/?user=ada").await;
    let seen = std::mem::take(&mut *log.lock());
    let order = ["first begins", "second begins", "third begins", "third sees ada", "second sees ada"];
    assert_eq!(seen[..5], order);
    assert_eq!(server.client("/").try_connect().await.unwrap_err().status.as_u16(), 401);
    assert_eq!(log.lock().last().unwrap(), "first sees who?");
    log.lock().clear();
    let bad = server.client("/?user=ada").header("origin", "https://evil.example").try_connect().await;
    assert_eq!(bad.unwrap_err().status.as_u16(), 403);
    assert!(log.lock().is_empty(), "only allowed upgrades reach middleware");
}

#[tokio::test]
async fn middleware_sees_that_a_limit_refused() {
    let log = Log::default();
    let hub = open_hub().max_connections_per_user(1).build();
    let server = TestServer::start(hub, user_handler().middleware(noting_middleware(&log, "it")));
    let _one = server.connect("/?user=ada").await;
    assert_eq!(server.client("/?user=ada").try_connect().await.unwrap_err().status.as_u16(), 429);
    assert!(log.lock().last().unwrap().starts_with("it sees connection limit reached for this user"));
}

#[tokio::test]
async fn middleware_of_one_route_does_not_affect_others() {
    let closed = user_handler().middleware(async |_: ConnectRequest, _: Next| -> Result<Admitted, Reject> {
        Err(Reject::denied("closed today").with_details(json!({ "until": "tomorrow" })))
    });
    let server = TestServer::route(Hub::new(), |router| {
        router.websocket("/closed", closed).websocket("/open", user_handler())
    });
    let refused = server.client("/closed").try_connect().await.unwrap_err();
    assert_eq!((refused.status.as_u16(), &refused.json()["details"]["until"]), (403, &json!("tomorrow")));
    server.connect("/open").await;
}

#[tokio::test]
async fn panicking_or_hanging_middleware_affects_only_its_client() {
    let handler = user_handler().middleware(async |request: ConnectRequest, next: Next| {
        match request.query("how").as_deref() {
            Some("before") => panic!("on purpose"),
            Some("never") => std::future::pending().await,
            _ => {}
        }
        let result = next.run(request.clone()).await;
        assert!(request.query("how").as_deref() != Some("after"), "on purpose");
        result
    });
    let hub = Hub::new();
    let server = Router::new(hub.clone()).websocket("/", handler).into_server();
    let server = TestServer::serve(hub.clone(), server.handshake_timeout(Duration::from_millis(300)));
    for how in ["before", "after"] {
        let refused = server.client(&format!("/?how={how}")).try_connect().await.unwrap_err();
        assert_eq!(refused.status.as_u16(), 500);
        assert!(!refused.body.contains("purpose"));
    }
    assert_eq!((hub.stats().panics, hub.stats().opened), (2, 0));
    let mut never = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let head = "GET /?how=never HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut never, head.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut never, &mut rest).await.unwrap();
    assert!(rest.is_empty(), "closed at the deadline");
    server.connect("/?user=x").await;
}

#[derive(Clone, Debug, PartialEq)]
struct Tenant(String);
#[derive(Clone)]
struct Plan(&'static str);

/// Returns a handler that reports which attached values callbacks see.
fn report_attached_values() -> Handler {
    Handler::new()
        .identify(|request: ConnectRequest| {
            let tenant = request.extensions().get::<Tenant>().map(|tenant| tenant.0.clone());
            Ok::<_, Reject>(Identity::new(tenant.unwrap_or("nobody".to_owned())).attach(Plan("free")))
        })
        .on("what", async |cx: Context, _: Value| {
            let tenant = cx.extension::<Tenant>().map(|tenant| tenant.0);
            let plan = cx.extension::<Plan>().map(|plan| plan.0);
            Ok(json!([tenant, plan]))
        })
        .on("change", async |cx: Context, _: Value| {
            let old = cx.connection().with_extensions(|all| all.insert(Tenant("changed".into())));
            let now = cx.extension::<Tenant>();
            let removed = cx.connection().with_extensions(|all| all.remove::<Tenant>());
            assert_eq!(now, removed);
            Ok(json!([old.map(|old| old.0), now.map(|now| now.0), cx.extension::<Tenant>().is_some()]))
        })
}

#[tokio::test]
async fn callbacks_see_values_attached_before_the_upgrade() {
    let handler = report_attached_values().middleware(async |mut request: ConnectRequest, next: Next| {
        let _older = request.clone();
        let tenant = Tenant(request.query("tenant").unwrap_or_default());
        request.extensions_mut().insert(tenant);
        next.run(request).await
    });
    let server = TestServer::start(Hub::new(), handler);
    let mut client = server.json("/?tenant=acme").await;
    assert_eq!(client.expect("session").await["user"], "acme");
    assert_eq!(client.request(json!({ "type": "what" })).await.unwrap(), json!(["acme", "free"]));
    let changed = client.request(json!({ "type": "change" })).await.unwrap();
    assert_eq!(changed, json!(["acme", "changed", false]));
}

/// A typical tower layer: attaches the tenant, refuses some requests and adds a header to the answer.
#[derive(Clone)]
struct Tenancy;

#[derive(Clone)]
struct TenancyService<S>(S);

impl<S> Layer<S> for Tenancy {
    type Service = TenancyService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        TenancyService(inner)
    }
}

impl<S, B> Service<Request<B>> for TenancyService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let tenant = request.headers().get("x-tenant").and_then(|value| value.to_str().ok());
        let tenant = tenant.unwrap_or("none").to_owned();
        if tenant == "broken" {
            return Box::pin(async { Err("the layer's own secret".into()) });
        }
        if tenant == "stuck" {
            return Box::pin(std::future::pending());
        }
        let peer = request.extensions().get::<SocketAddr>().is_some();
        request.extensions_mut().insert(Tenant(tenant));
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert("x-peer-known", peer.to_string().parse().unwrap());
            Ok(answer)
        })
    }
}

async fn through_a_layer(connect: impl Fn() -> hauyna_test::Connect) {
    let connect = |tenant: &str| connect().header("x-tenant", tenant);
    let first = json!({ "type": "subscribe_channel", "id": "first", "channel": "x" });
    let mut client = connect("acme").json().first(&first).connect().await;
    assert!(client.headers().contains_key("x-peer-known"));
    assert_eq!(client.expect("session").await["user"], "acme");
    client.answer(&json!("first")).await.unwrap();
    assert_eq!(client.request(json!({ "type": "what" })).await.unwrap(), json!(["acme", "free"]));
    let broken = connect("broken").try_connect().await.unwrap_err();
    assert_eq!(broken.status.as_u16(), 500);
    assert!(!broken.body.contains("secret"));
    for number in 0..50 {
        client.send(json!({ "type": "channel_message", "channel": "x", "content": number })).await;
        assert_eq!(client.expect("message").await["content"], number);
    }
    client.close(1000, "").await;
}

#[tokio::test]
async fn layer_works_in_the_standalone_server_within_the_deadline() {
    let hub = open_hub().build();
    let router = Router::new(hub.clone()).websocket("/", report_attached_values()).layer(Tenancy);
    let server = router.into_server().handshake_timeout(Duration::from_millis(500));
    let server = TestServer::serve(hub.clone(), server);
    through_a_layer(|| server.client("/")).await;
    let stuck = server.client("/").header("x-tenant", "stuck").try_connect().await.unwrap_err();
    assert_eq!(stuck.status.as_u16(), 503);
    let client = server.client("/").header("x-tenant", "acme").connect().await;
    assert_eq!(client.headers()["x-peer-known"], "true");
    client.vanish();
    wait_until_empty(&hub).await;
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn layers_work_in_an_axum_application() {
    let hub = open_hub().build();
    let router = Router::new(hub.clone()).websocket("/", report_attached_values()).layer(Tenancy);
    let own = Router::new(hub.clone()).websocket("/own", report_attached_values()).into_axum();
    let app: axum::Router =
        router.into_axum().merge(own.layer(axum::Extension(Tenant("of axum".to_owned()))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    });
    through_a_layer(|| hauyna_test::Client::to(&format!("ws://{address}/"))).await;
    let mut client = hauyna_test::Client::to(&format!("ws://{address}/own")).json().connect().await;
    assert_eq!(client.expect("session").await["user"], "of axum");
    assert_eq!(client.request(json!({ "type": "what" })).await.unwrap(), json!(["of axum", "free"]));
}

#[tokio::test]
async fn connection_behind_layers_is_plain_tcp_for_shards() {
    let hub = open_hub().build();
    let router = Router::new(hub.clone()).websocket("/", user_handler()).layer(Tenancy);
    let server = TestServer::serve(hub.clone(), router.into_server());
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = server.connect("/").await;
        client.subscribe("x").await;
        clients.push(client);
    }
    for number in 0..200 {
        hub.channel("x").broadcast(number).await.unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.expect_in_order("x", 200).await, (0..200).collect::<Vec<_>>());
    }
    drop(clients);
    wait_for_connections(&hub, 0).await;
}
