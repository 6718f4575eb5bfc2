//! Which web pages may connect. A browser sends the page's `Origin`; a program that is no browser sends none
//! and is not checked. This keeps a foreign page from using a visitor's cookies. `admit` checks it.

use crate::error::{Error, Result};
use crate::log;
use http::{HeaderMap, HeaderName, header};
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The pages that may connect to a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages that were loaded from the same host and port, over HTTP. The default.
    #[default]
    SameOrigin,
    /// Pages of the same origin, and those of a list.
    Listed(Vec<AllowedOrigin>),
    /// Every page. Use it only if authentication relies neither on cookies nor on the network.
    Any,
}

/// One entry of a list of [`Origins`], read from a text by [`str::parse`].
///
/// The text is an origin as a browser sends it: `scheme://host` or `scheme://host:port`. The scheme can be
/// any, such as `https`, `capacitor` or `chrome-extension`; without a port, that of `http` and `ws` is 80 and
/// that of `https` and `wss` is 443. A host beyond ASCII is written as browsers send it, `xn--…`. These forms
/// allow several origins:
///
/// - `*.` before the host: any number of labels, at least one;
/// - `*` as the port: every port;
/// - `null`: every page whose origin a browser hides, such as a local file or a sandboxed frame. Any web
///   site can make such a frame, so it is as wide as [`Origins::Any`].
///
/// # Examples
///
/// ```
/// use hauyna::server::AllowedOrigin;
///
/// let texts = [
///     "https://example.com",
///     "https://*.example.org:8443",
///     "http://localhost:*",
///     "capacitor://localhost",
///     "null",
/// ];
/// for text in texts {
///     assert!(text.parse::<AllowedOrigin>().is_ok());
/// }
/// assert!("https://example.com/chat".parse::<AllowedOrigin>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(Entry);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// The literal `null`.
    Opaque,
    Exact {
        origin: Origin,
        hosts: Hosts,
        ports: Ports,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hosts {
    This,
    Below,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    This,
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    /// The scheme, in lower case.
    scheme: String,
    /// The host, in lower case; an IPv6 address in its shortest form. Empty only with the scheme `file`.
    host: String,
    /// The port; `None` if the scheme has no default port and the origin names none.
    port: Option<u16>,
}

impl Origins {
    /// Creates a list such as
    /// `["https://example.com", "https://*.example.org:8443", "capacitor://localhost"]`; see
    /// [`AllowedOrigin`] for the form of an entry.
    ///
    /// # Panics
    ///
    /// If an entry is no origin. Entries that are not known when the program is written are better parsed
    /// into [`AllowedOrigin`]s, which returns an error, and collected into [`Origins::Listed`].
    #[track_caller]
    pub fn listed<'a>(origins: impl IntoIterator<Item = &'a str>) -> Self {
        let entry = |text: &str| text.parse().unwrap_or_else(|error| panic!("{error}"));
        Self::Listed(origins.into_iter().map(entry).collect())
    }

    /// Whether a request with these headers may become a connection.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let text = match single(headers, &header::ORIGIN) {
            SingleHeader::None => return true,
            SingleHeader::Several => return false,
            SingleHeader::One(text) => text,
        };
        if *self == Self::Any {
            return true;
        }
        let origin = Origin::parse(text);
        let is_same = match (&origin, single(headers, &header::HOST)) {
            (Some(origin), SingleHeader::One(host)) => origin.is_of(host),
            _ => false,
        };
        is_same
            || matches!(self, Self::Listed(entries) if entries.iter().any(|entry| match &origin {
                Some(origin) => entry.allows(origin),
                None => text == OPAQUE && entry.0 == Entry::Opaque,
            }))
    }
}

impl FromStr for AllowedOrigin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == OPAQUE {
            return Ok(Self(Entry::Opaque));
        }
        let (plain, hosts) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), Hosts::Below),
            None => (text.to_owned(), Hosts::This),
        };
        let (plain, ports) = match plain.strip_suffix(":*") {
            Some(plain) => (plain, Ports::All),
            None => (plain.as_str(), Ports::This),
        };
        // A second `:` would be a port beside the wildcard for all ports.
        let origin = Origin::parse(plain).filter(|_| ports == Ports::This || !has_port(plain));
        let origin = origin.ok_or_else(|| {
            Error::config(format!(
                "`{text}` is not an origin: write scheme://host or scheme://host:port, without a path, or null"
            ))
        })?;
        Ok(Self(Entry::Exact { origin, hosts, ports }))
    }
}

impl AllowedOrigin {
    fn allows(&self, page: &Origin) -> bool {
        let Entry::Exact { origin, hosts, ports } = &self.0 else { return false };
        let is_host = match hosts {
            Hosts::This => page.host == origin.host,
            Hosts::Below => page
                .host
                .strip_suffix(&origin.host)
                .is_some_and(|prefix| prefix.len() > 1 && prefix.ends_with('.')),
        };
        is_host && page.scheme == origin.scheme && (*ports == Ports::All || page.port == origin.port)
    }
}

/// Logs that a page was refused, with the origin that would have to be allowed. A text that is no origin is
/// not logged.
pub(crate) fn log_refused(route: &str, headers: &HeaderMap) {
    let SingleHeader::One(origin) = single(headers, &header::ORIGIN) else { return };
    if origin != OPAQUE && Origin::parse(origin).is_none() {
        return;
    }
    let host = match single(headers, &header::HOST) {
        SingleHeader::One(host) => host,
        _ => "",
    };
    let (origin, host) = (log::untruncated(origin), log::untruncated(host));
    log::limited("origin", || {
        let remedy = "add its origin to `Handler::origins` (`hauyna serve --origin`)";
        tracing::info!(target: "hauyna::server", route, %origin, %host, remedy, "a page of another origin was refused");
    });
}

