//! Client events: what subscribers send to each other besides publications, such as cursors. `ClientEvents`
//! declares the types of a pattern and their rates; `dispatch` checks each event with it before the event is
//! published.

use super::ChannelOptions;
use super::request::decoded;
use crate::connection::ConnectionCore;
use crate::contain::{self, Foreign};
use crate::error::{Error, Reject};
use crate::handler::Context;
use crate::once::call_once;
use crate::rate::Rate;
use hauyna_broker::ChannelName;
use hauyna_broker::name::check;
use hauyna_protocol::{Encoding, Raw};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// The client events of a pattern; see [`ChannelOptions::client_events`]. At most 16 types.
///
/// # Examples
///
/// ```
/// use hauyna::{ChannelOptions, Hub, Reject};
/// use hauyna::channel::ClientEvents;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Cursor {
///     x: f64,
///     y: f64,
/// }
///
/// let events = ClientEvents::new()
///     .event_of::<Cursor>("cursor", 20)
///     .event("typing", 5)
///     .on_event(|cx, event| match event.name() {
///         "cursor" if cx.user().starts_with("guest-") => Err(Reject::denied("guests have no cursor")),
///         _ => Ok(()),
///     });
/// let hub = Hub::builder().channels("room:{id}", ChannelOptions::new().client_events(events)).build();
/// # drop(hub);
/// ```
#[derive(Clone, Default)]
pub struct ClientEvents {
    /// The types, each with its maximum rate per second.
    rates: Vec<(Box<str>, u32)>,
    /// The check of the data of each type, in the same order.
    checks: Vec<Option<Check>>,
    callback: Option<Arc<Callback>>,
}

type Check = fn(Raw<'_>) -> Result<(), Reject>;
type Callback = dyn Fn(&Context, &ClientEvent<'_>) -> Result<(), Reject> + Send + Sync;

/// One client event, as [`ClientEvents::on_event`] sees it.
#[derive(Clone, Copy)]
pub struct ClientEvent<'a> {
    channel: &'a str,
    name: &'a str,
    data: Raw<'a>,
}

impl fmt::Debug for ClientEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientEvent")
            .field("channel", &self.channel)
            .field("name", &self.name)
            .field("bytes", &self.data.bytes().len())
            .finish()
    }
}

impl ClientEvent<'_> {
    /// Returns the name of the channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.channel
    }

    /// Returns the type of the event, which is one of the declared types.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Decodes the data. Missing data is `null`.
    ///
    /// # Errors
    ///
    /// `validation_error`, with the place of the fault in `details.path`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        decoded(self.data, "data")
    }
}

impl ClientEvents {
    /// Creates a set without types: clients can send no events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows events of this type, up to `per_second` from each connection: 1 to 1,000. After a pause, as
    /// many may come at once.
    ///
    /// # Panics
    ///
    /// Where the type is declared twice, is not a name of 1 to 255 bytes without control characters, or is
    /// the 17th one, or where the rate is not between 1 and 1,000.
    #[must_use]
    #[track_caller]
    pub fn event(self, name: &str, per_second: u32) -> Self {
        self.insert(name, per_second, None)
    }

    /// Allows events as [`ClientEvents::event`], whose data can be decoded into `T`; others are refused with
    /// `validation_error`.
    ///
    /// # Panics
    ///
    /// As [`ClientEvents::event`].
    #[must_use]
    #[track_caller]
    pub fn event_of<T: DeserializeOwned>(self, name: &str, per_second: u32) -> Self {
        self.insert(name, per_second, Some(|data| decoded::<T>(data, "data").map(drop)))
    }

