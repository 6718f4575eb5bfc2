//! TLS for the stand-alone server, by rustls: certificates and keys, and their replacement while the server
//! runs. The handshake itself is in `accept`, within the deadline of every handshake.

use super::Server;
use crate::error::Error;
use crate::once::call_once;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Certificates and keys for [`Server::tls`]. A handle that is cheap to clone:
/// [replacing](TlsConfig::replace) the certificates of one handle replaces them in all clones.
///
/// # Examples
///
/// ```no_run
/// use hauyna::{Handler, Hub, Router};
/// use hauyna::server::TlsConfig;
/// # async fn run() -> hauyna::Result {
/// let tls = TlsConfig::from_files("chat.example.crt", "chat.example.key")?;
/// let router = Router::new(Hub::new()).websocket("/chat", Handler::new());
/// router.into_server().tls(tls).serve("0.0.0.0:443").await // wss://chat.example/chat
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConfig(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsConfig {
    /// Creates a configuration from a chain of certificates, the server's own first, and its key, both in
    /// PEM. TLS 1.2 and 1.3.
    ///
    /// # Errors
    ///
    /// There is no certificate or no key, or they do not belong together.
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, Error> {
        let bad = |what: String| Error::config(format!("TLS: {what}"));
        let chain = CertificateDer::pem_slice_iter(certificates.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(format!("certificates: {error}")))?;
        if chain.is_empty() {
            return Err(bad("there is no certificate".to_owned()));
        }
        let key =
            PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|error| bad(format!("key: {error}")))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| bad(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self::from_rustls(config))
    }

    /// Creates a configuration from files, like [`TlsConfig::from_pem`].
    ///
    /// # Errors
    ///
    /// A file cannot be read; and the errors of [`TlsConfig::from_pem`].
    pub fn from_files(certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| Error::config(format!("{}: {error}", path.display())))
        };
        Self::from_pem(read(certificates.as_ref())?, read(key.as_ref())?)
    }

    /// Creates a configuration from one of rustls, for client certificates or several names. Of the protocols
    /// (ALPN) only `http/1.1` is supported.
    pub fn from_rustls(config: impl Into<Arc<ServerConfig>>) -> Self {
        Self(Arc::new(RwLock::new(config.into())))
    }

    /// Uses the certificates and key of `other` for all later handshakes, such as renewed ones. Open
    /// connections are not affected.
    pub fn replace(&self, other: &Self) {
        let new = other.0.read().clone();
        *self.0.write() = new;
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.read().clone())
    }
}

impl Server {
    /// Serves TLS only: `https://` and `wss://`. The TLS handshake counts towards the
    /// [handshake's deadline](Server::handshake_timeout).
    ///
    /// # Panics
    ///
    /// If it is called twice: certificates for several names are in one [`TlsConfig::from_rustls`].
    #[track_caller]
    pub fn tls(mut self, config: TlsConfig) -> Self {
        call_once(&mut self.tls, config, "tls");
        self
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}
