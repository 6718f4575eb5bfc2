//! What clients send outside publications in the reference: client events, and the metadata of one
//! connection.

use super::{Device, Holder, PLAIN, Reference};
use hauyna::json;
use serde_json::Value;

impl Reference {
    /// Sends a client event. Returns whether the sender may.
    pub(crate) fn client_event(&mut self, device: u64, channel: &'static str, data: u64) -> bool {
        let Device { user, line, ref channels, .. } = self.devices[&device];
        let may = channels.contains_key(channel);
        if may {
            let message = json!({ "type": "client_event", "channel": channel, "event": "cursor", "user": user,
                "data": data });
            let is_for = |other: &Device| other.channels.contains_key(channel) && other.line != line;
            self.send(is_for, &lane_of_events(channel), &message);
        }
        may
    }

    /// Updates what one connection says about itself in a channel. Returns the error type if it may not.
    pub(crate) fn describe(
        &mut self,
        device: u64,
        channel: &'static str,
        metadata: &Value,
    ) -> Result<(), &'static str> {
        let own = self.devices.get_mut(&device).expect("invariant: the caller checked that it exists");
        let said = own.channels.get_mut(channel).ok_or("not_subscribed")?;
        if channel == PLAIN {
            return Err("validation_error");
        }
        if std::mem::replace(said, metadata.clone()) != *metadata {
            let user = own.user;
            let places = self.rooms.get_mut(channel).and_then(|room| room.users.get_mut(user));
            let place = places.into_iter().flatten().find(|place| place.holder == Holder::Device(device));
            place.expect("invariant: the caller checked that it exists").metadata = metadata.clone();
            self.tell("update", user, channel, (Some(device), None));
        }
        Ok(())
    }
}

/// Returns the lane of client events, which have no order relative to other messages of a channel.
pub(crate) fn lane_of_events(channel: &str) -> String {
    format!("events of {channel}")
}
