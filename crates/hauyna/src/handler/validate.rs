//! The part of the builder that checks the data of events: validators for one event or for all, and input
//! that validates itself. `dispatch` runs them before the handler.

use super::callback::{Signature, decode_valid};
use super::{Context, Handler};
use crate::error::Error;
use crate::validate::{Validate, Validator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;

impl Handler {
    /// Checks the events of one `type` before they are decoded: the whole message, `type` and `id` included.
    /// An invalid message never reaches the handler, and is answered with `validation_error` and all faults.
    /// Several validators all run.
    ///
    /// # Panics
    ///
    /// If `event` is one of the protocol's own request types; when the handler is mounted, if it does not
    /// handle this event.
    #[track_caller]
    pub fn validate(mut self, event: &str, validator: impl Validator) -> Self {
        self.assert_handles_messages("validate");
        super::check_event(event);
        let validators = self.endpoint.validators.get_or_insert_default();
        validators.by_event.entry(event.into()).or_default().push(Arc::new(validator));
        self
    }

    /// Checks every event of this handler like [`Handler::validate`], including those of
    /// [`Handler::on_message`]. The protocol's own requests are not events; see
    /// [`ChannelOptions::validate`](crate::ChannelOptions::validate) for publications.
    pub fn validate_all(mut self, validator: impl Validator) -> Self {
        self.assert_handles_messages("validate_all");
        self.endpoint.validators.get_or_insert_default().of_all.push(Arc::new(validator));
        self
    }

    /// Handles an event like [`Handler::on`], for input that validates itself after decoding.
    ///
    /// # Panics
    ///
    /// The panics of [`Handler::on`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hauyna::{Context, Handler};
    /// use hauyna::validate::{Invalid, Validate};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Booking { from: u32, to: u32 }
    ///
    /// impl Validate for Booking {
    ///     fn validate(&self) -> Result<(), Invalid> {
    ///         if self.from < self.to { Ok(()) } else { Err(Invalid::at("to", "is not after `from`")) }
    ///     }
    /// }
    ///
    /// async fn book(_: Context, booking: Booking) -> hauyna::Result<u32> {
    ///     Ok(booking.to - booking.from) // cannot underflow
    /// }
    ///
    /// let handler = Handler::new().on_valid("book", book);
    /// ```
    #[track_caller]
    pub fn on_valid<T, F, Fut, R>(self, event: &str, f: F) -> Self
    where
        T: Validate + DeserializeOwned + Send + 'static,
        F: Fn(Context, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: Serialize,
    {
        self.insert(event, Some(Signature::of::<T, R>()), decode_valid(f))
    }
}
