//! Decodes one message of a client and calls what handles its request.

use super::authority::{RequestStart, check_after_wait};
use super::{
    Attempt, Pending, Reply, admission, channels, client_events, direct, recovery, refresh, reply,
    with_recovery,
};
use crate::broker::{HistoryRange, Order, Published};
use crate::channel::{self, PublishOptions, SubscribeRequest, Subscription};
use crate::close::CloseReason;
use crate::connection::{ConnectionCore, deliver_answer};
use crate::driver::{CloseDetails, answer_behind_sent};
use crate::error::Error;
use crate::handler::Context;
use crate::outbox::Backlog;
use crate::presence;
use crate::session;
use bytes::Bytes;
use hauyna_broker::{Answer, BoxFuture, BrokerError, ChannelName, Content, PublicationKind};
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{Direction, ErrorType, Incoming, Limits, Raw, Request, RequestId};
use hauyna_websocket::OpCode;
use std::sync::Arc;

pub(super) type Core = Arc<ConnectionCore>;

/// Handles one message; appends its answer to `replies`, or returns the future of the answer.
pub(crate) fn dispatch(core: &Core, bytes: &[u8], replies: &mut Vec<u8>) -> Option<Pending> {
    let admitted = admission::admit_message(core, bytes.len());
    let (id, next) = match hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default()) {
        Ok(Incoming { id, request }) => match admitted {
            Ok(()) => (id.clone(), route(core, id, request, replies)),
            Err(error) => {
                // The `id` of an answer was assigned by the server.
                let id = id.filter(|_| !matches!(request, Request::Ack { .. } | Request::Refusal { .. }));
                (id.clone(), Next::Now(Reply::refused(id, error)))
            }
        },
        Err(fault) => {
            let id = fault.id.clone();
            let error = admitted.err().unwrap_or_else(|| fault.into());
            (id.clone(), Next::Now(Reply::refused(id, error)))
        }
    };
    let has_recovery = core.endpoint().on_error.is_some();
    match next {
        Next::Now(reply) if !has_recovery || !reply.is_failure() => {
            reply.write(core, replies);
            None
        }
        Next::Later(future) if !has_recovery => Some(Pending { id, future }),
        next => Some(recovery::run_with_recovery(core, id, Attempt::Message(bytes.into()), next)),
    }
}

/// Starts an attempt that has failed once more.
pub(super) fn retry(core: &Core, attempt: &Attempt) -> Next {
    let cx = Context::new(core.clone());
    let pending = match attempt {
        Attempt::Message(bytes) => {
            return match hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default()) {
                Ok(Incoming { id, request }) => route(core, id, request, &mut Vec::new()),
                Err(fault) => Next::Now(Reply::refused(fault.id.clone(), fault.into())),
            };
        }
        Attempt::Open => {
            let opened = core.endpoint().call_on_open(&cx);
            return match opened {
                Some(opened) => Next::Later(Box::pin(async move { Reply::of(None, opened.await) })),
                None => Next::Now(Reply::sent()),
            };
        }
        Attempt::Binary(bytes) => binary(core, bytes),
        Attempt::Ping(bytes) => core.endpoint().call_on_ping(&cx, bytes),
        Attempt::Pong(bytes) => core.endpoint().call_on_pong(&cx, bytes),
    };
    pending.map_or_else(|| Next::Now(Reply::sent()), |pending| Next::Later(pending.future))
}

