//! One `match` over the requests of the protocol: may it? then the hub, then the answer. Called by the
//! reader with a whole message; what must wait comes back as a future, what need not is answered in line.

use crate::broker::{Answer, BoxFuture, Continuity, HistoryPage, HistoryRange, Order, Published};
use crate::channel::{self, Access, ChannelName, Content, Extras, Kind, Publishers, Welcome, Wish};
use crate::connection::{CloseReason, ConnectionCore, frame};
use crate::error::{BrokerError, Error, Reject};
use crate::handler::{Context, EventAnswer, Verb};
use bytes::Bytes;
use hauyna_protocol::close::CloseCode;
use hauyna_protocol::{
    AckData, Direction, Encoding, ErrorMessage, ErrorType, Incoming, Limits, Message, Position, Raw,
    Recovery, Request, RequestId, Subscribed,
};
use hauyna_websocket::OpCode;
use std::borrow::Cow;
use std::sync::Arc;

mod reply;

pub(crate) use reply::{Pending, Reply, error_frame};

type Core = Arc<ConnectionCore>;

/// Handles one message; appends its answer to `replies`, or gives the future of it.
pub(crate) fn dispatch(core: &Core, bytes: &[u8], replies: &mut Vec<u8>) -> Option<Pending> {
    let incoming = match hauyna_protocol::decode(core.wire().encoding(), bytes, &Limits::default()) {
        Ok(incoming) => incoming,
        Err(fault) => {
            let id = fault.id.clone();
            Reply::refused(id, fault.into()).write(core, replies);
            return None;
        }
    };
    let Incoming { id, request } = incoming;
    let of = id.clone();
    let later = match request {
        Request::Ping => {
            reply::pong(core, id.as_ref(), replies);
            return None;
        }
        Request::Publish { channel, content, key } => publish(core, id, (&channel, content), key),
        Request::Subscribe { channel, metadata, recover, .. } => {
            // The answer stands in the outbox before the channel's messages; so must the earlier answers.
            if !replies.is_empty() {
                core.push_control(Bytes::copy_from_slice(replies));
                replies.clear();
            }
            let wish = Wish { metadata: metadata.map(|raw| raw.as_json().into()), recover };
            subscribe(core, id, &channel, wish)
        }
        Request::Unsubscribe { channel } => {
            Next::Now(Reply::of(id, channel::unsubscribe(core.hub(), core, &channel)))
        }
        Request::Private { to, message, key } => private(core, id, (&to, message), key),
        Request::Broadcast { message, key } => broadcast(core, id, message, key),
        Request::History { channel, since, limit, direction } => {
            let order = match direction {
                Direction::Forward => Order::Forward,
                Direction::Backward => Order::Reverse,
            };
            history(core, id, &channel, HistoryRange { since, limit: limit.unwrap_or(u32::MAX), order })
        }
        Request::Ack { .. } => return None, // no request of ours is open
        Request::Event { name, body } if name != RESUME => event(core, id, &name, body),
        _ => Next::Now(Reply::refused(id, unknown("this server does not offer this request"))),
    };
    match later {
        Next::Now(reply) => {
            reply.write(core, replies);
            None
        }
        Next::Later(future) => Some(Pending { id: of, future }),
    }
}

enum Next {
    Now(Reply),
    Later(BoxFuture<Reply>),
}

/// A frame of the kind that the connection's encoding does not use.
pub(crate) fn other_opcode(core: &Core, (opcode, payload): (OpCode, &[u8])) -> Option<Pending> {
    if let (OpCode::Binary, Some(f)) = (opcode, &core.endpoint().on_binary) {
        let future = f(Context::new(core.clone()), payload.to_vec());
        let future = Box::pin(async move { Reply::of_event(None, future.await.map(|()| None)) });
        return Some(Pending { id: None, future });
    }
    core.close_with(CloseCode::UNSUPPORTED_DATA, CloseReason::Protocol);
    None
}

fn publish(
    core: &Core,
    id: Option<RequestId>,
    (name, raw): (&str, Raw<'_>),
    key: Option<Cow<'_, str>>,
) -> Next {
    let Some(own) = core.subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    let name = own.channel.name.clone();
    let message = (Kind::Message, Content::copy(raw));
    let extras = Extras {
        user: Some(core.user().clone()),
        key: key.map(Into::into),
        options: Some(own.channel.options.clone()),
        ..Extras::default()
    };
    match core.endpoint().authorizer(Verb::Publish) {
        None if own.channel.options.publishers == Publishers::Subscribers => {
            answered(id, channel::publish(core.hub(), name, message, extras))
        }
        None => Next::Now(Reply::refused(id, denied("clients do not publish in this channel"))),
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), name.as_str().to_owned());
            let core = core.clone();
            Next::Later(Box::pin(async move {
                if let Err(reject) = allowed.await {
                    return Reply::refused(id, reject.into());
                }
                if core.subscription(name.as_str()).is_none() {
                    return Reply::refused(id, channel::not_subscribed());
                }
                Reply::published(id, channel::publish(core.hub(), name, message, extras).await)
            }))
        }
    }
}

/// A publication's answer: at once where the broker has it.
fn answered(id: Option<RequestId>, answer: Answer<Result<Published, BrokerError>>) -> Next {
    match answer.into_now() {
        Ok(result) => Next::Now(Reply::published(id, result)),
        Err(later) => Next::Later(Box::pin(async move { Reply::published(id, later.await) })),
    }
}

