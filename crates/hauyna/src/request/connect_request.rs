//! The HTTP request of an upgrade, as the application sees it, and the parsing of its query and path.
//! `admit`, middleware and `Context` read it.

use super::params::{self, Pairs};
use crate::error::Reject;
use http::request::Parts;
use http::{Extensions, HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The request of a client that wants to connect. A handle that is cheap to clone.
#[derive(Clone)]
pub struct ConnectRequest(Arc<Inner>);

/// What a request needs of the route that it came to.
pub(crate) trait Route: Send + Sync {
    /// Returns the path of the route, with its parameters in braces.
    fn pattern(&self) -> &str;

    /// Returns the query parameter that may hold a token.
    fn token_parameter(&self) -> Option<&str>;
}

#[derive(Clone)]
struct Inner {
    parts: Parts,
    peer: Option<SocketAddr>,
    route: Arc<dyn Route>,
}

impl ConnectRequest {
    pub(crate) fn new(parts: Parts, peer: Option<SocketAddr>, route: Arc<dyn Route>) -> Self {
        Self(Arc::new(Inner { parts, peer, route }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Returns path and query.
    pub fn uri(&self) -> &Uri {
        &self.0.parts.uri
    }

    /// Returns all headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.parts.headers
    }

    /// Returns one header, if it is UTF-8; the first line, if it is sent several times. For lists see
    /// [`header_list`](Self::header_list).
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.0.parts.headers.get(name)?.as_bytes()).ok()
    }

    /// Returns the elements of a header that is a list, such as `X-Forwarded-For`, in their order: over all
    /// of its lines, without empty elements (RFC 9110 §5.6.1) and without those that are not UTF-8. A proxy
    /// adds its element at the end, so the elements before it are claims of the client.
    ///
    /// ```
    /// use hauyna::{ConnectRequest, Hub};
    ///
    /// let hub = Hub::builder().client_address(|request: &ConnectRequest| {
    ///     request.header_list("x-forwarded-for").last()?.parse().ok() // behind one trusted proxy
    /// });
    /// # drop(hub);
    /// ```
    pub fn header_list(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.0.parts.headers.get_all(name).into_iter();
        lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .filter_map(|element| std::str::from_utf8(element.trim_ascii()).ok())
            .filter(|element| !element.is_empty())
    }

    /// Returns the values that tower layers and middleware have attached to the request. The connection keeps
    /// them, for its callbacks; see [`Context::extension`](crate::Context::extension).
    pub fn extensions(&self) -> &Extensions {
        &self.0.parts.extensions
    }

    /// Returns the attached values, to add or remove some. Other handles on this request do not see the
    /// change.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut Arc::make_mut(&mut self.0).parts.extensions
    }

    /// Takes the attached values at the end of the handshake, without tokens.
    pub(crate) fn into_extensions(mut self) -> Extensions {
        let extensions = match Arc::get_mut(&mut self.0) {
            Some(inner) => std::mem::take(&mut inner.parts.extensions),
            None => self.0.parts.extensions.clone(),
        };
        #[cfg(feature = "axum")]
        let extensions = {
            let mut extensions = extensions;
            super::axum::forget_tokens(&mut extensions, self.0.route.token_parameter());
            extensions
        };
        extensions
    }

    /// Returns the path that the client requested, if a router around this one has cut off a part of it.
    pub(crate) fn whole_path(&self) -> Option<&str> {
        #[cfg(feature = "axum")]
        let whole = super::axum::whole_path(&self.0.parts.extensions);
        #[cfg(not(feature = "axum"))]
        let whole: Option<&str> = None;
        whole.filter(|whole| *whole != self.0.parts.uri.path())
    }

    /// Returns the address at the other end of the socket, if the server knows it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// Returns a query parameter, decoded; the first, if it is given several times.
    pub fn query(&self, name: &str) -> Option<String> {
        query(self.0.parts.uri.path_and_query()?.as_str(), name)
    }

    /// Returns a path parameter of the route, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        path_param(self.0.route.pattern(), self.0.parts.uri.path(), name)
    }

    /// Returns all query parameters, decoded into `T`: a struct or a map. A repeated parameter may be a
    /// `Vec`; any other type takes the first value.
    ///
    /// # Errors
    ///
    /// [`Reject::invalid`], 400, with the parameter in `details.path`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hauyna::{ConnectRequest, Handler, Reject};
    /// #[derive(serde::Deserialize)]
    /// struct Hello { name: String, age: Option<u8> }
    ///
    /// let handler = Handler::new().identify(|request: ConnectRequest| -> Result<String, Reject> {
    ///     // `?name=ada&age=many` is refused: `age` is not an integer
    ///     let hello: Hello = request.query_as()?;
    ///     Ok(hello.name)
    /// });
    /// # drop(handler);
    /// ```
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        query_as(self.0.parts.uri.path_and_query().map_or("", |target| target.as_str()))
    }

    /// Returns all path parameters of the route, decoded into `T`: a struct or a map by their names, a tuple
    /// in their order, or a plain value if there is one parameter.
    ///
    /// # Errors
    ///
    /// [`Reject::invalid`], 400, with the parameter in `details.path`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hauyna::{ConnectRequest, Handler, Hub, Reject, Router};
    /// let handler = Handler::new().identify(|request: ConnectRequest| -> Result<String, Reject> {
    ///     let (game, seat): (u32, String) = request.path()?;
    ///     Ok(format!("{seat}@{game}"))
    /// });
    /// Router::new(Hub::new()).websocket("/games/{game}/{seat}", handler);
    /// ```
    pub fn path<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        path_as(self.0.route.pattern(), self.0.parts.uri.path())
    }

    /// Returns a cookie's value as it was sent, if it is UTF-8; the first, if it is sent several times.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.0.parts.headers.get_all(header::COOKIE).into_iter();
        // Bytes: a cookie that is not text does not hide the others.
        cookies
            .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
            .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the token that identifies the client: [`bearer`](Self::bearer), else the query parameter that
    /// [`Handler::token_in_query`](crate::Handler::token_in_query) names.
    pub fn token(&self) -> Option<Cow<'_, str>> {
        let bearer = self.bearer().map(Cow::Borrowed);
        bearer.or_else(|| self.query(self.0.route.token_parameter()?).map(Cow::Owned))
    }

    /// Returns a bearer token: from `Authorization`, or from the sub-protocol item `hauyna.bearer.<token>`,
    /// which is the way for browsers.
    pub fn bearer(&self) -> Option<&str> {
        let headers = &self.0.parts.headers;
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some((scheme, token)) = authorization.and_then(|value| value.split_once(' '))
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Some(token.trim());
        }
        self.offered(hauyna_protocol::BEARER_PREFIX)
    }

    /// Returns the token of the session that the client wants to resume.
    pub(crate) fn resume_token(&self) -> Option<Cow<'_, str>> {
        let offered = self.offered(hauyna_protocol::RESUME_PREFIX).map(Cow::Borrowed);
        offered.or_else(|| self.query(RESUME_PARAMETER).map(Cow::Owned))
    }

    /// Returns the rest of the first sub-protocol with this prefix.
    fn offered(&self, prefix: &str) -> Option<&str> {
        self.header_list(header::SEC_WEBSOCKET_PROTOCOL.as_str()).find_map(|item| item.strip_prefix(prefix))
    }
}

