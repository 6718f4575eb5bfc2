//! Validation of what clients send, beyond its type.
//!
//! A [`Validator`] checks values of any kind: a function, or with the feature `json-schema` a `Schema`.
//! [`Validate`] is for input that checks itself, with [`Handler::on_valid`](crate::Handler::on_valid). Both
//! return the faults as [`Invalid`], all of which the client gets. The guide is
//! [validation](crate::guide::validation).
//
// Validation of clients' values beyond their types: `Validator` checks values of any kind, `Validate` typed
// input, and `Invalid` holds the faults. Called by `dispatch` before a handler or a channel gets the value;
// it costs one branch where nothing is declared.

#[cfg(feature = "json-schema")]
mod schema;
mod validator;

#[cfg(test)]
mod tests;

#[cfg(feature = "json-schema")]
pub use schema::Schema;
pub use validator::{Invalid, Validate, Validator};

pub(crate) use validator::{Validators, check_content, of_type};
