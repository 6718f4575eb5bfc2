//! One `match` over the requests of the protocol: may it? then the hub, then the answer. Called by the
//! reader with a whole message; what must wait comes back as a future, what need not is answered in line.

use crate::broker::{BoxFuture, HistoryRange, Order};
use crate::channel::{self, ChannelName, Content, PublicationKind, PublishOptions, SubscribeRequest};
use crate::connection::{Backlog, CloseDetails, CloseReason, ConnectionCore};
use crate::error::Error;
use crate::handler::Context;
use crate::presence;
use crate::session;
use bytes::Bytes;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{Direction, ErrorType, Incoming, Limits, Raw, Request, RequestId};
use hauyna_websocket::OpCode;
use std::sync::Arc;

use authority::RequestStart;

mod admission;
mod authority;
mod channels;
mod client_events;
mod direct;
mod recovery;
mod refresh;
mod reply;

pub(crate) use admission::{Meters, Remainder, keep_remainder, take_remainder};
pub(crate) use client_events::ClientEventRates;
pub(crate) use recovery::{Attempt, open_with_recovery, with_recovery};
pub(crate) use reply::{Pending, Reply, error_frame};

type Core = Arc<ConnectionCore>;

/// Handles one message; appends its answer to `replies`, or gives the future of it.
pub(crate) fn dispatch(core: &Core, bytes: &[u8], replies: &mut Vec<u8>) -> Option<Pending> {
    let admitted = admission::admit_message(core, bytes.len());
    let (id, next) = match hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default()) {
        Ok(Incoming { id, request }) => match admitted {
            Ok(()) => (id.clone(), route(core, id, request, replies)),
            Err(error) => {
                // The `id` of an answer is ours.
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

/// Begins once more what has failed.
fn retry(core: &Core, asked: &Attempt) -> Next {
    let cx = Context::new(core.clone());
    let pending = match asked {
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
            channels::publish(core, id, (&channel, content), (key, echo))
        }
        Request::ClientEvent { channel, event, data } => {
            client_events::client_event(core, id, (&channel, &event), data)
        }
        Request::Subscribe { channel, metadata, recover, token } => {
            // The answer stands in the outbox before the channel's messages; so must the earlier answers.
            queue_replies(core, replies);
            let wish = SubscribeRequest { metadata: metadata.map(|raw| raw.as_json().into()), recover };
            channels::subscribe(core, id, (&channel, token), wish)
        }
        Request::Unsubscribe { channel } => {
            // Before the answer to a subscription that the application makes right behind it.
            queue_replies(core, replies);
            channels::unsubscribe(core, id, &channel)
        }
        Request::Private { to, message, key } => direct::private(core, id, (&to, message), key),
        Request::Group { room, message, key } => direct::group(core, id, (&room, message), key),
        Request::Broadcast { message, key } => direct::broadcast(core, id, message, key),
        Request::History { channel, since, limit, direction } => {
            let order = match direction {
                Direction::Forward => Order::Forward,
                Direction::Backward => Order::Reverse,
            };
            channels::history(
                core,
                id,
                &channel,
                HistoryRange { since, limit: limit.unwrap_or(u32::MAX), order },
            )
        }
        Request::Refresh { token } => refresh::refresh(core, id, &token),
        Request::Presence { channel, after, limit } => {
            channels::presence(core, id, &channel, (after.as_deref(), limit))
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
        _ => Next::Now(Reply::refused(id, unknown_channel("this server does not offer this request"))),
    }
}

/// Takes a message before its turn, where it says what somebody waits for: the first one of a client that
/// comes back, or an answer to an open request of ours. Returns false for anything else.
pub(crate) fn take_answer(core: &Core, bytes: &[u8]) -> bool {
    let message = hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default());
    if let Some(takeover) = core.takeover().filter(|takeover| takeover.is_awaiting()) {
        return session::first_message(takeover, message);
    }
    message.is_ok_and(|message| answer(core, message.id.as_ref(), &message.request))
}

/// Whether the client's answer was waited for.
fn answer(core: &Core, id: Option<&RequestId>, request: &Request<'_>) -> bool {
    match (id, request) {
        (Some(id), Request::Ack { data }) => core.answer(id, Ok(*data)),
        (Some(id), Request::Refusal { message }) => core.answer(id, Err(message.as_deref())),
        _ => false,
    }
}

/// Queues the answers so far, so that the next one can be queued under a lock and still come behind them.
fn queue_replies(core: &Core, replies: &mut Vec<u8>) {
    core.wait_for_ordered_replies();
    if !replies.is_empty() {
        core.push_reply(Bytes::copy_from_slice(replies));
        replies.clear();
    }
}

enum Next {
    Now(Reply),
    Later(BoxFuture<Reply>),
}

/// Publishes for a client, when the shards that write it have room; the answer is there at once where the
/// broker has it.
fn publish(
    core: &Core,
    id: Option<RequestId>,
    (channel, message, extras): (ChannelName, (PublicationKind, Content), PublishOptions),
) -> Next {
    if core.hub().is_congested_for(&channel) {
        let (core, since) = (core.clone(), RequestStart::now(core));
        return Next::Later(Box::pin(async move {
            publish_late((&core, since), id, (channel, message, extras)).await
        }));
    }
    match channel::publish(core.hub(), channel, message.0, message.1, extras).into_now() {
        Ok(result) => Next::Now(Reply::published(id, result)),
        Err(later) => Next::Later(Box::pin(async move { Reply::published(id, later.await) })),
    }
}

/// As [`publish`], for a request that has waited.
async fn publish_late(
    (core, since): (&Core, RequestStart),
    id: Option<RequestId>,
    (channel, message, extras): (ChannelName, (PublicationKind, Content), PublishOptions),
) -> Reply {
    core.hub().wait_for_channel_room(&channel).await;
    match since.check_rights(core) {
        Ok(()) => {
            Reply::published(id, channel::publish(core.hub(), channel, message.0, message.1, extras).await)
        }
        Err(error) => Reply::refused(id, error),
    }
}

/// A frame of the kind that the connection's encoding does not use: a message like any other, where the
/// handler takes it.
pub(crate) fn unexpected_opcode(
    core: &Core,
    (opcode, payload): (OpCode, &[u8]),
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

/// A client says something about itself, where it is present: the user's other connections may be in any
/// shard, so it waits until all of them have room.
fn update_status(core: &Core, id: Option<RequestId>, body: Raw<'_>) -> Next {
    let said = admission::admit_presence_update(core).and_then(|()| Ok(body.decode::<serde_json::Value>()?));
    let said = match said {
        Ok(said) => said,
        Err(error) => return Next::Now(Reply::refused(id, error)),
    };
    if !core.hub().is_congested() {
        return Next::Now(Reply::of(id, presence::update_status(core.hub(), core, &said)));
    }
    let core = core.clone();
    Next::Later(Box::pin(async move {
        core.hub().wait_for_any_room().await;
        Reply::of(id, presence::update_status(core.hub(), &core, &said))
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
        return Next::Now(Reply::refused(id, unknown_channel("nobody handles this type of message")));
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

fn permission_denied(text: &'static str) -> Error {
    Error::protocol(ErrorType::PermissionDenied, text)
}

fn unknown_channel(text: &'static str) -> Error {
    Error::protocol(ErrorType::UnknownEvent, text)
}
