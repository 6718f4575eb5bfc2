//! The claims of a token, for callbacks. Verifiers make them, `Context::claims` reads them.

use crate::error::Error;
use hauyna_protocol::ErrorType;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// The claims of a token, attached to the connection that it opened; see
/// [`Context::claims`](crate::Context::claims).
#[derive(Clone)]
pub struct Claims(Arc<Map<String, Value>>);

/// Returns an estimate of the bytes that a JSON value owns on the heap.
pub(crate) fn weight_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.capacity(),
        Value::Array(values) => {
            values.capacity() * size_of::<Value>() + values.iter().map(weight_of).sum::<usize>()
        }
        Value::Object(fields) => weight_of_fields(fields),
        _ => 0,
    }
}

fn weight_of_fields(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(name, value)| FIELD + name.capacity() + weight_of(value)).sum()
}

/// Bytes of a field in an object, without its name's text.
const FIELD: usize = 96;

impl Claims {
    /// Returns an estimate of the bytes of all claims.
    pub(crate) fn weight(&self) -> usize {
        weight_of_fields(&self.0)
    }

    /// Creates claims for a verifier of your own, from a value that serialises to an object.
    ///
    /// # Errors
    ///
    /// `validation_error` if it is not an object.
    pub fn new(claims: impl Serialize) -> Result<Self, Error> {
        match serde_json::to_value(claims)? {
            Value::Object(claims) => Ok(Self(Arc::new(claims))),
            _ => Err(Error::protocol(ErrorType::ValidationError, "claims must be an object")),
        }
    }

    #[cfg(feature = "jwt")]
    pub(super) fn of(claims: Map<String, Value>) -> Self {
        Self(Arc::new(claims))
    }

    /// Returns one claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns one claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Returns all claims, decoded into `T`.
    ///
    /// # Errors
    ///
    /// `unauthorized`: the claims do not fit the type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(&*self.0).map_err(|_| {
            Error::protocol(ErrorType::Unauthorized, "the token lacks claims that are needed here")
        })
    }
}

/// Prints the names only, because the values are private.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
