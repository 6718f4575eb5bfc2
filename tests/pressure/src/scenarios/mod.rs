//! The scenarios, by kind of pressure. Each sets up its clients, calls `Stage::begin`, applies the pressure,
//! and declares what every reader must receive. The stage checks it.

mod bursts;
mod control;
mod floods;
mod list;
mod order;
mod recoveries;
mod stalls;

pub(crate) use list::{SCENARIOS, Scenario};
