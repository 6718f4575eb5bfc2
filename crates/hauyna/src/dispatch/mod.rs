//! Handles one message of a client: decodes it, checks whether the client may, calls the hub, answers. The
//! reader of a connection calls it; a request that has to wait is returned as a future, every other one is
//! answered in line.

mod admission;
mod authority;
mod channels;
mod client_events;
mod direct;
mod recovery;
mod refresh;
mod reply;
mod route;

pub(crate) use admission::{Meters, Remainder, keep_remainder, take_remainder};
pub(crate) use client_events::ClientEventRates;
pub(crate) use recovery::{Attempt, open_with_recovery, with_recovery};
pub(crate) use reply::{Pending, Reply, error_frame};
pub(crate) use route::{dispatch, take_answer, unexpected_opcode};

use route::{ClientPublication, Core, Next, permission_denied, publish, retry, unknown_event};