/// The query parameter with the token of a session.
pub(crate) const RESUME_PARAMETER: &str = "resume";

/// Returns path and query without the parameters that hold tokens, because the connection keeps the target.
pub(crate) fn without_tokens<'a>(target: &'a str, parameter: Option<&str>) -> Cow<'a, str> {
    let Some((path, text)) = target.split_once('?') else { return target.into() };
    let is_token = |name: &str| name == RESUME_PARAMETER || Some(name) == parameter;
    let pairs = || form_urlencoded::parse(text.as_bytes());
    if !pairs().any(|(name, _)| is_token(&name)) {
        return target.into();
    }
    let others = pairs().filter(|(name, _)| !is_token(name));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
    if query.is_empty() { path.into() } else { format!("{path}?{query}").into() }
}

/// Prints path and peer only: headers and query may hold credentials.
impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { parts, peer, .. } = &*self.0;
        f.debug_struct("ConnectRequest")
            .field("path", &parts.uri.path())
            .field("peer", peer)
            .finish_non_exhaustive()
    }
}

/// Returns a parameter from the query of `target`, decoded.
pub(crate) fn query(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Returns all parameters from the query of `target`.
pub(crate) fn query_as<T: DeserializeOwned>(target: &str) -> Result<T, Reject> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut pairs: Pairs<'_> = form_urlencoded::parse(query.as_bytes()).collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    params::read(&pairs)
}

/// Returns a parameter of the pattern `route` from the path of `target`, decoded.
pub(crate) fn path_param(route: &str, target: &str, name: &str) -> Option<String> {
    let (_, value) = path_params(route, target).find(|(key, _)| *key == name)?;
    Some(decode(value)?.into_owned())
}

/// Returns all parameters of the pattern `route` from the path of `target`.
pub(crate) fn path_as<T: DeserializeOwned>(route: &str, target: &str) -> Result<T, Reject> {
    let pairs = path_params(route, target).map(|(name, value)| Some((name.into(), decode(value)?)));
    params::read(&pairs.collect::<Option<Pairs<'_>>>().ok_or_else(not_utf8)?)
}

/// Returns names and values of the pattern's parameters, as they were sent.
fn path_params<'a>(route: &'a str, target: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let path = target.split('?').next().unwrap_or_default();
    let mut offset = 0;
    route.split('/').zip(path.split('/')).filter_map(move |(part, segment)| {
        let rest = &path[offset..];
        offset += segment.len() + 1;
        let parameter = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(parameter.strip_prefix('*').map_or((parameter, segment), |name| (name, rest)))
    })
}

/// Decodes a segment of a path, in which `+` means itself. `None` if it is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// Refuses a target whose path or query is not UTF-8 once it is decoded: with replacement characters, two
/// different names would become one.
///
/// # Errors
///
/// [`Reject::invalid`], 400.
pub(crate) fn check_utf8(uri: &Uri) -> Result<(), Reject> {
    // No escape within a name or a value can be completed by what follows it: separators are ASCII.
    let is_utf8 = |text: &str| percent_decode_str(text).decode_utf8().is_ok();
    if is_utf8(uri.path()) && uri.query().is_none_or(is_utf8) { Ok(()) } else { Err(not_utf8()) }
}

fn not_utf8() -> Reject {
    Reject::invalid("the path or the query is not UTF-8").with_details(serde_json::json!({ "path": "" }))
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