fn route(core: &Core, id: Option<RequestId>, request: Request<'_>, replies: &mut Vec<u8>) -> Next {
    match request {
        Request::Ping => {
            reply::pong(core, id.as_ref(), replies);
            Next::Now(Reply::sent())
        }
        Request::Publish { channel, content, key, echo } => {
            let channel = &channel;
            channels::publish(core, id, channels::PublishRequest { channel, content, key, echo })
        }
        Request::ClientEvent { channel, event, data } => {
            client_events::client_event(core, id, &channel, &event, data)
        }
        Request::Subscribe { channel, metadata, recover, token } => {
            // The answer is queued in the outbox before the messages of the channel, so the earlier answers
            // go first.
            queue_replies(core, replies);
            let request = SubscribeRequest {
                metadata: metadata.map(|raw| raw.as_json().into()),
                recover,
                awaiting: None,
            };
            channels::subscribe(core, id, &channel, token.as_deref(), request)
        }
        Request::Unsubscribe { channel } => {
            // Before the answer to a subscription that the application makes right after it.
            queue_replies(core, replies);
            channels::unsubscribe(core, id, &channel)
        }
        Request::Private { to, message, key } => direct::private(core, id, &to, message, key),
        Request::Group { room, message, key } => direct::group(core, id, &room, message, key),
        Request::Broadcast { message, key } => direct::broadcast(core, id, message, key),
        Request::History { channel, since, limit, direction } => {
            let order = match direction {
                Direction::Forward => Order::Forward,
                Direction::Backward => Order::Reverse,
            };
            channels::history(core, id, &channel, HistoryRange::new(since, limit.unwrap_or(u32::MAX), order))
        }
        Request::Refresh { token } => refresh::refresh(core, id, &token),
        Request::Presence { channel, after, limit } => {
            channels::presence(core, id, &channel, after.as_deref(), limit)
        }
        Request::UpdatePresence { channel, metadata } => {
            channels::update_presence(core, id, &channel, metadata)
        }
        Request::UpdateStatus { body, .. } => update_status(core, id, body),
        Request::Ack { .. } | Request::Refusal { .. } => {
            answer(core, id.as_ref(), &request);
            Next::Now(Reply::sent())
        }
        Request::Resume { .. } => Next::Now(Reply::of(id, Ok(()))),
        Request::Event { name, body } => event(core, id, &name, body),
        _ => Next::Now(Reply::refused(id, unknown_event("this server does not offer this request"))),
    }
}

/// Handles a message ahead of earlier ones, if something waits for it: the first message of a client that
/// resumes, or an answer to an open client request. Returns false for any other message.
pub(crate) fn take_answer(core: &Core, bytes: &[u8]) -> bool {
    let message = hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default());
    if let Some(takeover) = core.takeover().filter(|takeover| takeover.is_awaiting()) {
        return session::first_message(takeover, message);
    }
    message.is_ok_and(|message| answer(core, message.id.as_ref(), &message.request))
}

/// Delivers a client's answer. Returns whether a client request was waiting for it.
fn answer(core: &Core, id: Option<&RequestId>, request: &Request<'_>) -> bool {
    match (id, request) {
        (Some(id), Request::Ack { data }) => deliver_answer(core, id, Ok(*data)),
        (Some(id), Request::Refusal { message }) => deliver_answer(core, id, Err(message.as_deref())),
        _ => false,
    }
}

/// Queues the answers so far, so that the next one can be queued under a lock and still comes after them.
fn queue_replies(core: &Core, replies: &mut Vec<u8>) {
    core.sender().wait_for_ordered_replies();
    if !replies.is_empty() {
        core.sender().push_reply(Bytes::copy_from_slice(replies));
        replies.clear();
    }
}

pub(super) enum Next {
    Now(Reply),
    Later(BoxFuture<Reply>),
}

impl Next {
    /// Makes the reply stay behind what a function of the application has sent while the request was handled.
    pub(super) fn behind_sent(self) -> Self {
        Self::Later(match self {
            Self::Now(reply) => Box::pin(answer_behind_sent(std::future::ready(reply))),
            Self::Later(reply) => Box::pin(answer_behind_sent(reply)),
        })
    }
}

/// A publication that a client requests.
pub(super) struct ClientPublication {
    pub(super) channel: ChannelName,
    pub(super) kind: PublicationKind,
    pub(super) content: Content,
    pub(super) options: PublishOptions,
    /// The publisher's subscription, for a publication in a channel.
    pub(super) subscription: Option<Arc<Subscription>>,
    /// Whether the publisher was a member of the group when the request came, for a message to a group.
    pub(super) is_of_member: bool,
}

