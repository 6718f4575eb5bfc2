//! TLS in the standalone server: the whole protocol, the deadline of the handshake, and certificates.

use crate::client_events::{expect_one_of_each_kind, many_kinds, one_of_each_kind, subscribe_to_many};
use crate::support::{open_hub, serve, subscriber, user_handler, wait_until_empty};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hauyna::channel::ClientEvents;
use hauyna::server::{Server, TlsConfig};
use hauyna::{ChannelOptions, Heartbeat, Hub, Router, SlowConsumer, json};
use hauyna_test::{Client, Frame, TestServer};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A self-signed certificate for `localhost`, and a client configuration that trusts it.
struct Certificate {
    chain: String,
    key: String,
    connector: TlsConnector,
}

fn certificate() -> Certificate {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cert.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    Certificate {
        chain: pem("CERTIFICATE", cert.der()),
        key: pem("PRIVATE KEY", &signing_key.serialize_der()),
        connector: TlsConnector::from(Arc::new(client)),
    }
}

impl Certificate {
    fn config(&self) -> TlsConfig {
        TlsConfig::from_pem(&self.chain, &self.key).unwrap()
    }

    async fn dial(&self, server: &TestServer) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(server.address()).await?;
        self.connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    async fn connect(&self, server: &TestServer, target: &str) -> Client {
        Self::open(self.dial(server).await.unwrap(), target).await
    }

    /// Connects a client with a small receive buffer.
    async fn connect_slowly(&self, server: &TestServer, target: &str) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(server.address()).await.unwrap();
        let stream = self.connector.connect(ServerName::try_from("localhost").unwrap(), stream).await;
        Self::open(stream.unwrap(), target).await
    }

    async fn open(stream: TlsStream<TcpStream>, target: &str) -> Client {
        Client::to(&format!("ws://localhost{target}")).json().over(stream).await.unwrap()
    }
}

fn server(hub: &Hub) -> Server {
    Router::new(hub.clone()).websocket("/", user_handler()).into_server()
}

#[tokio::test]
async fn wss_serves_the_whole_protocol_beside_plain_tcp() {
    let certificate = certificate();
    let hub = open_hub().build();
    let plain = serve(&hub);
    let secure = TestServer::serve(hub.clone(), server(&hub).tls(certificate.config()));
    let mut tcp = subscriber(&plain, "tcp", "x").await;
    let mut tls = certificate.connect(&secure, "/?user=tls").await;
    assert_eq!(tls.expect("session").await["user"], "tls");
    let mut position = tls.subscribe("x").await;
    for number in 0..50 {
        tls.request(json!({ "type": "channel_message", "channel": "x", "content": number })).await.unwrap();
        assert_eq!(tcp.expect("message").await["content"], number);
        let own = tls.expect("message").await;
        assert_eq!(own["content"], number);
        position["offset"] = own["offset"].clone();
    }
    tls.request(json!({ "type": "unsubscribe_channel", "channel": "x" })).await.unwrap();
    let big = "x".repeat(30_000);
    for _ in 0..5 {
        hub.channel("x").broadcast(&big).await.unwrap();
    }
    assert_eq!(tls.recover("x", &position).await["recovered"], true);
    assert_eq!(tls.expect_in_order("x", 5).await, vec![big; 5]);
    tls.ping(b"p").await;
    assert_eq!(tls.next_frame().await, Frame::Pong(b"p".to_vec()));
    tls.close(1000, "").await;
    tcp.close(1000, "").await;
    wait_until_empty(&hub).await;
}

#[tokio::test]
async fn reading_client_over_tls_gets_all_events_of_a_burst() {
    let (certificate, hub) = (certificate(), many_kinds());
    let plain = serve(&hub);
    let secure = TestServer::serve(hub.clone(), server(&hub).tls(certificate.config()));
    let mut ann = plain.json("/?user=ann").await;
    let mut bob = certificate.connect(&secure, "/?user=bob").await;
    for client in [&mut ann, &mut bob] {
        client.expect("session").await;
        subscribe_to_many(client).await;
    }
    ann.send_raw(&one_of_each_kind()).await;
    expect_one_of_each_kind(&hub, &mut bob).await;
}

