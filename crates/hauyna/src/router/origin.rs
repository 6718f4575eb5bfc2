//! Which web pages may connect. A browser sends the page's `Origin`; a program that is no browser sends
//! none and is not asked. This is what keeps a foreign page from using a visitor's cookies.

use http::{HeaderMap, HeaderName, header};

/// The pages that may connect to a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages that were loaded from the same host and port. The default.
    #[default]
    SameOrigin,
    /// Pages of the same origin, and those of a list.
    Listed(Vec<Listed>),
    /// Every page. Only where authentication is neither by cookie nor by the network.
    Any,
}

/// One allowed origin: scheme, host and port; the host may stand for all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    origin: Origin,
    hosts: Hosts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hosts {
    This,
    Below,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origins {
    /// A list such as `["https://example.com", "https://*.example.org:8443"]`; `*.` stands for any number of
    /// labels, at least one.
    ///
    /// # Panics
    ///
    /// Where an entry is no origin.
    pub fn listed<'a>(origins: impl IntoIterator<Item = &'a str>) -> Self {
        let entry = |text: &str| {
            let (plain, hosts) = match text.split_once("://*.") {
                Some((scheme, rest)) => (format!("{scheme}://{rest}"), Hosts::Below),
                None => (text.to_owned(), Hosts::This),
            };
            match Origin::parse(&plain) {
                Some(origin) => Listed { origin, hosts },
                None => panic!("`{text}` is no origin such as https://example.com"),
            }
        };
        Self::Listed(origins.into_iter().map(entry).collect())
    }

    /// Whether a request with these headers may become a connection.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let origin = match single(headers, &header::ORIGIN) {
            Single::None => return true,
            Single::Several => return false,
            Single::One(text) => text,
        };
        if *self == Self::Any {
            return true;
        }
        let Some(origin) = Origin::parse(origin) else { return false };
        let is_same = match single(headers, &header::HOST) {
            Single::One(host) => origin.is_of(host),
            _ => false,
        };
        is_same || matches!(self, Self::Listed(listed) if listed.iter().any(|entry| entry.allows(&origin)))
    }
}

impl Listed {
    fn allows(&self, origin: &Origin) -> bool {
        let is_host = match self.hosts {
            Hosts::This => origin.host == self.origin.host,
            Hosts::Below => origin
                .host
                .strip_suffix(&self.origin.host)
                .is_some_and(|left| left.len() > 1 && left.ends_with('.')),
        };
        is_host && origin.scheme == self.origin.scheme && origin.port == self.origin.port
    }
}

impl Origin {
    /// Reads `scheme://host[:port]` and nothing else; `null` is no origin.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default = default_port(&scheme)?;
        let (host, port) = split_port(rest)?;
        Some(Self { scheme, host, port: port.unwrap_or(default) })
    }

    /// Whether a page of this origin was loaded from this `Host`. Behind a proxy that ends TLS we cannot see
    /// the scheme, so the port that is left out is taken as the origin's own default.
    fn is_of(&self, host: &str) -> bool {
        split_port(host).is_some_and(|(host, port)| {
            host == self.host && port.or(default_port(&self.scheme)) == Some(self.port)
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Host, in lower case, and port; none where anything else stands there too.
fn split_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rfind(':').filter(|at| !text[*at..].contains(']')) {
        None => (text, None),
        Some(at) => {
            let digits = &text[at + 1..];
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            (&text[..at], Some(if is_number { digits.parse().ok()? } else { return None }))
        }
    };
    let is_ip6 = host.starts_with('[') && host.ends_with(']');
    let inner = if is_ip6 { &host[1..host.len() - 1] } else { host };
    let is_fine = !inner.is_empty()
        && inner
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || is_ip6 && byte == b':');
    is_fine.then(|| (host.to_ascii_lowercase(), port))
}

enum Single<'a> {
    None,
    One(&'a str),
    Several,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Single::None,
        (Some(value), None) => value.to_str().map_or(Single::Several, Single::One),
        (Some(_), Some(_)) => Single::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &Origins, host: &str, origin: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        origins.allow(&headers)
    }

    #[test]
    fn cross_site_websocket_hijacking_is_refused_by_default() {
        let same = [
            ("example.com", "http://example.com"),
            ("example.com", "https://example.com"),
            ("example.com:443", "https://example.com"),
            ("example.com:8080", "http://example.com:8080"),
            ("EXAMPLE.com", "https://example.COM"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
        ];
        let foreign = [
            ("example.com", "null"),
            ("example.com", "https://evil.com"),
            ("example.com", "https://example.com.evil.com"),
            ("example.com", "https://evilexample.com"),
            ("example.com", "https://example.com:8443"),
            ("example.com:8080", "http://example.com"),
            ("example.com:8080", "http://example.com:8081"),
            ("example.com", "https://sub.example.com"),
            ("example.com", "https://example.com/"),
            ("example.com", "https://example.com/path"),
            ("example.com", "https://user@example.com"),
            ("example.com", "https://example.com#x"),
            ("example.com", "https://example.com:"),
            ("example.com", "https://example.com:x"),
            ("example.com", "https://example.com:+443"),
            ("example.com", "https://example.com:99999"),
            ("example.com", "https://"),
            ("example.com", "example.com"),
            ("example.com", "//example.com"),
            ("example.com", ""),
            ("example.com", "file://example.com"),
            ("example.com", "chrome-extension://example.com"),
            ("example.com", "https://example.com https://evil.com"),
            ("example.com", "https://evil.com, https://example.com"),
            ("example.com", "https://example.com."),
        ];
        for (host, origin) in same {
            assert!(allowed(&Origins::SameOrigin, host, origin), "{host} {origin}");
        }
        for (host, origin) in foreign {
            assert!(!allowed(&Origins::SameOrigin, host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn a_wildcard_counts_on_label_borders_alone() {
        let listed = Origins::listed(["https://*.a.com", "http://b.com:8080"]);
        for origin in ["https://x.a.com", "https://y.x.a.com", "http://b.com:8080"] {
            assert!(allowed(&listed, "self", origin), "{origin}");
        }
        for origin in [
            "https://a.com",
            "https://xa.com",
            "https://a.com.evil",
            "http://x.a.com",
            "http://b.com",
            "https://.a.com",
        ] {
            assert!(!allowed(&listed, "self", origin), "{origin}");
        }
    }

    #[test]
    fn no_origin_is_no_browser_and_two_are_an_attack() {
        assert!(Origins::SameOrigin.allow(&HeaderMap::new()));
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "a.com".parse().unwrap());
        headers.append(header::ORIGIN, "https://a.com".parse().unwrap());
        headers.append(header::ORIGIN, "https://a.com".parse().unwrap());
        assert!(!Origins::Any.allow(&headers));
    }
}
