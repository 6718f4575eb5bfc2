//! Normalises the paths of routes and requests, so that a route matches however a client escapes its path.
//! Each segment is decoded once; `/`, `%` and braces stay escaped, so that `%2F` separates nothing. `Router`
//! calls it when a route is mounted, and `Routes` for each request whose path has an escape.

use percent_encoding::percent_decode_str;
#[cfg(feature = "axum")]
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::borrow::Cow;
use std::collections::HashSet;

/// Checks the pattern of a route and returns its canonical spelling.
///
/// # Errors
///
/// The pattern can never match, or one of its parameters can never be read: what is wrong, and what would be
/// right.
pub(super) fn canonical_route(pattern: &str) -> Result<String, String> {
    let Some(segments) = pattern.strip_prefix('/') else {
        return Err(format!("a route begins with `/`: write `/{pattern}`"));
    };
    if pattern.contains(['?', '#']) {
        return Err("a route is a path, without a query (`?`) or a fragment (`#`)".to_owned());
    }
    let mut names = HashSet::new();
    let mut canonical = String::with_capacity(pattern.len());
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        canonical.push('/');
        match parameter(segment)? {
            None => canonical.push_str(&literal(segment)?),
            Some(Parameter { name, .. }) if !names.insert(name) => {
                return Err(format!("the parameter `{name}` appears twice"));
            }
            Some(Parameter { name, kind: ParameterKind::RestOfPath }) if segments.peek().is_some() => {
                return Err(format!("nothing may follow `{{*{name}}}`, which matches the rest of the path"));
            }
            Some(_) => canonical.push_str(segment),
        }
    }
    Ok(canonical)
}

/// A parameter of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parameter<'a> {
    name: &'a str,
    kind: ParameterKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParameterKind {
    Segment,
    RestOfPath,
}

/// Returns the parameter that a segment of a pattern declares; `None` for literal text.
fn parameter(segment: &str) -> Result<Option<Parameter<'_>>, String> {
    if let Some(name) = segment.strip_prefix(':') {
        return Err(format!("`{segment}` is literal text: a parameter is written `{{{name}}}`"));
    }
    if let Some(name) = segment.strip_prefix('*') {
        let name = if name.is_empty() { "rest" } else { name };
        return Err(format!("`{segment}` is literal text: the rest of the path is written `{{*{name}}}`"));
    }
    let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if segment.contains(['{', '}']) {
            return Err(format!("`{segment}`: a parameter has to be a whole segment, as in `/room/{{id}}`"));
        }
        return Ok(None);
    };
    let (name, kind) = match inner.strip_prefix('*') {
        Some(name) => (name, ParameterKind::RestOfPath),
        None => (inner, ParameterKind::Segment),
    };
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!(
            "`{segment}`: the name of a parameter may only have letters, digits, `_`, `-` and `.`"
        ));
    }
    Ok(Some(Parameter { name, kind }))
}

fn literal(segment: &str) -> Result<String, String> {
    match percent_decode_str(segment).decode_utf8() {
        Ok(text) if text == "." || text == ".." => Err(format!(
            "`{segment}` is removed from every path before it is sent (WHATWG URL, dot segments)"
        )),
        Ok(text) => Ok(escaped(&text)),
        Err(_) => {
            Err(format!("`{segment}` is not UTF-8 once it is decoded, and no request with it is accepted"))
        }
    }
}

/// Returns a decoded segment in its canonical spelling.
fn escaped(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for character in segment.chars() {
        match character {
            '%' => out.push_str("%25"),
            '/' => out.push_str("%2F"),
            '{' => out.push_str("%7B"),
            '}' => out.push_str("%7D"),
            other => out.push(other),
        }
    }
    out
}

/// Returns the canonical spelling of a request's path. Segments that are not UTF-8 stay unchanged: the
/// request is refused once its route is known.
pub(super) fn canonical(path: &str) -> Cow<'_, str> {
    if !path.contains(['%', '{', '}']) {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').map(|segment| match percent_decode_str(segment).decode_utf8() {
        Ok(text) => escaped(&text),
        Err(_) => segment.replace(['{', '}'], "%"),
    });
    Cow::Owned(segments.collect::<Vec<String>>().join("/"))
}

