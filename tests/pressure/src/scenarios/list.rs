//! The list of scenarios, each with its name and the policies with which it is run. `run` goes through it.

use super::{bursts, control, floods, order, recoveries, stalls};
use crate::server::Policy;
use crate::stage::Stage;
use anyhow::Result;
use std::pin::Pin;

/// One kind of pressure.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Policies with which it is run.
    pub(crate) policies: &'static [Policy],
    /// Whether the short run includes it.
    pub(crate) in_short: bool,
    pub(crate) run: for<'a> fn(&'a mut Stage) -> Running<'a>,
}

pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

const fn scenario(
    name: &'static str,
    policies: &'static [Policy],
    run: for<'a> fn(&'a mut Stage) -> Running<'a>,
) -> Scenario {
    Scenario { name, policies, in_short: true, run }
}

/// Creates a scenario that takes long even with few messages.
const fn long_scenario(
    name: &'static str,
    policies: &'static [Policy],
    run: for<'a> fn(&'a mut Stage) -> Running<'a>,
) -> Scenario {
    Scenario { name, policies, in_short: false, run }
}

const ALL: &[Policy] = &[Policy::Disconnect, Policy::DropOldest, Policy::DropNewest, Policy::Conflate];
const ONE: &[Policy] = &[Policy::Disconnect];

/// One policy that closes a slow reader, and one that keeps its waiting messages.
const STAYING: &[Policy] = &[Policy::Disconnect, Policy::DropNewest];

/// The policies that leave gaps.
const DROPPING: &[Policy] = &[Policy::DropOldest, Policy::DropNewest, Policy::Conflate];

/// All scenarios, in the order of the run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario("private-burst", ONE, |stage| Box::pin(bursts::private(stage))),
    scenario("group-burst", ONE, |stage| Box::pin(bursts::group(stage))),
    scenario("broadcast-burst", ONE, |stage| Box::pin(bursts::broadcast(stage))),
    scenario("channel-burst", ALL, |stage| Box::pin(bursts::channel(stage))),
    scenario("everybody-60k", ONE, |stage| Box::pin(bursts::everybody_large(stage))),
    scenario("everybody-10b", ONE, |stage| Box::pin(bursts::everybody_small(stage))),
    scenario("user-send", ONE, |stage| Box::pin(bursts::user_send(stage))),
    scenario("group-send", ONE, |stage| Box::pin(bursts::group_send(stage))),
    scenario("connection-send", ONE, |stage| Box::pin(bursts::connection_send(stage))),
    scenario("status-100-rooms", ONE, |stage| Box::pin(bursts::status(stage))),
    scenario("128-channels", ALL, |stage| Box::pin(bursts::many_channels(stage))),
    scenario("two-channels", ALL, |stage| Box::pin(bursts::two_channels(stage))),
    scenario("mixed-order", ONE, |stage| Box::pin(order::mixed(stage))),
    scenario("callback-order", ONE, |stage| Box::pin(order::callback(stage))),
    scenario("app-flood", ALL, |stage| Box::pin(floods::application(stage))),
    scenario("client-flood", ALL, |stage| Box::pin(floods::clients(stage))),
    scenario("callback-flood", ONE, |stage| Box::pin(floods::callbacks(stage))),
    scenario("arrivals", STAYING, |stage| Box::pin(floods::arrivals(stage))),
    scenario("private-flood", ONE, |stage| Box::pin(floods::private(stage))),
    scenario("send-flood", ONE, |stage| Box::pin(floods::send(stage))),
    scenario("stalled-reader", ALL, |stage| Box::pin(stalls::stalled(stage))),
    scenario("trickling-reader", ALL, |stage| Box::pin(stalls::trickling(stage))),
    scenario("stalled-presence", DROPPING, |stage| Box::pin(stalls::with_presence(stage))),
    scenario("client-events", STAYING, |stage| Box::pin(stalls::beside_client_events(stage))),
    scenario("state-loop", ONE, |stage| Box::pin(control::states(stage))),
    scenario("presence-lists", ONE, |stage| Box::pin(control::presence_lists(stage))),
    scenario("unread-answers", ONE, |stage| Box::pin(control::answers(stage))),
    scenario("slow-link-recovery", ALL, |stage| Box::pin(recoveries::slow_link(stage))),
    scenario("expired-histories", STAYING, |stage| Box::pin(recoveries::trickling(stage))),
    scenario("128-recoveries", STAYING, |stage| Box::pin(recoveries::many_channels(stage))),
    scenario("slow-broker", ONE, |stage| Box::pin(recoveries::slow_broker(stage))),
    long_scenario("hanging-broker", ONE, |stage| Box::pin(recoveries::hanging_broker(stage))),
];
