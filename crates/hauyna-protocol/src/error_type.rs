//! The kinds of errors, `error_type` on the wire: the part of an error that programs may rely on. One table
//! serves Rust and, through the fixtures, all other clients.

use std::fmt;

macro_rules! error_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $lasting:ident;)*) => {
        /// The kind of an `error` message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorType {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorType {
            /// All kinds, in the order of the protocol's table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn is_temporary(self) -> bool {
                match self { $(Self::$variant => matches!(Lasting::$lasting, Lasting::Temporary),)* }
            }
        }
    };
}

error_types! {
    /// The frame is not JSON (or MessagePack), or not an object.
    ParseError = "parse_error", Permanent;
    /// `type` or another field is missing, empty or of the wrong kind; `details.path` names it.
    ValidationError = "validation_error", Permanent;
    /// No handler exists for this `type`.
    UnknownEvent = "unknown_event", Permanent;
    /// The credentials are missing or invalid.
    Unauthorized = "unauthorized", Permanent;
    /// The credentials have expired: refresh, then repeat.
    TokenExpired = "token_expired", Temporary;
    /// The application denied permission.
    PermissionDenied = "permission_denied", Permanent;
    /// The request needs a subscription that this connection does not have.
    NotSubscribed = "not_subscribed", Permanent;
    /// This connection is already subscribed to the channel.
    AlreadySubscribed = "already_subscribed", Permanent;
    /// The user has no connection; sent only if the deployment reveals it.
    UnknownUser = "unknown_user", Permanent;
    /// A limit of the deployment is exceeded: length of a name, nesting, metadata, channels per connection.
    LimitExceeded = "limit_exceeded", Permanent;
    /// Too many requests; `details.retry_after` is in milliseconds.
    RateLimited = "rate_limited", Temporary;
    /// The message as a whole is too big.
    PayloadTooLarge = "payload_too_large", Permanent;
    /// The handler took too long.
    Timeout = "timeout", Temporary;
    /// The broker cannot be reached; nothing was published.
    Unavailable = "unavailable", Temporary;
    /// A handler returned its own error; `details` is what it chose to show.
    ApplicationError = "application_error", Permanent;
    /// Anything else. The text never shows internals.
    InternalError = "internal_error", Temporary;
}

/// Second column of the table above.
enum Lasting {
    Permanent,
    Temporary,
}

impl std::str::FromStr for ErrorType {
    type Err = UnknownErrorType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|error| error.as_str() == name).ok_or(UnknownErrorType)
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An `error_type` of a later version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown error type")]
pub struct UnknownErrorType;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_type_is_found_by_its_name() {
        for error in ErrorType::ALL {
            assert_eq!(error.as_str().parse(), Ok(*error));
        }
        assert_eq!("nonsense".parse::<ErrorType>(), Err(UnknownErrorType));
    }
}