/// Returns the spellings of a route for a router that compares paths as they are on the wire, such as axum's:
/// as browsers escape it, with lower-case digits, and unescaped.
#[cfg(feature = "axum")]
pub(super) fn spellings(pattern: &str) -> Vec<String> {
    let spell = |escape: &dyn Fn(&str) -> String| -> String {
        let segments = pattern.split('/').map(|segment| match parameter(segment) {
            Ok(Some(_)) => segment.to_owned(),
            _ => escape(&percent_decode_str(segment).decode_utf8_lossy()),
        });
        segments.collect::<Vec<_>>().join("/")
    };
    let upper = spell(&|text| utf8_percent_encode(text, ENCODED_CHARACTERS).to_string());
    let lower = spell(&|text| {
        let escapes = text.chars().map(|c| {
            let whole: String = utf8_percent_encode(c.encode_utf8(&mut [0; 4]), ENCODED_CHARACTERS).collect();
            if whole.len() > 1 { whole.to_ascii_lowercase() } else { whole }
        });
        escapes.collect()
    });
    let raw = spell(&escaped);
    let mut all = vec![upper];
    for other in [lower, raw] {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

/// Characters that browsers escape in a path (WHATWG URL, the path percent-encode set), beside those beyond
/// ASCII.
#[cfg(feature = "axum")]
const ENCODED_CHARACTERS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'%');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_route_have_one_spelling() {
        for (path, spelling) in [
            ("/chat", "/chat"),
            ("/%63hat", "/chat"),
            ("/caf%C3%A9/x", "/café/x"),
            ("/caf%c3%a9/x", "/café/x"),
            ("/café/x", "/café/x"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb/c", "/a%2Fb/c"),
            ("/100%25", "/100%25"),
            ("/a%252Fb", "/a%252Fb"),
            ("/%7Bid%7D", "/%7Bid%7D"),
            ("/{id}", "/%7Bid%7D"),
            ("/%FF", "/%FF"),
        ] {
            assert_eq!(canonical(path), spelling, "{path}");
        }
        assert_eq!(canonical_route("/caf%c3%a9/{name}").unwrap(), "/café/{name}");
        assert_eq!(canonical_route("/café/{*rest}").unwrap(), "/café/{*rest}");
        assert_eq!(canonical_route("/").unwrap(), "/");
        assert_eq!(canonical_route("/.well-known/{id}/...").unwrap(), "/.well-known/{id}/...");
        assert_eq!(canonical_route("/a b/{größe}").unwrap(), "/a b/{größe}");
    }

    #[test]
    fn route_that_can_never_match_is_refused_with_its_remedy() {
        for (route, remedy) in [
            ("chat", "write `/chat`"),
            ("", "begins with `/`"),
            ("{*all}", "begins with `/`"),
            ("/:id", "written `{id}`"),
            ("/rooms/:id/x", "written `{id}`"),
            ("/files/*", "written `{*rest}`"),
            ("/files/*path", "written `{*path}`"),
            ("/room-{id}", "has to be a whole segment"),
            ("/{id}.json", "has to be a whole segment"),
            ("/{a}{b}", "letters, digits"),
            ("/{a}-{b}", "letters, digits"),
            ("/{", "has to be a whole segment"),
            ("/x}", "has to be a whole segment"),
            ("/{{id}}", "letters, digits"),
            ("/{}", "letters, digits"),
            ("/{*}", "letters, digits"),
            ("/{id:[0-9]+}", "letters, digits"),
            ("/{id?}", "without a query"),
            ("/chat?user={id}", "without a query"),
            ("/chat#top", "without a query"),
            ("/{id}/x/{id}", "appears twice"),
            ("/{*rest}/x", "nothing may follow"),
            ("/%FF/{id}", "not UTF-8"),
            ("/a/../b", "dot segments"),
            ("/./{id}", "dot segments"),
            ("/%2e%2E/x", "dot segments"),
        ] {
            let fault = canonical_route(route).unwrap_err();
            assert!(fault.contains(remedy), "{route}: {fault}");
        }
    }

    #[cfg(feature = "axum")]
    #[test]
    fn route_is_spelled_as_it_comes_on_the_wire() {
        assert_eq!(spellings("/chat/{id}"), ["/chat/{id}"]);
        assert_eq!(spellings("/café/{id}"), ["/caf%C3%A9/{id}", "/caf%c3%a9/{id}", "/café/{id}"]);
        assert_eq!(spellings("/a%20b"), ["/a%20b", "/a b"]);
    }
}
