//! Opens byte streams for a URL: TCP, TLS, or a replacement for tests and simulations.

use crate::error::InvalidUrl;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The parts of a URL that a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Whether the scheme is `wss`.
    pub is_secure: bool,
    /// The host, without brackets if it is an IPv6 address.
    pub host: String,
    /// The port; 80 or 443 if the URL has none.
    pub port: u16,
    /// Path and query of the URL.
    pub path: String,
    /// Host and port as the URL writes them, for the header `Host`.
    pub authority: String,
}

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// It has no host, its port is not a port number, or its scheme is neither `ws` nor `wss`.
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let uri: http::Uri = url.parse().map_err(|_| InvalidUrl::Malformed)?;
        let is_secure = match uri.scheme_str() {
            Some(scheme) if scheme.eq_ignore_ascii_case("ws") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(InvalidUrl::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidUrl::Malformed)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if host.is_empty() {
            return Err(InvalidUrl::Malformed);
        }
        // No hauyna server reads credentials from a URL.
        let host_and_port = authority.as_str().rsplit('@').next().unwrap_or_default();
        let port = match host_and_port.strip_prefix(authority.host()).ok_or(InvalidUrl::Malformed)? {
            "" | ":" => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            port => port.trim_start_matches(':').parse().map_err(|_| InvalidUrl::Malformed)?,
        };
        let authority = host_and_port.to_owned();
        Ok(Self { is_secure, host, port, path, authority })
    }
}

/// A stream of bytes in both directions.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The future of a [`Connector`].
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens byte streams. Tests, simulations and proxies implement it to replace the network.
///
/// Functions from an [`Endpoint`] to a future of a stream implement it.
///
/// ```
/// use hauyna_client::{Client, Endpoint};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), hauyna_client::InvalidUrl> {
/// let client = Client::builder("ws://nowhere.test/")
///     .connector(|_: Endpoint| async { Ok(tokio::io::duplex(64).0) }) // nobody will answer
///     .connect()?;
/// # drop(client);
/// # Ok(()) }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// Opens a stream. It is called once per attempt, and the client bounds its time.
    fn connect(&self, endpoint: Endpoint) -> Connecting;
}

impl<F, R, T> Connector for F
where
    F: Fn(Endpoint) -> R + Send + Sync + 'static,
    R: Future<Output = io::Result<T>> + Send + 'static,
    T: Transport + 'static,
{
    fn connect(&self, endpoint: Endpoint) -> Connecting {
        let opened = self(endpoint);
        Box::pin(async move { opened.await.map(|stream| Box::new(stream) as Box<dyn Transport>) })
    }
}

/// TCP, with TLS if the URL is `wss` and a configuration was given.
#[derive(Clone, Default)]
pub(crate) struct Network {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Connector for Network {
    fn connect(&self, endpoint: Endpoint) -> Connecting {
        let network = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            stream.set_nodelay(true)?;
            if endpoint.is_secure {
                network.secure(&endpoint, stream).await
            } else {
                Ok(Box::new(stream) as _)
            }
        })
    }
}

impl Network {
    /// Whether it can connect to a `wss` URL.
    #[cfg(feature = "tls")]
    pub(crate) const fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, reason = "it is used with the feature")]
    pub(crate) const fn has_tls(&self) -> bool {
        false
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, endpoint: &Endpoint, stream: TcpStream) -> io::Result<Box<dyn Transport>> {
        let Some(config) = self.tls.clone() else {
            return Err(unsupported("no TLS configuration was given"));
        };
        let name = rustls_pki_types::ServerName::try_from(endpoint.host.clone())
            .map_err(|_| unsupported("the host is no name that TLS knows"))?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
        Ok(Box::new(stream))
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async, reason = "it is with the feature")]
    async fn secure(&self, _: &Endpoint, _: TcpStream) -> io::Result<Box<dyn Transport>> {
        Err(unsupported("wss needs the feature `tls`, or a connector of one's own"))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

fn unsupported(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_parsed() {
        let endpoint = Endpoint::parse("wss://chat.example:8443/chat?user_id=alice").unwrap();
        assert!(endpoint.is_secure);
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("chat.example", 8443));
        assert_eq!(
            (endpoint.path.as_str(), endpoint.authority.as_str()),
            ("/chat?user_id=alice", "chat.example:8443")
        );
        let endpoint = Endpoint::parse("ws://[::1]").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.path.as_str()), ("::1", 80, "/"));
        let endpoint = Endpoint::parse("WSS://ann:secret@[::1]:8443/").unwrap();
        assert_eq!((endpoint.is_secure, endpoint.host.as_str(), endpoint.port), (true, "::1", 8443));
        assert_eq!(endpoint.authority, "[::1]:8443");
    }

    #[test]
    fn urls_of_other_schemes_and_malformed_ones_are_refused() {
        assert_eq!(Endpoint::parse("https://chat.example/"), Err(InvalidUrl::Scheme));
        assert_eq!(Endpoint::parse("/chat"), Err(InvalidUrl::Scheme));
        for malformed in ["ws://a b/", "ws://a:99999/", "ws://[::1]:70000/"] {
            assert_eq!(Endpoint::parse(malformed), Err(InvalidUrl::Malformed), "{malformed}");
        }
    }
}
