//! The answer to one request, and how it is written: an `ack` if the client gave an `id`, an `error` in any
//! case. Of an internal error only its kind is sent. `dispatch` makes the answers, the connection's driver
//! writes them.

use super::{Core, admission};
use crate::broker::{Continuity, HistoryPage, Published};
use crate::channel;
use crate::close::CloseReason;
use crate::connection::{Connection, ConnectionCore, append_frame, append_payload, frame};
use crate::contain;
use crate::driver::CloseDetails;
use crate::error::Error;
use crate::event::emit;
use crate::handler::EventAnswer;
use crate::outbox::{Backlog, SessionNotice};
use bytes::Bytes;
use hauyna_broker::{BoxFuture, BrokerError, ChannelName};
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{
    AckData, Encoding, ErrorMessage, ErrorType, Message, Position, RecoveryFailure, RequestId,
};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// A request whose answer is not ready yet.
pub(crate) struct Pending {
    /// The `id` of the request, for the case that its future panics or takes too long.
    pub(crate) id: Option<RequestId>,
    pub(crate) future: BoxFuture<Reply>,
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Reply {
    id: Option<RequestId>,
    result: Result<Data, Error>,
    /// Whether a callback of the application handled the request.
    is_of_callback: bool,
}

#[derive(Debug)]
enum Data {
    /// The answer has been sent already.
    Sent,
    /// An error that is not sent to the client.
    Ignored(ErrorType),
    /// A close of the connection instead of an answer.
    Close(CloseCode, Cow<'static, str>),
    Nothing,
    Value(Value),
    Position(Position),
    /// The whole message, in the connection's encoding.
    Message(Vec<u8>),
    History {
        channel: ChannelName,
        top: Position,
        oldest: u64,
        messages: Vec<Vec<u8>>,
    },
}

impl Reply {
    fn new(id: Option<RequestId>, result: Result<Data, Error>) -> Self {
        Self { id, result, is_of_callback: false }
    }

    /// Marks the answer as one of an application's callback, so that it comes after what the callback has
    /// sent.
    pub(super) fn of_callback(self) -> Self {
        Self { is_of_callback: true, ..self }
    }

    pub(crate) fn is_of_callback(&self) -> bool {
        self.is_of_callback
    }

    pub(super) fn sent() -> Self {
        Self::new(None, Ok(Data::Sent))
    }

    pub(super) fn refused(id: Option<RequestId>, error: Error) -> Self {
        Self::new(id, Err(error))
    }

    pub(super) fn ignored(error: ErrorType) -> Self {
        Self::new(None, Ok(Data::Ignored(error)))
    }

    pub(super) fn closing(code: CloseCode, reason: Cow<'static, str>) -> Self {
        Self::new(None, Ok(Data::Close(code, reason)))
    }

    /// Whether `on_error` is called for it.
    pub(super) fn is_failure(&self) -> bool {
        self.result.as_ref().is_err_and(|error| error.error_type() != ErrorType::RateLimited)
    }

    /// Returns the error, or the reply if it is not an error.
    pub(super) fn into_refusal(self) -> Result<Self, Error> {
        let Self { id, result, is_of_callback } = self;
        result.map(|data| Self { id, result: Ok(data), is_of_callback })
    }

    /// Returns the result of `on_open`.
    pub(super) fn end_of_open(self, core: &Core) -> Result<(), Error> {
        match self.result {
            Err(error) => return Err(error),
            Ok(Data::Close(code, reason)) => {
                core.end_decision(SessionNotice::Session); // `on_open` has failed
                core.close(code, &reason, CloseReason::application(code), Backlog::Write);
            }
            Ok(_) => {}
        }
        Ok(())
    }

    pub(super) fn of(id: Option<RequestId>, result: Result<(), Error>) -> Self {
        Self::new(id, result.map(|()| Data::Nothing))
    }

    pub(crate) fn of_event(id: Option<RequestId>, result: Result<EventAnswer, Error>) -> Self {
        Self::new(id, result.map(|answer| answer.map_or(Data::Nothing, Data::Value))).of_callback()
    }

    pub(super) fn published(id: Option<RequestId>, result: Result<Published, BrokerError>) -> Self {
        let data = |published: Published| published.position.map_or(Data::Nothing, Data::Position);
        Self::new(id, result.map(data).map_err(Error::from))
    }

    /// Makes an answer whose data is borrowed from under a lock: it is encoded at once.
    pub(super) fn encoded(core: &Arc<ConnectionCore>, id: Option<RequestId>, data: AckData<'_>) -> Self {
        let Some(id) = id else { return Self::new(None, Ok(Data::Nothing)) };
        let mut message = Vec::new();
        Message::Ack { id: &id, data: Some(data) }.encode(core.wire().encoding(), &mut message);
        Self::new(Some(id), Ok(Data::Message(message)))
    }

