//! `wss`: the whole protocol over rustls, and a certificate that the client does not trust.

use crate::support::{builder, content, hub, named};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hauyna::Router;
use hauyna::server::TlsConfig;
use hauyna_client::State;
use hauyna_test::TestServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(client.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn wss_connects_only_to_trusted_servers() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cert.der().to_vec())).unwrap();
    let (chain, key) = (pem("CERTIFICATE", cert.der()), pem("PRIVATE KEY", &signing_key.serialize_der()));
    let hub = hub().build();
    let server = Router::new(hub.clone()).websocket("/", named()).into_server();
    let server = TestServer::serve(hub, server.tls(TlsConfig::from_pem(&chain, &key).unwrap()));
    let url = format!("wss://localhost:{}/", server.address().port());

    let client = builder(&url).tls(trusting(roots)).connect().unwrap();
    let room = client.channel::<String>("room:1");
    let mut messages = room.messages();
    room.subscribe().await.unwrap().keep();
    room.publish(&"hello".to_owned()).await.unwrap();
    assert_eq!(content(&mut messages).await, "hello");

    let stranger = builder(&url).tls(trusting(RootCertStore::empty())).connect().unwrap();
    let mut states = stranger.states();
    let refused = stranger.request::<()>("x", &()).ttl(std::time::Duration::from_millis(500)).await;
    assert!(refused.is_err());
    assert_eq!(stranger.state(), State::Connecting);
    drop(stranger);
    while let Some(state) = states.next().await {
        assert!(!matches!(state, Ok(State::Connected)));
    }
}
