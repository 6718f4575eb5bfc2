//! The target of the load: the URL, resolved once and refused if it leads to another machine without
//! permission, and the source addresses of the connections.

use anyhow::{Context, anyhow, bail};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// A resolved URL.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    path: String,
    /// Whether each connection uses another source address, because one address has too few ports.
    rotate: bool,
}

/// Whether the load may leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Loopback,
    Anywhere,
}

impl Target {
    /// Resolves `url`. `ports` is the number of local ports that the run needs.
    pub(super) fn resolve(url: &str, reach: Reach, ports: u32) -> anyhow::Result<Self> {
        let uri: http::Uri = url.parse().map_err(|error| anyhow!("{url:?} is not a URL: {error}"))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => bail!("{url}: TLS is not measured: use the ws:// address behind it"),
            _ => bail!("{url:?} is not a URL of the form ws://HOST:PORT/PATH"),
        }
        let authority = uri.authority().with_context(|| format!("{url}: the host is missing"))?;
        if authority.as_str().contains('@') {
            bail!("a URL with credentials is not accepted: remove them");
        }
        let host = authority.host().trim_matches(['[', ']']);
        // `Uri` accepts any digits as a port.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("") => 80,
            Some(_) => authority
                .port_u16()
                .with_context(|| format!("{url}: the port must be a number up to 65535"))?,
        };
        let addresses: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|error| anyhow!("{host}: cannot be resolved: {error}"))?
            .collect();
        let Some(&address) = addresses.iter().min_by_key(|address| address.is_ipv6()) else {
            bail!("{host}: has no address");
        };
        if reach == Reach::Loopback && !address.ip().to_canonical().is_loopback() {
            bail!("{host} is not this machine: pass --allow-remote, with the consent of its owner");
        }
        // Only Linux has all of 127.0.0.0/8 on loopback by default.
        let rotate = cfg!(target_os = "linux")
            && address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
            && ports > PORTS_OF_AN_ADDRESS;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", uri.path());
        Ok(Self { address, host: authority.as_str().to_owned(), path, rotate })
    }

    /// Returns the path and query for one connection.
    pub(super) fn path(&self, number: u32) -> String {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        if query.split('&').any(|pair| pair == "user_id" || pair.starts_with("user_id=")) {
            return self.path.clone();
        }
        let and = if query.is_empty() { "" } else { "&" };
        format!("{path}?{query}{and}user_id=bench-{number}")
    }

    /// Returns the source address for one connection, if it needs one.
    pub(super) fn source(&self, number: u32) -> Option<SocketAddr> {
        let host = u8::try_from(number % SOURCES).unwrap_or_default() + 1;
        self.rotate.then(|| SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)))
    }
}

/// Ports that one address supports, of the 28,232 that Linux hands out by default.
const PORTS_OF_AN_ADDRESS: u32 = 20_000;
const SOURCES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Target::resolve(url, Reach::Loopback, 1).unwrap_err().to_string()
    }

    #[test]
    fn urls_that_are_none_are_refused_in_a_line() {
        for url in
            ["", "127.0.0.1:8080", "http://127.0.0.1/", "ws://", "ws://127.0.0.1:99999/", "wss://127.0.0.1/"]
        {
            let text = refusal(url);
            assert!(!text.is_empty() && !text.contains('\n'), "{url}: {text}");
        }
        assert!(refusal("ws://me:secret@127.0.0.1/").contains("credentials"));
    }

    #[test]
    fn strangers_are_refused_unless_allowed() {
        assert!(refusal("ws://192.0.2.1/chat").contains("--allow-remote"));
        assert!(Target::resolve("ws://192.0.2.1/chat", Reach::Anywhere, 1).is_ok());
        for url in ["ws://127.0.0.1:1/", "ws://127.9.9.9/", "ws://[::1]:8080/chat"] {
            assert!(Target::resolve(url, Reach::Loopback, 1).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_user_is_added_where_none_is_given() {
        let path = |url: &str| Target::resolve(url, Reach::Loopback, 1).unwrap().path(7);
        assert_eq!(path("ws://127.0.0.1/chat"), "/chat?user_id=bench-7");
        assert_eq!(path("ws://127.0.0.1?a=b"), "/?a=b&user_id=bench-7");
        assert_eq!(path("ws://127.0.0.1/chat?user_id=me"), "/chat?user_id=me");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn many_connections_come_from_many_addresses() {
        let target = |conns| Target::resolve("ws://127.0.0.1/", Reach::Loopback, conns).unwrap();
        assert_eq!(target(100).source(1), None);
        let many = target(50_000);
        assert_eq!(many.source(0), Some("127.0.1.1:0".parse().unwrap()));
        assert_eq!(many.source(199), Some("127.0.1.100:0".parse().unwrap()));
    }
}
