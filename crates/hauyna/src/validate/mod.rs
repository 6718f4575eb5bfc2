//! Validation of what clients send.
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
