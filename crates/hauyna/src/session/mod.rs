//! What survives a lost connection. `Sessions` keeps the sessions of lost connections while their clients may
//! return, and hands them over to the connections that present their `token`. `claim` checks the token,
//! `takeover` holds the state of a takeover, `resume` runs it, `store` holds the kept sessions, and `end`
//! ends those whose clients do not return. A live connection costs nothing here.

mod claim;
mod end;
mod resume;
mod sessions;
mod store;
mod takeover;
mod token;
mod weight;

pub(crate) use claim::{OwnExpiry, PresentedToken, RestoredIdentity};
pub(crate) use end::{close, end_all, end_due, end_matching, end_session_of, unsubscribe, unsubscribe_all};
pub(crate) use resume::{first_message, resume};
pub(crate) use sessions::Sessions;
pub(crate) use store::{KeptSubscription, SessionContent};
pub(crate) use takeover::{Claim, Takeover};
