//! The crate's tests through its public API: golden tables, threats, round trips and the tungstenite oracle.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod deflate;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod owned;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod threats;