#[tokio::test]
async fn lagging_tls_consumer_gets_the_latest_event_of_each_sender() {
    let certificate = certificate();
    for policy in [SlowConsumer::Disconnect, SlowConsumer::DropOldest] {
        let events = ClientEvents::new().event("cursor", 1000);
        let channels = ChannelOptions::new().slow_consumer(policy).client_events(events);
        let hub = Hub::builder().channels("room:{id}", channels).outbox(256 * 1024, 64).build();
        let handler = user_handler().write_timeout(Duration::from_secs(60));
        let secure = Router::new(hub.clone()).websocket("/", handler).into_server().tls(certificate.config());
        let (plain, secure) = (serve(&hub), TestServer::serve(hub.clone(), secure));
        let mut slow = certificate.connect_slowly(&secure, "/?user=slow").await;
        slow.expect("session").await;
        slow.subscribe("room:7").await;
        let mut good = certificate.connect(&secure, "/?user=good").await;
        good.expect("session").await;
        good.subscribe("room:7").await;
        let mut senders =
            [subscriber(&plain, "ann", "room:7").await, subscriber(&plain, "eve", "room:7").await];
        let (mut last, padding) = (0, "x".repeat(16 * 1024));
        while hub.stats().client_events_dropped < 50 {
            last += 1;
            assert!(last < 1000, "no slow consumer");
            for sender in &mut senders {
                let data = json!({ "x": last, "padding": padding });
                sender.send(json!({ "type": "client_event", "channel": "room:7", "event": "cursor", "data": data })).await;
                assert_eq!(good.expect("client_event").await["data"]["x"], last);
            }
        }
        let waiting = hub.connections().of_user("slow")[0].backlog();
        assert!(waiting < 128 * 1024, "{policy:?}: {waiting} bytes wait");
        // Publications have the whole outbox beside them.
        for number in 1..=40 {
            hub.channel("room:7").broadcast(json!({ "n": number })).await.unwrap();
            assert_eq!(good.expect("message").await["content"]["n"], number);
        }
        let (mut seen, mut published) = ([0, 0], 0);
        while seen != [last, last] || published < 40 {
            let message = slow.next().await;
            match message["type"].as_str().unwrap() {
                "client_event" => {
                    let of_user = &mut seen[usize::from(message["user"] == "eve")];
                    let x = message["data"]["x"].as_u64().unwrap();
                    assert!(x > *of_user, "{policy:?}: {x} after {of_user}");
                    *of_user = x;
                }
                "message" => {
                    published += 1;
                    assert_eq!(message["content"]["n"], published);
                }
                other => panic!("{policy:?}: {other}"),
            }
        }
        let stats = hub.stats();
        assert_eq!((stats.dropped, stats.slow_consumers, stats.connections), (0, 0, 4), "{policy:?}");
    }
}

#[tokio::test]
async fn plain_requests_are_answered_only_over_tls() {
    let certificate = certificate();
    let hub = Hub::new();
    let server = TestServer::serve(hub.clone(), server(&hub).tls(certificate.config()));
    for (path, status) in [("/", "426"), ("/nowhere", "404")] {
        let mut stream = certificate.dial(&server).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    let mut plain = TcpStream::connect(server.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn tls_handshake_is_within_the_deadline_and_delays_nobody() {
    let certificate = certificate();
    let hub = Hub::new();
    let server = server(&hub).tls(certificate.config()).handshake_timeout(Duration::from_millis(600));
    let server = TestServer::serve(hub.clone(), server);
    let began = Instant::now();
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut secure = certificate.dial(&server).await.unwrap();
    certificate.connect(&server, "/?user=x").await.close(1000, "").await;
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    let _ = secure.read_to_end(&mut rest).await;
    let took = began.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&took), "{took:?}");
    crate::support::eventually("both refused handshakes are counted", || hub.stats().handshakes_refused == 2)
        .await;
}

#[tokio::test]
async fn heartbeats_and_layers_work_over_tls() {
    let certificate = certificate();
    let hub = Hub::new();
    let heartbeat = Heartbeat::every(Duration::from_millis(80)).timeout(Duration::from_millis(80));
    let router = Router::new(hub.clone()).websocket("/", user_handler().heartbeat(heartbeat));
    let router = router.layer(tower_layer::Identity::new());
    let server = TestServer::serve(hub.clone(), router.into_server().tls(certificate.config()));
    let stream = certificate.dial(&server).await.unwrap();
    let mut mute = Client::to("ws://localhost/").without_pongs().over(stream).await.unwrap();
    assert!(matches!(mute.next_frame().await, Frame::Ping(_)));
    mute.expect_end().await;
    assert_eq!(hub.stats().heartbeat_timeouts, 1);
}

#[tokio::test]
async fn renewed_certificates_apply_from_the_next_handshake() {
    let (old, new) = (certificate(), certificate());
    let hub = Hub::new();
    let config = old.config();
    let server = TestServer::serve(hub.clone(), server(&hub).tls(config.clone()));
    let mut client = old.connect(&server, "/?user=a").await;
    client.expect("session").await;
    assert!(new.dial(&server).await.is_err());
    config.replace(&new.config());
    assert!(old.dial(&server).await.is_err());
    new.connect(&server, "/?user=b").await.close(1000, "").await;
    client.request(json!({ "type": "ping" })).await.unwrap();
}

#[test]
fn mismatched_certificates_and_keys_are_refused_when_read() {
    let (one, other) = (certificate(), certificate());
    for (chain, key) in [("", one.key.as_str()), (&one.chain, ""), (&one.chain, &other.key), ("x", "y")] {
        assert_eq!(TlsConfig::from_pem(chain, key).unwrap_err().kind(), hauyna::error::ErrorKind::Config);
    }
    assert!(TlsConfig::from_files("/nowhere", "/nowhere").is_err());
}
