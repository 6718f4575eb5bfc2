//! The part of the builder that sets the bounds of a connection: time, bytes, and origins. `connection`,
//! `hub::sweep` and `router::admit` read them through the endpoint. A timeout never fires early; it fires
//! late by at most half of the shortest one, and by no more than two seconds.

use super::Handler;
use crate::config::Heartbeat;
use crate::once::call_once;
use crate::request::Origins;
use crate::retry::RetryPolicy;
use hauyna_websocket::{Deflate, DeflateConfig};
use std::time::Duration;

impl Handler {
    /// Sets how dead peers are detected. Default: a ping every 25 s, 8 s to answer.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.endpoint.heartbeat = Some(heartbeat);
        self
    }

    /// Sends no pings; a peer that vanishes is noticed at the next write to it, if at all.
    pub fn no_heartbeat(mut self) -> Self {
        self.endpoint.heartbeat = None;
        self
    }

    /// Marks a connection as [idle](crate::connection::ConnectionState::Idle) when no message came from it
    /// for this time. Pings and pongs do not count, so this separates users who are active from those who
    /// only have a page open. At least 10 ms. Default: a connection is idle when nothing was read from it for
    /// twice the heartbeat's interval.
    pub fn idle_after(mut self, timeout: Duration) -> Self {
        self.endpoint.idle_after = Some(timeout.max(Duration::from_millis(10)));
        self
    }

    /// Sets how long a message may take from its first byte to its last. Default: 30 s.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.message_timeout = timeout;
        self
    }

    /// Sets how long the socket may accept no bytes while some wait to be written. Default: 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.write_timeout = timeout;
        self
    }

    /// Sets how long a callback may run before its request is answered with `timeout`. Default: 30 s.
    pub fn callback_timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.callback_timeout = timeout;
        self
    }

    /// Sets how clients reconnect after a lost connection. The server sends them this policy. Default: the
    /// hub's policy, [`HubBuilder::retry_policy`](crate::HubBuilder::retry_policy).
    ///
    /// # Panics
    ///
    /// If a value is out of its range ([`RetryPolicy::validate`]).
    #[track_caller]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        if let Err(error) = policy.validate() {
            panic!("{error}");
        }
        self.endpoint.retry = Some(policy);
        self
    }

    /// Sets the largest message that is accepted, in bytes, whole or in fragments. Default: 64 KiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.endpoint.limits.message = bytes;
        self.endpoint.limits.frame = bytes;
        self
    }

    /// Offers permessage-deflate (RFC 7692) to clients that ask for it: without context takeover, for
    /// payloads of some hundred bytes and more, with one compression per broadcast.
    pub fn deflate(mut self) -> Self {
        self.endpoint.deflate = Some(Deflate::new(DeflateConfig::default()));
        self
    }

    /// Sets which web pages may connect. Default: pages of the same origin; clients other than browsers send
    /// no `Origin` and are not checked. A refused page is logged at `info`, with the origin that would have
    /// to be [listed](Origins::listed).
    ///
    /// # Panics
    ///
    /// If it is called twice: one `Origins` holds all pages.
    #[track_caller]
    pub fn origins(mut self, origins: Origins) -> Self {
        call_once(&mut self.origins, origins, "origins");
        self
    }
}