impl Origin {
    /// Parses `scheme://host[:port]` and nothing else; `null` is no origin.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !is_scheme(scheme) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" && rest.is_empty() {
            return Some(Self { scheme, host: String::new(), port: None });
        }
        let (host, port) = split_port(rest)?;
        let port = port.or(default_port(&scheme));
        Some(Self { scheme, host, port })
    }

    /// Whether a page of this origin was loaded from this `Host`. Behind a proxy that ends TLS the server
    /// cannot see the scheme, so a port that is left out counts as the origin's own default. Pages of other
    /// schemes come from no web server.
    fn is_of(&self, host: &str) -> bool {
        let default = default_port(&self.scheme);
        default.is_some()
            && split_port(host).is_some_and(|(host, port)| host == self.host && port.or(default) == self.port)
    }
}

/// Whether the text is a scheme (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

fn has_port(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    split_port(host).is_none_or(|(_, port)| port.is_some())
}

/// Splits host, in lower case, and port; `None` if there is anything else.
fn split_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rfind(':').filter(|at| !text[*at..].contains(']')) {
        None => (text, None),
        Some(at) => {
            let digits = &text[at + 1..];
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            (&text[..at], Some(if is_number { digits.parse().ok()? } else { return None }))
        }
    };
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return Some((format!("[{}]", address.parse::<Ipv6Addr>().ok()?), port));
    }
    let is_fine =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    is_fine.then(|| (host.to_ascii_lowercase(), port))
}

/// The origin that a browser sends for a page whose origin it hides.
const OPAQUE: &str = "null";

enum SingleHeader<'a> {
    None,
    One(&'a str),
    Several,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> SingleHeader<'a> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => SingleHeader::None,
        (Some(value), None) => value.to_str().map_or(SingleHeader::Several, SingleHeader::One),
        (Some(_), Some(_)) => SingleHeader::Several,
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
            ("[0:0::1]:8080", "http://[::1]:8080"),
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
            ("localhost", "capacitor://localhost"),
            ("localhost:80", "capacitor://localhost"),
            ("localhost:3000", "capacitor://localhost:3000"),
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
    fn origins_of_every_scheme_may_be_listed() {
        let apps = [
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://.",
            "app://obsidian.md",
            "chrome-extension://gighmmpiobklfepjocnamgkkbiglidom",
            "moz-extension://6f2cf1b4-8a1b-4a0e-9d4b-0d6d3f6d1c11",
            "safari-web-extension://8F2A1C3B-0000-4000-8000-AABBCCDDEEFF",
            "vscode-webview://0kq3b1h2",
            "com.example.app+web://host.example:3000",
            "file://",
            "null",
            "http://[::1]:5173",
        ];
        for app in apps {
            assert!(allowed(&Origins::listed([app]), "self", app), "{app}");
            for other in apps.iter().filter(|other| **other != app) {
                assert!(!allowed(&Origins::listed([app]), "self", other), "{other} is not {app}");
            }
            assert!(!allowed(&Origins::SameOrigin, "self", app), "{app}");
        }
        let listed = Origins::listed(["capacitor://localhost", "CHROME-extension://ABC"]);
        for (origin, is_allowed) in [
            ("chrome-extension://abc", true),
            ("chrome-extension://abcd", false),
            ("chrome-extension://abc/", false),
            ("capacitor://localhost:80", false),
            ("capacitor://localhost.evil", false),
            ("https://localhost", false),
            ("null", false),
            ("NULL", false),
            ("file://", false),
        ] {
            assert_eq!(allowed(&listed, "self", origin), is_allowed, "{origin}");
        }
        assert!(!allowed(&Origins::listed(["null"]), "self", "NULL"));
    }

    #[test]
    fn every_port_of_a_host_may_be_listed() {
        let listed = Origins::listed(["http://localhost:*", "http://[::1]:*", "http://*.localhost:*"]);
        for origin in
            ["http://localhost", "http://localhost:5173", "http://[::1]:3000", "http://app.localhost:1"]
        {
            assert!(allowed(&listed, "self", origin), "{origin}");
        }
        for origin in
            ["https://localhost:5173", "http://localhost.evil:5173", "http://evil:5173", "http://localhost:x"]
        {
            assert!(!allowed(&listed, "self", origin), "{origin}");
        }
    }

    #[test]
    fn an_entry_that_is_no_origin_is_an_error_that_says_what_one_is() {
        for wrong in [
            "",
            "*",
            "Null",
            "example.com",
            "//example.com",
            "://example.com",
            "1http://example.com",
            "ht tp://example.com",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*.com",
            "https://*.*.com",
            "https://example.com/",
            "https://example.com/path",
            "https://example.com?x",
            "https://user@example.com",
            "https://example.com:",
            "https://example.com:*:*",
            "https://example.com:80:*",
            "https://example.com:65536",
            "https://example.com,https://other.com",
            "https://müller.example",
            "http://[::1",
            "http://[::g]",
            "http://::1",
            " https://example.com",
            "https://example.com\n",
        ] {
            let error = wrong.parse::<AllowedOrigin>().unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Config, "{wrong}");
            let text = error.to_string();
            assert!(text.contains(wrong) && text.contains("scheme://host:port"), "{text}");
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
