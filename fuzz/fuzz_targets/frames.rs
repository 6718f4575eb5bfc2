//! Any bytes through our decoder and through tungstenite, as either role and cut at will: no panic, the same
//! events, and no difference in the verdict that the oracle does not list.
#![no_main]

#[path = "../../crates/hauyna-websocket/tests/it/oracle.rs"]
mod oracle;
#[path = "../../crates/hauyna-websocket/tests/it/owned.rs"]
mod owned;

use hauyna_websocket::Role;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [first, stream @ ..] = input else { return };
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let size = usize::from(first >> 1);
    oracle::compare(role, if size == 0 { stream.len() } else { size }, stream);
});
