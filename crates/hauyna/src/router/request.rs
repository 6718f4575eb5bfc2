//! The HTTP request of an upgrade, as the application sees it, and the parsing of its query and path.

use crate::handler::Endpoint;
use http::request::Parts;
use http::{Extensions, HeaderMap, Uri, header};
use std::net::SocketAddr;
use std::sync::Arc;

/// The request that wants to become a connection. A cheap handle.
#[derive(Debug, Clone)]
pub struct ConnectRequest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    peer: Option<SocketAddr>,
    endpoint: Arc<Endpoint>,
}

impl ConnectRequest {
    pub(crate) fn new(parts: Parts, peer: Option<SocketAddr>, endpoint: Arc<Endpoint>) -> Self {
        Self(Arc::new(Inner { parts, peer, endpoint }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Path and query.
    pub fn uri(&self) -> &Uri {
        &self.0.parts.uri
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.parts.headers
    }

    /// One header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.parts.headers.get(name)?.to_str().ok()
    }

    /// What tower layers have attached to the request.
    pub fn extensions(&self) -> &Extensions {
        &self.0.parts.extensions
    }

    /// The address at the other end of the socket, where the server knows it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// A query parameter, decoded; the first, where it is given several times.
    pub fn query(&self, name: &str) -> Option<String> {
        query(self.0.parts.uri.path_and_query()?.as_str(), name)
    }

    /// A path parameter of the route, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        path_param(&self.0.endpoint.route, self.0.parts.uri.path(), name)
    }

    /// A cookie's value as it was sent.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.0.parts.headers.get_all(header::COOKIE).into_iter();
        cookies
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// A bearer token: from `Authorization`, or from the sub-protocol item `hauyna.bearer.<token>`, which is
    /// the way for browsers.
    pub fn bearer(&self) -> Option<&str> {
        let headers = &self.0.parts.headers;
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some((scheme, token)) = authorization.and_then(|value| value.split_once(' '))
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Some(token.trim());
        }
        let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
        offers
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(','))
            .find_map(|item| item.trim().strip_prefix(hauyna_protocol::BEARER_PREFIX))
    }
}

/// A parameter from the query of `target`, decoded.
pub(crate) fn query(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A parameter of the pattern `route` from the path of `target`, decoded.
pub(crate) fn path_param(route: &str, target: &str, name: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let mut segments = path.split('/');
    let mut offset = 0;
    for part in route.split('/') {
        let segment = segments.next()?;
        if let Some(parameter) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            if parameter == name {
                return Some(decode(segment));
            }
            if parameter.strip_prefix('*') == Some(name) {
                return Some(decode(&path[offset..]));
            }
        }
        offset += segment.len() + 1;
    }
    None
}

fn decode(text: &str) -> String {
    // In a path `+` is itself.
    let escaped = text.replace('+', "%2B");
    form_urlencoded::parse(format!("v={}", escaped.replace('&', "%26")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded_and_the_first_counts() {
        assert_eq!(query("/chat?user_id=a%20b+c&user_id=x", "user_id").as_deref(), Some("a b c"));
        assert_eq!(query("/chat?user_id=", "user_id").as_deref(), Some(""));
        assert_eq!(query("/chat", "user_id"), None);
    }

    #[test]
    fn path_parameters_follow_the_route() {
        assert_eq!(path_param("/rooms/{id}/x", "/rooms/a%2Fb+c/x?q=1", "id").as_deref(), Some("a/b+c"));
        assert_eq!(path_param("/files/{*rest}", "/files/a/b&c", "rest").as_deref(), Some("a/b&c"));
        assert_eq!(path_param("/rooms/{id}", "/rooms/7", "other"), None);
    }
}
