//! Errors of brokers, and of the names and contents that they get.

use std::borrow::Cow;

/// A name or a content that is not valid. Its text says what is wrong and repeats nothing of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub(crate) String);

/// A failure of the broker: the publication or subscription did not happen, or it is unknown whether it did.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    message: Cow<'static, str>,
    is_unknown: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BrokerError {
    /// Creates a failure with a text: nothing happened.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), is_unknown: false, source: None }
    }

    /// Creates a failure with a text, after which the operation may have happened: an answer was lost.
    pub fn unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_unknown: true, ..Self::new(message) }
    }

    /// Creates a failure caused by another error: nothing happened.
    pub fn from_source(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new("the broker failed") }
    }

    /// Whether the operation may have happened.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }
}
