//! How a client connected: the time, its addresses and the requested path and query. The data is rarely read,
//! so it lies outside of the connection's core, in one allocation of the exact size. `router` and
//! `Connections::register` write it once. A plain struct needs 57 bytes more, 5 % of an idle connection
//! (`tests/idle_heap.rs`): too much beside the 1,200 bytes that a connection should take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The time (6 bytes, whose first bit says that the hub generated the client's name), the address of the
/// peer, the address that limits count by if it is a different one, and path and query.
pub(crate) struct ConnectInfo(Box<[u8]>);

impl ConnectInfo {
    /// Stores the time of the handshake and these values. `address` is the address that limits count the
    /// client by; without it, they count by the peer's address.
    pub(crate) fn new(peer: Option<SocketAddr>, address: Option<IpAddr>, target: &str) -> Self {
        let mut bytes = Vec::with_capacity(TIME_BYTES + 2 * (1 + 16) + 2 + target.len());
        bytes.extend_from_slice(&crate::clock::unix_ms().to_be_bytes()[8 - TIME_BYTES..]);
        write_part(&mut bytes, peer.map(|peer| peer.ip()));
        if let Some(peer) = peer {
            bytes.extend_from_slice(&peer.port().to_be_bytes());
        }
        write_part(&mut bytes, address.filter(|address| peer.is_none_or(|peer| peer.ip() != *address)));
        bytes.extend_from_slice(target.as_bytes());
        Self(bytes.into())
    }

    /// Notes that the hub generated the client's name.
    pub(crate) fn with_generated_name(mut self) -> Self {
        self.0[0] |= GENERATED_NAME;
        self
    }

    /// Whether the hub generated the client's name, so that no credentials prove it.
    pub(crate) fn has_generated_name(&self) -> bool {
        self.0[0] & GENERATED_NAME != 0
    }

    /// Returns the time of the handshake in milliseconds since the Unix epoch.
    pub(crate) fn at(&self) -> u64 {
        let mut moment = [0; 8];
        moment[8 - TIME_BYTES..].copy_from_slice(&self.0[..TIME_BYTES]);
        moment[8 - TIME_BYTES] &= !GENERATED_NAME;
        u64::from_be_bytes(moment)
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.parts().0
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        let (peer, address, _) = self.parts();
        address.or(peer.map(|peer| peer.ip()))
    }

    /// Returns the path of the request.
    pub(crate) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// Returns the size in bytes.
    pub(super) fn weight(&self) -> usize {
        self.0.len()
    }

    /// Returns path and query of the request.
    pub(crate) fn target(&self) -> &str {
        std::str::from_utf8(self.parts().2).unwrap_or_default()
    }

    fn parts(&self) -> (Option<SocketAddr>, Option<IpAddr>, &[u8]) {
        let mut rest = &self.0[TIME_BYTES..];
        let peer = read_part(&mut rest).map(|address| {
            let port = rest.split_first_chunk().map_or(0, |(port, after)| {
                rest = after;
                u16::from_be_bytes(*port)
            });
            SocketAddr::new(address, port)
        });
        let address = read_part(&mut rest);
        (peer, address, rest)
    }
}

fn write_part(bytes: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => bytes.push(0),
        Some(IpAddr::V4(address)) => {
            bytes.push(4);
            bytes.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            bytes.push(6);
            bytes.extend_from_slice(&address.octets());
        }
    }
}

fn read_part(rest: &mut &[u8]) -> Option<IpAddr> {
    let (kind, after) = rest.split_first()?;
    let (address, after) = match kind {
        4 => after.split_first_chunk().map(|(octets, after)| (Ipv4Addr::from(*octets).into(), after))?,
        6 => after.split_first_chunk().map(|(octets, after)| (Ipv6Addr::from(*octets).into(), after))?,
        _ => {
            *rest = after;
            return None;
        }
    };
    *rest = after;
    Some(address)
}

/// Bytes of the time: enough for 4,400 years, and one bit remains free.
const TIME_BYTES: usize = 6;
const GENERATED_NAME: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out() {
        let peers =
            [None, Some("127.0.0.1:80".parse().unwrap()), Some("[2001:db8::1]:65535".parse().unwrap())];
        let addresses = [None, Some("10.0.0.1".parse().unwrap()), Some("::1".parse().unwrap())];
        for (peer, address) in peers.iter().flat_map(|peer| addresses.map(|address| (*peer, address))) {
            for target in ["", "/", "/räume/7?q=\u{4}\u{6}"] {
                let before = crate::clock::unix_ms();
                let connect_info = ConnectInfo::new(peer, address, target);
                assert_eq!((connect_info.peer(), connect_info.target()), (peer, target));
                assert_eq!(connect_info.address(), address.or(peer.map(|peer| peer.ip())));
                assert!((before..=crate::clock::unix_ms()).contains(&connect_info.at()));
                assert!(!connect_info.has_generated_name());
                let connect_info = connect_info.with_generated_name();
                assert!(connect_info.has_generated_name() && connect_info.target() == target);
                assert!((before..=crate::clock::unix_ms()).contains(&connect_info.at()));
            }
        }
    }

    #[test]
    fn an_ordinary_one_takes_fourteen_bytes_and_the_target() {
        let peer: SocketAddr = "192.0.2.1:1234".parse().unwrap();
        assert_eq!(ConnectInfo::new(Some(peer), Some(peer.ip()), "/x").0.len(), 16);
    }
}
