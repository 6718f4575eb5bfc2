//! Sockets. A plain TCP stream is written by every holder of the outbox (the fast path); any other byte
//! stream (TLS, HTTP/2, in memory) is read and written only by its connection's task. `upgrade` gets one or
//! the other out of an HTTP request, and `rewound` is the stream that hyper gets. Only this module names
//! hyper's upgrades.

mod rewound;
mod scratch;
mod socket;
mod upgrade;

pub(crate) use rewound::Rewound;
pub(crate) use scratch::{with_replies, with_scratch};
pub(crate) use socket::{Io, Link, Socket};
pub(crate) use upgrade::{on_upgrade, upgraded};
