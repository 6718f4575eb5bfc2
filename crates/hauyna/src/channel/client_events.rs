//! Client events: what subscribers send to each other beside the publications, such as cursors. `ClientEvents` declares
//! the types of a pattern and their rates; `dispatch` asks it before an event is published. Sends nothing itself.

use super::name::check;
use super::request::decoded;
use super::{ChannelName, ChannelOptions};
use crate::contain::{self, Foreign};
use crate::error::{Error, Reject};
use crate::handler::Context;
use crate::metrics::Counter;
use crate::once::call_once;
use crate::rate::Rate;
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
    /// Each type with how many a second.
    rates: Vec<(Box<str>, u32)>,
    /// What the data of each type must be.
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
    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.channel
    }

    /// Returns the type of the event, one that was declared.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Decodes the data; none is `null`.
    ///
    /// # Errors
    ///
    /// `validation_error`, with the place of the fault in `details.path`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        decoded(self.data, "data")
    }
}

impl ClientEvents {
    /// No events: clients send none.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows events of this type, `per_second` of each connection: 1 to 1,000. As many may come at once after a time
    /// without any.
    ///
    /// # Panics
    ///
    /// Where the type is declared twice, is no name of 1 to 255 bytes without control characters, or is the 17th one, or
    /// where the rate is not between 1 and 1,000.
    #[must_use]
    pub fn event(self, name: &str, per_second: u32) -> Self {
        self.insert(name, per_second, None)
    }

    /// As [`ClientEvents::event`], for events whose data can be decoded into `T`; others are refused with
    /// `validation_error`.
    ///
    /// # Panics
    ///
    /// As [`ClientEvents::event`].
    #[must_use]
    pub fn event_of<T: DeserializeOwned>(self, name: &str, per_second: u32) -> Self {
        self.insert(name, per_second, Some(|data| decoded::<T>(data, "data").map(drop)))
    }

    /// Calls `f` for each event that its rate allows, before it is sent to the others, or not at all where `f` refuses it.
    /// It runs on the task that reads from the connection, and must not block.
    ///
    /// # Panics
    ///
    /// Where it is called twice.
    #[must_use]
    pub fn on_event<F>(mut self, f: F) -> Self
    where
        F: Fn(&Context, &ClientEvent<'_>) -> Result<(), Reject> + Send + Sync + 'static,
    {
        let f = Foreign::new(f);
        let f = Arc::new(move |cx: &Context, event: &ClientEvent<'_>| f(cx, event));
        call_once::<Arc<Callback>>(&mut self.callback, f, "on_event");
        self
    }

    fn insert(mut self, name: &str, per_second: u32, check_data: Option<Check>) -> Self {
        if let Err(fault) = check(name, "event") {
            panic!("{}", fault.public_message());
        }
        assert!((1..=MAX_RATE).contains(&per_second), "`{name}`: 1 to {MAX_RATE} events a second");
        assert!(self.index(name).is_none(), "the client event `{name}` is declared twice");
        assert!(
            self.rates.len() < MAX_EVENT_TYPES,
            "a pattern has at most {MAX_EVENT_TYPES} types of client events"
        );
        self.rates.push((name.into(), per_second));
        self.checks.push(check_data);
        self
    }

    /// Each type with how many a second.
    pub(crate) fn rates(&self) -> &[(Box<str>, u32)] {
        &self.rates
    }

    /// Returns the place of a type among those of the pattern.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.rates.iter().position(|(own, _)| **own == *name)
    }

    pub(crate) fn rate(&self, index: usize) -> Rate {
        Rate::per_second(self.rates[index].1)
    }

    /// Checks the data of an event, and asks the application.
    ///
    /// # Errors
    ///
    /// `validation_error`; what the application refuses it with; `internal_error` where its code panics.
    pub(crate) fn admit(
        &self,
        index: usize,
        (channel, data): (&ChannelName, Option<Raw<'_>>),
        (cx, panics): (impl FnOnce() -> Context, &Counter),
    ) -> Result<(), Error> {
        let data = data.unwrap_or(Raw::assume_valid(Encoding::Json, b"null"));
        let asked = contain::call(panics, || {
            if let Some(check_data) = self.checks[index] {
                check_data(data)?;
            }
            let Some(callback) = &self.callback else { return Ok(()) };
            callback(&cx(), &ClientEvent { channel: channel.as_str(), name: &self.rates[index].0, data })
        });
        match asked {
            Ok(asked) => asked.map_err(Error::from),
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
    /// Sets which events clients may send to the other subscribers beside the publications, such as cursors, and how many a
    /// second. Default: none. Such an event has no position and is in no history; the connection that sends it does not
    /// get it. Of a consumer that lags only the latest of each sender and type waits, whatever
    /// [`ChannelOptions::slow_consumer`] says.
    ///
    /// Every subscriber may send them: they are allowed by being declared. Neither [`ChannelOptions::publishers`] nor
    /// `authorize_publish` nor a validator of publications is asked; [`ClientEvents::on_event`] is.
    #[must_use]
    pub fn client_events(mut self, events: ClientEvents) -> Self {
        self.client_events = Some(Arc::new(events));
        self
    }

    /// The client events of the pattern, each with how many a second.
    pub(crate) fn client_event_rates(&self) -> &[(Box<str>, u32)] {
        self.client_events.as_ref().map_or(&[], |events| events.rates())
    }
}

/// Types of one pattern, at most.
const MAX_EVENT_TYPES: usize = 16;
/// Events of one type a second, at most.
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
