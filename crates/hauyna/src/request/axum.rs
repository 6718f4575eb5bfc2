//! What axum attaches to a request: the target before a router around this one has cut off its prefix.

use super::connect_request::without_tokens;
use axum::extract::OriginalUri;
use std::borrow::Cow;

/// Returns the path that the client requested, if axum has cut off the prefix that the router is nested
/// under.
pub(super) fn whole_path(extensions: &http::Extensions) -> Option<&str> {
    extensions.get::<OriginalUri>().map(|original| original.path())
}

/// Removes tokens from the target that axum attaches to a request, because the connection keeps it.
pub(super) fn forget_tokens(extensions: &mut http::Extensions, parameter: Option<&str>) {
    let Some(OriginalUri(uri)) = extensions.get::<OriginalUri>() else { return };
    let Some(target) = uri.path_and_query() else { return };
    if let Cow::Owned(target) = without_tokens(target.as_str(), parameter) {
        match target.parse() {
            Ok(uri) => drop(extensions.insert(OriginalUri(uri))),
            Err(_) => drop(extensions.remove::<OriginalUri>()),
        }
    }
}

/// Returns the bytes of the target that axum attaches to a request.
pub(crate) fn weight_of_target(extensions: &http::Extensions) -> usize {
    let target = extensions.get::<OriginalUri>().and_then(|uri| uri.path_and_query());
    target.map_or(0, |target| target.as_str().len())
}
