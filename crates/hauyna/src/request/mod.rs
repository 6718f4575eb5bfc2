//! The HTTP request of an upgrade: `ConnectRequest` is what the application sees of it, `params` decodes its
//! parameters, `origin` checks the page that it comes from. `router` creates it.

#[cfg(feature = "axum")]
mod axum;
mod connect_request;
mod origin;
mod params;

pub use connect_request::ConnectRequest;
pub use origin::{AllowedOrigin, Origins};

#[cfg(feature = "axum")]
pub(crate) use axum::weight_of_target;
pub(crate) use connect_request::{
    RESUME_PARAMETER, Route, check_utf8, path_as, path_param, query, query_as, without_tokens,
};
pub(crate) use origin::log_refused;
