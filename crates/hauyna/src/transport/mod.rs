//! Sockets. A plain TCP stream is written by whoever has something for it (the fast path); any other
//! byte stream (TLS, HTTP/2, in memory) is read and written by its connection's own task. `upgrade` gets
//! one or the other out of an HTTP request; `rewound` is what hyper is given. The only module that names hyper's upgrades.

mod rewound;
mod scratch;
mod socket;
mod upgrade;

pub(crate) use rewound::Rewound;
pub(crate) use scratch::{with_replies, with_scratch};
pub(crate) use socket::{Io, Link, Socket};
pub(crate) use upgrade::{on_upgrade, upgraded};
