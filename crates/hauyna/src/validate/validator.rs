//! The traits of validators, and the table of them that a handler has.

use crate::contain;
use crate::counters::Metrics;
use crate::error::Error;
use hauyna_protocol::{Encoding, ErrorType, Fault, Raw};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Checks values that clients send: events of the application
/// ([`Handler::validate`](crate::Handler::validate)), or publications in channels
/// ([`ChannelOptions::validate`](crate::ChannelOptions::validate)). Closures with these two arguments
/// implement it, and so does `Schema`, with the feature `json-schema`.
///
/// It runs on the connection's task, so it must not block. Where it panics, the request fails.
///
/// # Examples
///
/// ```
/// use hauyna::Handler;
/// use hauyna::validate::Invalid;
/// use serde_json::Value;
///
/// let handler = Handler::new().validate("move", |_: &str, value: &Value| match value["x"].as_i64() {
///     Some(0..=7) => Ok(()),
///     _ => Err(Invalid::at("x", "is not on the board")),
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no validator",
    label = "expected a closure `Fn(&str, &Value) -> Result<(), Invalid>`, a `Schema` or a `Validator`",
    note = "name the types of the closure's parameters: `|event: &str, data: &hauyna::Value| ..`"
)]
pub trait Validator: Send + Sync + 'static {
    /// Checks a value. `name` is the `type` of the event, or the name of the channel.
    ///
    /// # Errors
    ///
    /// The faults of the value.
    fn validate(&self, name: &str, value: &Value) -> Result<(), Invalid>;
}

impl<F> Validator for F
where
    F: Fn(&str, &Value) -> Result<(), Invalid> + Send + Sync + 'static,
{
    fn validate(&self, name: &str, value: &Value) -> Result<(), Invalid> {
        self(name, value)
    }
}

/// Typed input that can check itself beyond its type; see [`Handler::on_valid`](crate::Handler::on_valid).
pub trait Validate {
    /// Checks the value.
    ///
    /// # Errors
    ///
    /// The faults of the value.
    fn validate(&self) -> Result<(), Invalid>;
}

/// The faults of a value: one or several, each with its path. A client gets all of them in a
/// `validation_error`; the path of the first is also in `details.path`.
///
/// # Examples
///
/// ```
/// use hauyna::validate::Invalid;
/// let invalid = Invalid::at("items[2].price", "is negative").and("items[4]", "is there twice");
/// assert_eq!(invalid.to_string(), "`items[2].price` is negative; `items[4]` is there twice");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(Vec<Flaw>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw {
    path: String,
    text: String,
}

impl Invalid {
    /// Creates an error with one fault. `path` has names joined with dots, and indices in brackets; it is
    /// empty for the value as a whole. `text` continues the sentence that the path begins ("is negative").
    pub fn at(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self(Vec::new()).and(path, text)
    }

    /// Adds a fault. At most 16 faults are kept, and texts are cut at 200 bytes, because clients choose the
    /// values, and an error must not be as long as the value.
    #[must_use]
    pub fn and(mut self, path: impl Into<String>, text: impl Into<String>) -> Self {
        if self.0.len() < MAX_FLAWS {
            self.0.push(Flaw { path: cut(path.into()), text: cut(text.into()) });
        }
        self
    }

    /// Returns the faults: path and text of each.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|flaw| (flaw.path.as_str(), flaw.text.as_str()))
    }

    /// Adds the faults of another error.
    pub(super) fn join(self, other: Self) -> Self {
        other.0.into_iter().fold(self, |all, flaw| all.and(flaw.path, flaw.text))
    }

    /// Prefixes all paths with a field, for a value that is a field of another value.
    pub(super) fn within(mut self, field: &str) -> Self {
        for flaw in &mut self.0 {
            let is_index = flaw.path.is_empty() || flaw.path.starts_with('[');
            flaw.path = cut(format!("{field}{}{}", if is_index { "" } else { "." }, flaw.path));
        }
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, flaw) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            match flaw.path.as_str() {
                "" => write!(f, "{comma}the message {}", flaw.text)?,
                path => write!(f, "{comma}`{path}` {}", flaw.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        let faults: Vec<Value> =
            invalid.faults().map(|(path, text)| json!({ "path": path, "message": text })).collect();
        let path = invalid.faults().next().map_or("", |(path, _)| path);
        let details = json!({ "path": path, "faults": faults });
        let message = Invalid(invalid.0[..1].to_vec()).to_string().into();
        Self { id: None, error: ErrorType::ValidationError, message, details: Some(details) }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Fault::from(invalid).into()
    }
}

/// The validators of one handler.
#[derive(Default)]
pub(crate) struct Validators {
    /// Validators of every event.
    pub(crate) of_all: Vec<Arc<dyn Validator>>,
    /// Validators of single events.
    pub(crate) by_event: HashMap<Box<str>, Vec<Arc<dyn Validator>>>,
}

impl Validators {
    /// Checks an event before its handler gets it.
    pub(crate) fn check(&self, metrics: &Metrics, event: &str, body: Raw<'_>) -> Result<(), Error> {
        let of_event = self.by_event.get(event).map(Vec::as_slice).unwrap_or_default();
        if of_event.is_empty() && self.of_all.is_empty() {
            return Ok(());
        }
        let value: Value = body.decode()?;
        Ok(all(self.of_all.iter().chain(of_event), metrics, event, &value)?.map_or(Ok(()), Err)?)
    }
}

/// Checks what a client publishes in a channel.
pub(crate) fn check_content(
    validators: &[Arc<dyn Validator>],
    metrics: &Metrics,
    channel: &str,
    content: Raw<'_>,
) -> Result<(), Error> {
    let value: Value = content.decode()?;
    let invalid = all(validators.iter(), metrics, channel, &value)?;
    Ok(invalid.map_or(Ok(()), |invalid| Err(invalid.within("content")))?)
}

/// A validator that checks that a value can be decoded into `T`.
pub(crate) fn of_type<T: DeserializeOwned>(_: &str, value: &Value) -> Result<(), Invalid> {
    if T::deserialize(value).is_ok() {
        return Ok(());
    }
    // Decoded again from text, because that returns the place of the fault.
    let text = value.to_string();
    let Err(fault) = Raw::assume_valid(Encoding::Json, text.as_bytes()).decode::<T>() else { return Ok(()) };
    let path = fault.details.as_ref().and_then(|details| details["path"].as_str()).unwrap_or_default();
    let subject = if path.is_empty() { "the message ".to_owned() } else { format!("`{path}` ") };
    Err(Invalid::at(path, fault.message.strip_prefix(&subject).unwrap_or(&fault.message)))
}

/// Runs all validators, so that a client gets all faults at once.
fn all<'a>(
    validators: impl Iterator<Item = &'a Arc<dyn Validator>>,
    metrics: &Metrics,
    name: &str,
    value: &Value,
) -> Result<Option<Invalid>, Error> {
    let mut found: Option<Invalid> = None;
    for validator in validators {
        let result = contain::call(&metrics.panics, || validator.validate(name, value));
        let Ok(result) = result else {
            return Err(Error::other("a validator panicked"));
        };
        if let Err(invalid) = result {
            found = Some(match found {
                Some(before) => before.join(invalid),
                None => invalid,
            });
        }
    }
    Ok(found)
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Maximum number of faults in one error.
pub(super) const MAX_FLAWS: usize = 16;
/// Maximum length of a path or a text, in bytes.
const MAX_TEXT_BYTES: usize = 200;
