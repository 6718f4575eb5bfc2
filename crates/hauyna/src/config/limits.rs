//! The limits of the number of connections, as the application sets them. `hub::limits` enforces them.

use crate::error::{Error, Reject};
use hauyna_protocol::ErrorType;
use http::StatusCode;

/// The limits that [`HubBuilder::at_limit`](crate::HubBuilder::at_limit) can set a policy for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// All connections of this node: [`HubBuilder::max_connections`](crate::HubBuilder::max_connections).
    Total,
    /// The connections of one user:
    /// [`HubBuilder::max_connections_per_user`](crate::HubBuilder::max_connections_per_user).
    PerUser,
    /// The connections from one address:
    /// [`HubBuilder::max_connections_per_address`](crate::HubBuilder::max_connections_per_address).
    PerAddress,
}

/// What happens to a client that wants to connect when a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AtLimit {
    /// The client is refused: with 503 for the limit of all connections, with 429 for the others. The
    /// default.
    #[default]
    Reject,
    /// The client takes the place of the oldest connection, which is closed with 3504 (stay away) and
    /// [`CloseReason::Replaced`](crate::CloseReason::Replaced).
    CloseOldest,
}

/// One limit of a hub's options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitOptions {
    pub(crate) max: usize,
    pub(crate) at_limit: AtLimit,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self { max: usize::MAX, at_limit: AtLimit::default() }
    }
}

impl Limit {
    /// The narrow limits first: a connection closed for one of them makes room under the others, too.
    pub(crate) const ALL: [Self; 3] = [Self::PerUser, Self::PerAddress, Self::Total];

    /// Returns the method of the builder that sets the limit.
    fn method(self) -> &'static str {
        match self {
            Self::Total => "max_connections",
            Self::PerUser => "max_connections_per_user",
            Self::PerAddress => "max_connections_per_address",
        }
    }

    /// Returns the refusal for a client beyond the limit.
    pub(crate) fn reject(self) -> Reject {
        let (kind, status, text) = match self {
            Self::Total => (
                ErrorType::Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "connection limit reached for this server",
            ),
            Self::PerUser => (
                ErrorType::LimitExceeded,
                StatusCode::TOO_MANY_REQUESTS,
                "connection limit reached for this user",
            ),
            Self::PerAddress => (
                ErrorType::LimitExceeded,
                StatusCode::TOO_MANY_REQUESTS,
                "connection limit reached for this address",
            ),
        };
        Reject::new(kind, status, text)
    }
}

/// Checks that the limit of each `CloseOldest` policy is set.
///
/// # Errors
///
/// `Config`, with the method that sets the limit.
pub(crate) fn check_policies(bounds: &[LimitOptions; 3]) -> Result<(), Error> {
    for limit in Limit::ALL {
        let LimitOptions { max, at_limit } = bounds[limit as usize];
        if at_limit == AtLimit::CloseOldest && max == usize::MAX {
            let method = limit.method();
            return Err(Error::config(format!(
                "`at_limit` closes the oldest connection at a limit that is not set; set it with `{method}`"
            )));
        }
    }
    Ok(())
}
