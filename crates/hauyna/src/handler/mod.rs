//! Handlers: what an application does with the clients of one route.
//!
//! A [`Handler`] says who a client is, which messages it may send, and what happens when it opens, sends and
//! leaves. Its callbacks get a [`Context`]. [`RateLimit`] bounds what one connection sends, and [`Recovery`]
//! is what `on_error` makes of a failure. The guide is [routing](crate::guide::routing).
//
// What the application decides: who a client is, and what happens when it connects, sends and leaves.
// `Handler` is the builder; `admission`, `authorize`, `bounds`, `limits`, `recovery` and `validate` are
// parts of it. `endpoint` is what connections call, `callback` boxes functions,
// `context` is what a callback gets.

mod admission;
mod authorize;
mod bounds;
mod builder;
mod callback;
mod context;
mod decision;
mod endpoint;
mod input;
mod limits;
mod recovery;
mod validate;

pub use crate::auth::{Identity, IntoIdentity, IntoIdentityFuture};
pub use builder::{Handler, SharedHandler};
pub use context::Context;
pub use decision::IntoDecision;
pub use limits::RateLimit;
pub use recovery::{Failed, IntoRecovery, Operation, Recovery};

#[cfg(feature = "contract")]
pub(crate) use builder::is_request_of_protocol;
pub(crate) use callback::{EventAnswer, Signature};
pub(crate) use endpoint::{Action, Endpoint, Mode};
pub(crate) use input::decode_input;
pub(crate) use limits::ERROR_UNITS;

use builder::check_event;