/// Publishes for a client, once the shards that write the publication have room; the answer is ready at once
/// if the broker's is. `start` is given for a request that has waited, or about which the application was
/// asked: its client's rights are checked again.
pub(super) fn publish(
    core: &Core,
    id: Option<RequestId>,
    start: Option<RequestStart>,
    publication: ClientPublication,
) -> Next {
    if core.hub().is_congested_for(&publication.channel) {
        let (core, start) = (core.clone(), start.unwrap_or_else(|| RequestStart::now(core)));
        return Next::Later(Box::pin(async move {
            core.hub().wait_for_channel_room(&publication.channel).await;
            match check_after_wait(&core, start, &publication) {
                Ok(()) => Reply::published(id, publication.publish(&core).await),
                Err(error) => Reply::refused(id, error),
            }
        }));
    }
    if let Some(Err(error)) = start.map(|start| check_after_wait(core, start, &publication)) {
        return Next::Now(Reply::refused(id, error));
    }
    match publication.publish(core) {
        Answer::Ready(result) => Next::Now(Reply::published(id, result)),
        Answer::Pending(later) => Next::Later(Box::pin(async move { Reply::published(id, later.await) })),
    }
}

impl ClientPublication {
    fn publish(self, core: &Core) -> Answer<Result<Published, BrokerError>> {
        let Self { channel, kind, content, options, .. } = self;
        channel::publish(core.hub(), channel, kind, content, options)
    }
}

/// Handles a frame of the kind that the connection's encoding does not use: a message for `on_binary`, if the
/// handler has that callback.
pub(crate) fn unexpected_opcode(
    core: &Core,
    opcode: OpCode,
    payload: &[u8],
    replies: &mut Vec<u8>,
) -> Option<Pending> {
    if opcode != OpCode::Binary || core.endpoint().on_binary.is_none() {
        let code = CloseCode::UNSUPPORTED_DATA;
        let text = code.name().unwrap_or_default();
        let details = CloseDetails { code, text, reason: CloseReason::Protocol, backlog: Backlog::Drop };
        core.close_after_queued(replies, details);
        return None;
    }
    if let Err(error) = admission::admit_message(core, payload.len()) {
        Reply::refused(None, error).write(core, replies);
        return None;
    }
    binary(core, payload).map(|pending| with_recovery(core, || Attempt::Binary(payload.into()), pending))
}

/// Sets the status that a client shows where it is present. Its watchers may be in any shard, so it waits
/// until all shards have room.
fn update_status(core: &Core, id: Option<RequestId>, body: Raw<'_>) -> Next {
    let status =
        admission::admit_presence_update(core).and_then(|()| Ok(body.decode::<serde_json::Value>()?));
    let status = match status {
        Ok(status) => status,
        Err(error) => return Next::Now(Reply::refused(id, error)),
    };
    if !core.hub().is_congested() {
        return Next::Now(Reply::of(id, presence::update_status(core.hub(), core, &status)));
    }
    let (core, start) = (core.clone(), RequestStart::now(core));
    Next::Later(Box::pin(async move {
        core.hub().wait_for_any_room().await;
        let updated =
            start.check_rights(&core).and_then(|()| presence::update_status(core.hub(), &core, &status));
        Reply::of(id, updated)
    }))
}

fn binary(core: &Core, payload: &[u8]) -> Option<Pending> {
    let future = core.endpoint().on_binary.as_ref()?(Context::new(core.clone()), payload.to_vec());
    let future = Box::pin(async move { Reply::of_event(None, future.await.map(|()| None)) });
    Some(Pending { id: None, future })
}

fn event(core: &Core, id: Option<RequestId>, name: &str, body: Raw<'_>) -> Next {
    let endpoint = core.endpoint();
    let Some(task) = endpoint.events.get(name).or(endpoint.on_message.as_ref()) else {
        return Next::Now(Reply::refused(id, unknown_event("this type of message has no handler")));
    };
    if let Some(validators) = &endpoint.validators
        && let Err(error) = validators.check(core.metrics(), name, body)
    {
        return Next::Now(Reply::refused(id, error));
    }
    match task(Context::new(core.clone()), body) {
        Err(fault) => Next::Now(Reply::refused(id, fault.into())),
        Ok(future) => Next::Later(Box::pin(async move { Reply::of_event(id, future.await) })),
    }
}

pub(super) fn permission_denied(text: &'static str) -> Error {
    Error::protocol(ErrorType::PermissionDenied, text)
}

pub(super) fn unknown_event(text: &'static str) -> Error {
    Error::protocol(ErrorType::UnknownEvent, text)
}