    pub(super) fn history(
        id: Option<RequestId>,
        channel: ChannelName,
        page: Result<HistoryPage, BrokerError>,
        encoding: Encoding,
    ) -> Self {
        let result = page.map_err(Error::from).and_then(|page| {
            let lost = match page.continuity {
                Continuity::Whole | Continuity::TooMany => {
                    let messages = channel::encoded(&page.publications, encoding);
                    return Ok(Data::History { channel, top: page.top, oldest: page.oldest, messages });
                }
                Continuity::EpochChanged => RecoveryFailure::EpochChanged,
                Continuity::TooOld => RecoveryFailure::TooOld,
            };
            let error =
                Error::protocol(ErrorType::ValidationError, "the history does not reach back to `since`");
            Err(error.with_details(serde_json::json!({ "path": "since", "reason": lost.as_str() })))
        });
        Self::new(id, result)
    }

    /// Makes the answer for a callback that panicked.
    pub(crate) fn panicked(id: Option<RequestId>) -> Self {
        Self::refused(id, Error::other("a callback panicked")).of_callback()
    }

    /// Makes the answer for a callback that took too long.
    pub(crate) fn expired(id: Option<RequestId>) -> Self {
        Self::refused(id, Error::protocol(ErrorType::Timeout, "the handler took too long")).of_callback()
    }

    /// Appends the answer as a frame.
    pub(crate) fn write(self, core: &Core, replies: &mut Vec<u8>) {
        let data = match self.result {
            Ok(data) => data,
            Err(error) => {
                core.metrics().refuse(error.error_type());
                replies.extend_from_slice(&error_frame(core, self.id.as_ref(), &error));
                admission::charge_error(core, error.error_type(), replies);
                return error.discard(&core.metrics().panics);
            }
        };
        match &data {
            Data::Ignored(error) => {
                core.metrics().refuse(*error);
                return admission::charge_error(core, *error, replies);
            }
            Data::Close(code, reason) => {
                let code = *code;
                let text = reason;
                let reason = CloseReason::application(code);
                let details = CloseDetails { code, text, reason, backlog: Backlog::Write };
                return core.close_after_queued(replies, details);
            }
            _ => {}
        }
        let Some(id) = &self.id else { return };
        let messages: Vec<&[u8]>;
        let data = match &data {
            Data::Sent | Data::Ignored(_) | Data::Close(..) => return,
            Data::Nothing => None,
            Data::Value(value) => Some(AckData::Value(value)),
            Data::Message(message) => return append_payload(core, message, replies),
            Data::Position(position) => Some(AckData::Published(*position)),
            Data::History { channel, top, oldest, messages: encoded } => {
                messages = encoded.iter().map(Vec::as_slice).collect();
                let (channel, position, oldest) = (channel.as_str(), *top, *oldest);
                Some(AckData::History { channel, position, oldest, messages: &messages })
            }
        };
        append_frame(core, &Message::Ack { id, data }, replies);
    }
}

pub(super) fn pong(core: &Arc<ConnectionCore>, id: Option<&RequestId>, replies: &mut Vec<u8>) {
    append_frame(core, &Message::Pong { id }, replies);
}

/// Emits an event for an error that is not the client's fault.
fn report(core: &Core, error: &Error) {
    let error_type = error.error_type();
    if matches!(
        error_type,
        ErrorType::InternalError | ErrorType::ApplicationError | ErrorType::Timeout | ErrorType::Unavailable
    ) {
        emit!(
            core.hub().events,
            Errored {
                connection: Some(Connection::new(core.clone())),
                error_type,
                message: contain::call(&core.metrics().panics, || error.whole_text())
                    .unwrap_or_else(|_| error.public_message().to_owned()),
            }
        );
    }
}

/// Encodes an error as a frame for this connection. The log gets the details that the client does not see.
pub(crate) fn error_frame(core: &Core, id: Option<&RequestId>, error: &Error) -> Bytes {
    report(core, error);
    if error.error_type() == ErrorType::InternalError {
        crate::log::limited("internal error", || {
            let error = crate::log::error_text(error).counting(&core.metrics().panics);
            tracing::error!(target: "hauyna::connection", id = %core.id(), %error, "a request failed");
        });
    }
    let message = Message::Error(ErrorMessage {
        error: error.error_type(),
        message: error.public_message(),
        timestamp: crate::clock::unix_ms(),
        id,
        details: error.details(),
    });
    frame(core, &message)
}
