//! Sends client events, as often as each channel allows and while the socket has room.

use super::ClientTask;
use crate::codec;
use crate::logger;
use crate::shared::ChannelShared;
use hauyna_protocol::{Encoding, Raw, Request};
use std::sync::Arc;
use tokio::time::Instant;

impl ClientTask {
    /// Schedules the events of a channel for the next send.
    pub(super) fn schedule_events(&mut self, channel: &ChannelShared) {
        self.subscriptions.events_due.insert(channel.name.clone(), Instant::now());
    }

    /// Sends the events that are due.
    pub(super) fn send_events(&mut self, now: Instant) {
        if self.subscriptions.events_due.is_empty() {
            return;
        }
        let is_due = |at: &Instant| *at <= now;
        let due: Vec<_> = self
            .subscriptions
            .events_due
            .iter()
            .filter(|(_, at)| is_due(at))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if !self.sockets.has_room() {
                return; // They are sent once there is room. By then, each is the latest of its kind.
            }
            self.subscriptions.events_due.remove(&name);
            if let Some(channel) = self.channel(&name) {
                self.send_events_of(&channel, now);
            }
        }
    }

    fn send_events_of(&mut self, channel: &Arc<ChannelShared>, now: Instant) {
        let Some(encoding) = self.sockets.encoding() else { return };
        let mut queue = channel.events.lock();
        for (event, data) in queue.take(now) {
            let data = data.as_ref().map(|raw| Raw::assume_valid(Encoding::Json, raw.get().as_bytes()));
            let request = Request::ClientEvent {
                channel: channel.name.as_str().into(),
                event: event.as_str().into(),
                data,
            };
            let message = codec::encode(encoding, None, &request);
            if message.payload.len() > self.sockets.max_message {
                logger::log_too_large_event(&channel.name, &event);
                continue;
            }
            self.requests.outbox.note_other_frame(message.payload.len());
            self.sockets.send(&message);
        }
        if let Some(at) = queue.deadline() {
            self.subscriptions.events_due.insert(channel.name.clone(), at);
        }
    }

    /// Drops the events that wait, because the connection has ended and they are outdated.
    pub(super) fn close_events(&mut self) {
        self.shared.channels.each(|channel| channel.events.lock().close());
    }
}
