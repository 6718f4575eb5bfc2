//! The requests about one channel: subscribing, publishing, history. The channel's options or the handler's
//! `authorize_*` say whether they may.

use super::{Core, Next, Reply, admission, answered, denied};
use crate::broker::HistoryRange;
use crate::channel::{
    self, Access, ChannelCore, ChannelName, Content, Extras, Kind, Publishers, Welcome, Wish,
};
use crate::connection::frame;
use crate::error::Error;
use crate::handler::{Context, Verb};
use crate::presence::with_page;
use crate::validate::check_content;
use hauyna_protocol::{AckData, ErrorType, Message, Raw, Recovery, RequestId, Subscribed};
use std::borrow::Cow;

pub(super) fn publish(
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
            match admitted(core, &own.channel, &message.1) {
                Ok(()) => answered(id, channel::publish(core.hub(), name, message, extras)),
                Err(error) => Next::Now(Reply::refused(id, error)),
            }
        }
        None => Next::Now(Reply::refused(id, denied("clients do not publish in this channel"))),
        Some(allowed) => {
            let allowed = allowed(Context::new(core.clone()), name.as_str().to_owned());
            let core = core.clone();
            Next::Later(Box::pin(async move {
                if let Err(reject) = allowed.await {
                    return Reply::refused(id, reject.into());
                }
                let Some(own) = core.subscription(name.as_str()) else {
                    return Reply::refused(id, channel::not_subscribed());
                };
                if let Err(error) = admitted(&core, &own.channel, &message.1) {
                    return Reply::refused(id, error);
                }
                Reply::published(id, channel::publish(core.hub(), name, message, extras).await)
            }))
        }
    }
}

/// Whether a publication that its client may make is one that the channel takes now.
fn admitted(core: &Core, channel: &ChannelCore, content: &Content) -> Result<(), Error> {
    admission::publication(core, channel)?;
    match &channel.options.validators[..] {
        [] => Ok(()),
        some => check_content(some, core.metrics(), channel.name.as_str(), content.raw()),
    }
}

pub(super) fn subscribe(core: &Core, id: Option<RequestId>, name: &str, wish: Wish) -> Next {
    if let Err(error) = admission::subscription(core) {
        return Next::Now(Reply::refused(id, error));
    }
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

pub(super) fn history(core: &Core, id: Option<RequestId>, name: &str, range: HistoryRange) -> Next {
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

/// Who is present in a channel, a page at a time.
pub(super) fn presence(
    core: &Core,
    id: Option<RequestId>,
    name: &str,
    range: (Option<&str>, Option<u32>),
) -> Reply {
    let Some(own) = core.subscription(name) else { return Reply::refused(id, channel::not_subscribed()) };
    let Some(presence) = &own.channel.presence else {
        let error = Error::protocol(ErrorType::ValidationError, "this channel shows no presence");
        return Reply::refused(id, error);
    };
    with_page((&own.channel, presence), range, |page| Reply::encoded(core, id, AckData::Presence(page)))
}
