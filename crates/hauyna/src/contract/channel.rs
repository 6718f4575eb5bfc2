//! The part of a contract for the channels of one pattern: a builder, which `Contract::channel` takes.

use super::check;
use super::declared::{Declared, Side};
use super::{ChannelTerms, agreed};
use crate::once::call_once;
use schemars::JsonSchema;
use serde::Serialize;

/// The types of the messages in the channels of one pattern; see
/// [`Contract::channel`](super::Contract::channel).
#[derive(Debug, Clone)]
#[must_use]
pub struct ChannelContract {
    pub(super) terms: ChannelTerms<Declared>,
}

impl ChannelContract {
    /// Creates an empty contract of a channel.
    pub fn new() -> Self {
        Self { terms: ChannelTerms::default() }
    }

    /// Declares the `content` of publications, both of clients and of the application. To enforce it for
    /// clients, call [`ChannelOptions::content`](crate::ChannelOptions::content) with the same type.
    ///
    /// # Panics
    ///
    /// Where it is declared twice.
    pub fn content<T: JsonSchema + Serialize>(self) -> Self {
        self.insert(CONTENT, Declared::of::<T>(Side::Output))
    }

    /// Declares a message of the application with this `type`; `T` has the fields besides `type`.
    ///
    /// # Panics
    ///
    /// Where it is declared twice, the name is one of the protocol, or `T` is not an object.
    pub fn message<T: JsonSchema + Serialize>(self, name: &str) -> Self {
        let message = Declared::of::<T>(Side::Output);
        agreed(check::in_channel(name, &message));
        self.insert(name, message)
    }

    /// Declares several messages of the application by an enum with `#[serde(tag = "type")]`: each variant is
    /// one, and [`Channel::broadcast`](crate::Channel::broadcast) takes its values.
    ///
    /// # Panics
    ///
    /// As [`ChannelContract::message`]; also where `T` is not such an enum.
    pub fn messages<T: JsonSchema + Serialize>(self) -> Self {
        agreed(Declared::of::<T>(Side::Output).variants()).into_iter().fold(self, |this, (name, message)| {
            agreed(check::in_channel(&name, &message));
            this.insert(&name, message)
        })
    }

    /// Declares the data of client events of this type; `()` is an event without data. To enforce it, call
    /// [`ClientEvents::event_of`](crate::channel::ClientEvents::event_of) with the same type.
    ///
    /// # Panics
    ///
    /// Where it is declared twice, or its name is not valid.
    #[track_caller]
    pub fn client_event<T: JsonSchema + Serialize>(mut self, name: &str) -> Self {
        agreed(check::name(name));
        let old = self.terms.client_events.insert(name.to_owned(), Declared::of::<T>(Side::Output));
        assert!(old.is_none(), "the client event `{name}` is declared twice");
        self
    }

    /// Declares the `metadata` of subscriptions, which clients send and other subscribers see.
    ///
    /// # Panics
    ///
    /// Where `T` is not an object, or the method is called twice.
    #[track_caller]
    pub fn subscription<T: JsonSchema + Serialize>(mut self) -> Self {
        call_once(&mut self.terms.subscription, metadata::<T>(), "subscription");
        self
    }

    /// Declares the `metadata` of present users.
    ///
    /// # Panics
    ///
    /// Where `T` is not an object, or the method is called twice.
    #[track_caller]
    pub fn presence<T: JsonSchema + Serialize>(mut self) -> Self {
        call_once(&mut self.terms.presence, metadata::<T>(), "presence");
        self
    }

    fn insert(mut self, name: &str, message: Declared) -> Self {
        let old = self.terms.messages.insert(name.to_owned(), message);
        assert!(old.is_none(), "the message `{name}` is declared twice");
        self
    }
}

impl Default for ChannelContract {
    fn default() -> Self {
        Self::new()
    }
}

fn metadata<T: JsonSchema + Serialize>() -> Declared {
    let metadata = Declared::of::<T>(Side::Output);
    agreed(check::metadata(&metadata));
    metadata
}

/// The key under which the content of publications is stored among the messages of a channel.
pub(super) const CONTENT: &str = "message";

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn client_event_has_a_name_that_no_other_has() {
        let declare = |names: &[&str]| {
            names.iter().fold(ChannelContract::new(), |channel, name| channel.client_event::<u8>(name))
        };
        assert_eq!(declare(&["cursor", "typing"]).terms.client_events.len(), 2);
        for names in [["a", "a"], ["a", ""], ["a", "b\n"]] {
            assert!(catch_unwind(|| declare(&names)).is_err(), "{names:?}");
        }
    }
}
