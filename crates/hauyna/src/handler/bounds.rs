//! The part of the builder that bounds what a connection may take: time, bytes, and from which pages. Read by
//! `connection`, `hub::sweep` and `router::admit` through the endpoint. No time-out of it is early; each is late by half
//! of the shortest one at most, and by no more than two seconds.

use super::Handler;
use crate::config::Heartbeat;
use crate::once::call_once;
use crate::retry::RetryPolicy;
use crate::router::Origins;
use hauyna_websocket::{Deflate, DeflateConfig};
use std::time::Duration;

impl Handler {
    /// Sets how liveness is watched. Default: a ping every 25 s, 8 s to answer.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.endpoint.heartbeat = Some(heartbeat);
        self
    }

    /// Sends no pings; a peer that vanishes is noticed by its next write, if at all.
    pub fn no_heartbeat(mut self) -> Self {
        self.endpoint.heartbeat = None;
        self
    }

    /// Takes a connection for [idle](crate::connection::ConnectionState::Idle) when no message came from it for so long: pings
    /// and pongs do not count, so this tells who is there from who only has a page open. At least 10 ms. Default:
    /// idle is who was not heard at all for twice the heartbeat's interval.
    pub fn idle_after(mut self, patience: Duration) -> Self {
        self.endpoint.idle_after = Some(patience.max(Duration::from_millis(10)));
        self
    }

    /// Sets how long a message may take from its first byte to its last. Default: 30 s.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.message_timeout = timeout;
        self
    }

    /// Sets how long the socket may take nothing while something waits. Default: 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.write_timeout = timeout;
        self
    }

    /// Sets how long a callback may take before its request is answered with `timeout`. Default: 30 s.
    pub fn callback_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.callback_timeout = timeout;
        self
    }

    /// Sets how clients come back after a loss; they are told. Default: the hub's policy,
    /// [`HubBuilder::retry_policy`](crate::HubBuilder::retry_policy).
    ///
    /// # Panics
    ///
    /// Where a value is out of its range ([`RetryPolicy::validate`]).
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        if let Err(error) = policy.validate() {
            panic!("{error}");
        }
        self.endpoint.retry = Some(policy);
        self
    }

    /// Sets the largest message taken, in bytes, whole or in fragments. Default: 64 KiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.endpoint.limits.message = bytes;
        self.endpoint.limits.frame = bytes;
        self
    }

    /// Offers permessage-deflate (RFC 7692) to clients that ask for it: no context takeover, payloads of
    /// some hundred bytes and more, one compression per broadcast.
    pub fn deflate(mut self) -> Self {
        self.endpoint.deflate = Some(Deflate::new(DeflateConfig::default()));
        self
    }

    /// Sets which web pages may connect. Default: those of the same origin; clients that are no browsers
    /// send no `Origin` and are not asked. A page that is refused has its line in the log, at `info`, with the origin
    /// that would have to be [listed](Origins::listed).
    ///
    /// # Panics
    ///
    /// Where it is called twice: one `Origins` holds all pages.
    pub fn origins(mut self, origins: Origins) -> Self {
        call_once(&mut self.origins, origins, "origins");
        self
    }
}
