//! What drives one connection. `open` registers it and starts its `task`, which writes what is queued, polls
//! the running `callback` and passes what it reads to `reader`; `read_ahead` reads on while a callback waits
//! for its own client. `announce` sends the first message, and `close` ends the connection.

mod announce;
mod callback;
mod close;
mod open;
mod read_ahead;
mod reader;
mod replies;
mod stream;
mod task;

pub(crate) use announce::{Resumed, announce_session};
pub(crate) use callback::{answer_behind_sent, call_for_request};
pub(crate) use close::{CloseDetails, close_replaced, evict};
pub(crate) use open::{Opening, SessionAnnouncement, UnopenedConnection, register};