    /// Sets a function that is called for each event within its rate, before the event is sent to the others.
    /// Where it refuses the event, nothing is sent. It runs on the task that reads from the connection, and
    /// must not block.
    ///
    /// # Panics
    ///
    /// Where it is called twice.
    #[must_use]
    #[track_caller]
    pub fn on_event<F>(mut self, f: F) -> Self
    where
        F: Fn(&Context, &ClientEvent<'_>) -> Result<(), Reject> + Send + Sync + 'static,
    {
        let f = Foreign::new(f);
        let f = Arc::new(move |cx: &Context, event: &ClientEvent<'_>| f(cx, event));
        call_once::<Arc<Callback>>(&mut self.callback, f, "on_event");
        self
    }

    #[track_caller]
    fn insert(mut self, name: &str, per_second: u32, check_data: Option<Check>) -> Self {
        if let Err(fault) = check(name, "event") {
            panic!("{}", fault);
        }
        assert!(
            (1..=MAX_RATE).contains(&per_second),
            "the rate of `{name}` must be 1 to {MAX_RATE} events a second"
        );
        assert!(self.index(name).is_none(), "the client event `{name}` is declared twice");
        assert!(
            self.rates.len() < MAX_EVENT_TYPES,
            "a pattern has at most {MAX_EVENT_TYPES} types of client events"
        );
        self.rates.push((name.into(), per_second));
        self.checks.push(check_data);
        self
    }

    /// Returns the types, each with its maximum rate per second.
    pub(super) fn rates(&self) -> &[(Box<str>, u32)] {
        &self.rates
    }

    /// Returns the index of a type among those of the pattern.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.rates.iter().position(|(declared, _)| **declared == *name)
    }

    pub(crate) fn rate(&self, index: usize) -> Rate {
        Rate::per_second(self.rates[index].1)
    }

    /// Whether the application has a function that is asked about each event.
    pub(crate) fn has_callback(&self) -> bool {
        self.callback.is_some()
    }

    /// Checks the data of an event that a connection sends, and calls the application's function.
    ///
    /// # Errors
    ///
    /// `validation_error`; the error with which the application refuses it; `internal_error` where its code
    /// panics.
    pub(crate) fn admit(
        &self,
        core: &Arc<ConnectionCore>,
        index: usize,
        channel: &ChannelName,
        data: Option<Raw<'_>>,
    ) -> Result<(), Error> {
        let data = data.unwrap_or(Raw::assume_valid(Encoding::Json, b"null"));
        let admitted = contain::call(&core.metrics().panics, || {
            if let Some(check_data) = self.checks[index] {
                check_data(data)?;
            }
            let Some(callback) = &self.callback else { return Ok(()) };
            let event = ClientEvent { channel: channel.as_str(), name: &self.rates[index].0, data };
            callback(&Context::new(core.clone()), &event)
        });
        match admitted {
            Ok(result) => result.map_err(Error::from),
            Err(contain::Panicked) => Err(Error::other("a callback panicked")),
        }
    }
}

impl fmt::Debug for ClientEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientEvents").field("rates", &self.rates).finish_non_exhaustive()
    }
}

impl ChannelOptions {
    /// Sets which events clients may send to the other subscribers besides publications, such as cursors, and
    /// how many a second. Default: none. Such an event has no position and is in no history; the connection
    /// that sends it does not get it. For a slow consumer, only the latest event of each sender and type
    /// waits, independently of [`ChannelOptions::slow_consumer`].
    ///
    /// Every subscriber may send the declared types. [`ChannelOptions::publishers`], `authorize_publish` and
    /// the validators of publications do not apply to them; [`ClientEvents::on_event`] does.
    ///
    /// They never reach the listeners of [`Hub::events`](crate::Hub::events): which events of the application
    /// clients may trigger is [`Handler::trigger_events`](crate::Handler::trigger_events).
    #[must_use]
    pub fn client_events(mut self, events: ClientEvents) -> Self {
        self.client_events = Some(Arc::new(events));
        self
    }

    /// Returns the client events of the pattern, each with its maximum rate per second.
    pub(crate) fn client_event_rates(&self) -> &[(Box<str>, u32)] {
        self.client_events.as_ref().map_or(&[], |events| events.rates())
    }
}

/// Maximum number of types of one pattern.
const MAX_EVENT_TYPES: usize = 16;
/// Maximum rate of one type, in events per second.
const MAX_RATE: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn types_and_rates_are_kept_in_their_order() {
        let events = ClientEvents::new().event("cursor", 20).event("typing", 5);
        assert_eq!(events.rates(), [("cursor".into(), 20), ("typing".into(), 5)]);
        assert_eq!((events.index("typing"), events.index("other")), (Some(1), None));
    }

    #[test]
    fn bad_declarations_panic_at_start() {
        let sixteen =
            || (0..MAX_EVENT_TYPES).fold(ClientEvents::new(), |all, n| all.event(&format!("e{n}"), 1));
        assert_eq!(sixteen().rates().len(), MAX_EVENT_TYPES);
        assert!(catch_unwind(|| sixteen().event("one more", 1)).is_err());
        for (name, rate) in [("", 1), ("a\u{7}", 1), (&*"x".repeat(256), 1), ("a", 0), ("a", 1001)] {
            assert!(catch_unwind(|| ClientEvents::new().event(name, rate)).is_err(), "{name} {rate}");
        }
        assert!(catch_unwind(|| ClientEvents::new().event("a", 1).event("a", 2)).is_err());
    }
}
