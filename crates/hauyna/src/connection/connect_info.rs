//! How a client connected: the time, its addresses and the requested path and query. `router` and
//! `Connections::register` write it once. It is rarely read, so it lies outside of the connection's core. It
//! is a plain struct: packed into bytes, it would save 57 of the 1,102 bytes of an idle connection with one
//! subscription (`tests/idle_heap.rs`, which allows 1,536), for three times the code.

use std::net::{IpAddr, SocketAddr};

pub(crate) struct ConnectInfo(Box<Fields>);

struct Fields {
    /// Time of the handshake in milliseconds since the Unix epoch.
    at: u64,
    peer: Option<SocketAddr>,
    /// Address that limits count by.
    address: Option<IpAddr>,
    has_generated_name: bool,
    /// Path and query of the request.
    target: Box<str>,
}

impl ConnectInfo {
    /// Stores the time of the handshake and these values. `address` is the address that limits count the
    /// client by; without it, they count by the peer's address.
    pub(crate) fn new(peer: Option<SocketAddr>, address: Option<IpAddr>, target: &str) -> Self {
        Self(Box::new(Fields {
            at: crate::clock::unix_ms(),
            peer,
            address: address.or(peer.map(|peer| peer.ip())),
            has_generated_name: false,
            target: target.into(),
        }))
    }

    /// Notes that the hub generated the client's name.
    pub(crate) fn with_generated_name(mut self) -> Self {
        self.0.has_generated_name = true;
        self
    }

    /// Whether the hub generated the client's name, so that no credentials prove it.
    pub(crate) fn has_generated_name(&self) -> bool {
        self.0.has_generated_name
    }

    /// Returns the time of the handshake in milliseconds since the Unix epoch.
    pub(crate) fn at(&self) -> u64 {
        self.0.at
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.0.address
    }

    /// Returns path and query of the request.
    pub(crate) fn target(&self) -> &str {
        &self.0.target
    }

    /// Returns the path of the request.
    pub(crate) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// Returns the size in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Fields>() + self.0.target.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_by_the_peer_unless_another_address_is_known() {
        let peer: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let proxied: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(ConnectInfo::new(Some(peer), None, "/").address(), Some(peer.ip()));
        assert_eq!(ConnectInfo::new(Some(peer), Some(proxied), "/").address(), Some(proxied));
        assert_eq!(ConnectInfo::new(None, Some(proxied), "/").address(), Some(proxied));
        assert_eq!(ConnectInfo::new(None, None, "/").address(), None);
    }

    #[test]
    fn the_path_ends_before_the_query() {
        let connect_info = ConnectInfo::new(None, None, "/räume/7?q=a?b");
        assert_eq!((connect_info.path(), connect_info.target()), ("/räume/7", "/räume/7?q=a?b"));
    }
}