fn subscribe(core: &Core, id: Option<RequestId>, name: &str, wish: Wish) -> Next {
    if channel::is_reserved(name) {
        return Next::Now(Reply::refused(id, denied("names that begin with @ are the server's own")));
    }
    let name = match ChannelName::new(name) {
        Ok(name) => name,
        Err(error) => return Next::Now(Reply::refused(id, error)),
    };
    let allowed = match core.endpoint().authorizer(Verb::Subscribe) {
        Some(allowed) => allowed(Context::new(core.clone()), name.as_str().to_owned()),
        None if is_open(core, &name) => {
            return Next::Later(Box::pin(subscribed(core.clone(), id, name, wish)));
        }
        None => return Next::Now(Reply::refused(id, denied("this channel is not open to you"))),
    };
    let core = core.clone();
    Next::Later(Box::pin(async move {
        match allowed.await {
            Ok(()) => subscribed(core, id, name, wish).await,
            Err(reject) => Reply::refused(id, reject.into()),
        }
    }))
}

/// What the channel's pattern says about this client.
fn is_open(core: &Core, name: &ChannelName) -> bool {
    let (options, params) = core.hub().declarations.resolve(name.as_str());
    match (&options.authorize, options.access) {
        (_, Access::Undeclared) | (None, Access::Private) => false,
        (Some(authorize), _) => authorize(&Context::new(core.clone()), &params),
        (None, Access::Open) => true,
    }
}

async fn subscribed(core: Core, id: Option<RequestId>, name: ChannelName, wish: Wish) -> Reply {
    let result = channel::subscribe(core.hub(), &core, (&name, wish), |welcome| {
        if let Some(id) = &id {
            let data = AckData::Subscribed(told(&name, welcome));
            core.push_control(frame(&core, &Message::Ack { id, data: Some(data) }));
        }
    });
    match result.await {
        Ok(_) => Reply::answered(),
        Err(error) => Reply::refused(id, error),
    }
}

fn told<'a>(name: &'a ChannelName, welcome: &Welcome) -> Subscribed<'a> {
    Subscribed {
        channel: name.as_str(),
        position: welcome.top,
        recoverable: welcome.top.is_some(),
        recovery: match welcome.recovery {
            None => Recovery::NotAsked,
            Some(Ok(())) => Recovery::Recovered,
            Some(Err(reason)) => Recovery::Failed(reason),
        },
    }
}

fn private(
    core: &Core,
    id: Option<RequestId>,
    (to, raw): (&str, Raw<'_>),
    key: Option<Cow<'_, str>>,
) -> Next {
    let (channel, message) = (ChannelName::of_user(to), (Kind::Private, Content::copy(raw)));
    let extras = Extras { user: Some(core.user().clone()), key: key.map(Into::into), ..Extras::default() };
    if core.hub().config.unknown_users == crate::UnknownUsers::Refused && core.hub().registry.devices(to) == 0
    {
        let error = Error::protocol(ErrorType::UnknownUser, "this user has no connection");
        return Next::Now(Reply::refused(id, error));
    }
    match core.endpoint().authorizer(Verb::Private) {
        None => answered(id, channel::publish(core.hub(), channel, message, extras)),
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), to.to_owned());
            publish_if(core, id, allowed, (channel, message, extras))
        }
    }
}

fn broadcast(core: &Core, id: Option<RequestId>, raw: Raw<'_>, key: Option<Cow<'_, str>>) -> Next {
    let Some(allowed) = core.endpoint().authorizer(Verb::Broadcast) else {
        return Next::Now(Reply::refused(id, denied("clients may not broadcast")));
    };
    let allowed = allowed(Context::new(core.clone()), String::new());
    let extras = Extras { user: Some(core.user().clone()), key: key.map(Into::into), ..Extras::default() };
    let message = (Kind::Broadcast, Content::copy(raw));
    publish_if(core, id, allowed, (ChannelName::everybody(), message, extras))
}

fn publish_if(
    core: &Core,
    id: Option<RequestId>,
    allowed: BoxFuture<Result<(), Reject>>,
    (channel, message, extras): (ChannelName, (Kind, Content), Extras),
) -> Next {
    let core = core.clone();
    Next::Later(Box::pin(async move {
        match allowed.await {
            Ok(()) => Reply::published(id, channel::publish(core.hub(), channel, message, extras).await),
            Err(reject) => Reply::refused(id, reject.into()),
        }
    }))
}

fn history(core: &Core, id: Option<RequestId>, name: &str, range: HistoryRange) -> Next {
    let Some(own) = core.subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    if own.channel.options.retention.is_none() {
        let error = Error::protocol(ErrorType::ValidationError, "this channel keeps no history");
        return Next::Now(Reply::refused(id, error));
    }
    let encoding = core.wire().encoding();
    let name = own.channel.name.clone();
    match channel::history(core.hub(), &name, range).into_now() {
        Ok(page) => Next::Now(Reply::history(id, name, page, encoding)),
        Err(later) => Next::Later(Box::pin(async move { Reply::history(id, name, later.await, encoding) })),
    }
}

fn event(core: &Core, id: Option<RequestId>, name: &str, body: Raw<'_>) -> Next {
    let endpoint = core.endpoint();
    let Some(task) = endpoint.events.get(name).or(endpoint.on_message.as_ref()) else {
        return Next::Now(Reply::refused(id, unknown("nobody handles this type of message")));
    };
    match task(Context::new(core.clone()), body) {
        Err(fault) => Next::Now(Reply::refused(id, fault.into())),
        Ok(future) => Next::Later(Box::pin(async move { Reply::of_event(id, future.await) })),
    }
}

/// Reserved by the protocol, though it is decoded like an event.
const RESUME: &str = "resume";

fn denied(text: &'static str) -> Error {
    Error::protocol(ErrorType::PermissionDenied, text)
}

fn unknown(text: &'static str) -> Error {
    Error::protocol(ErrorType::UnknownEvent, text)
}
