//! The requests about one channel: subscribing, publishing, history, presence. `authority` says whether they
//! may.

use super::authority::{self, RequestStart, Verdict};
use super::{Core, Next, Reply, admission, permission_denied};
use crate::broker::{BoxFuture, HistoryRange};
use crate::channel::{
    self, ChannelCore, ChannelName, Content, PublicationKind, PublishOptions, SubscribeRequest, Subscription,
};
use crate::connection::frame;
use crate::error::{Error, Reject};
use crate::presence::{describe, with_page};
use crate::validate::check_content;
use hauyna_protocol::{AckData, ErrorType, Message, Raw, RequestId};
use std::borrow::Cow;
use std::sync::Arc;

pub(super) fn publish(
    core: &Core,
    id: Option<RequestId>,
    (name, raw): (&str, Raw<'_>),
    (key, echo): (Option<Cow<'_, str>>, bool),
) -> Next {
    let Some(own) = core.subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    let name = own.channel.name.clone();
    let message = (PublicationKind::Message, Content::copy(raw));
    let extras = PublishOptions {
        user: Some(core.user().clone()),
        except: (!echo).then(|| core.id()),
        key: key.map(Into::into),
        options: Some(own.channel.options.clone()),
        ..PublishOptions::default()
    };
    match authority::publish(core, &own) {
        Verdict::Refused(error) => Next::Now(Reply::refused(id, error)),
        Verdict::Allowed => match check_publication(core, &own.channel, &message.1) {
            Ok(()) => super::publish(core, id, (name, message, extras)),
            Err(error) => Next::Now(Reply::refused(id, error)),
        },
        Verdict::Pending(allowed) => {
            let (core, since) = (core.clone(), RequestStart::now(core));
            Next::Later(Box::pin(async move {
                let own = match with_permission(&core, &name, allowed).await {
                    Ok(own) => own,
                    Err(error) => return Reply::refused(id, error),
                };
                if let Err(error) = check_publication(&core, &own.channel, &message.1) {
                    return Reply::refused(id, error);
                }
                super::publish_late((&core, since), id, (name, message, extras)).await
            }))
        }
    }
}

/// Waits for a permission; the subscription must live on meanwhile.
async fn with_permission(
    core: &Core,
    name: &ChannelName,
    allowed: BoxFuture<Result<(), Reject>>,
) -> Result<Arc<Subscription>, Error> {
    allowed.await?;
    core.subscription(name.as_str()).ok_or_else(channel::not_subscribed)
}

/// Whether a publication that its client may make is one that the channel takes now.
fn check_publication(core: &Core, channel: &ChannelCore, content: &Content) -> Result<(), Error> {
    admission::admit_publication(core, channel)?;
    match &channel.options.validators[..] {
        [] => Ok(()),
        some => check_content(some, core.metrics(), channel.name.as_str(), content.raw()),
    }
}

pub(super) fn subscribe(
    core: &Core,
    id: Option<RequestId>,
    (name, token): (&str, Option<Cow<'_, str>>),
    wish: SubscribeRequest,
) -> Next {
    if let Err(error) = admission::admit_subscription(core) {
        return Next::Now(Reply::refused(id, error));
    }
    if channel::is_reserved(name) {
        return Next::Now(Reply::refused(
            id,
            permission_denied("names that begin with @ are the server's own"),
        ));
    }
    let name = match ChannelName::new(name) {
        Ok(name) => name,
        Err(error) => return Next::Now(Reply::refused(id, error)),
    };
    let asked = (token.map(Into::into), wish.metadata.clone());
    let allowed = match authority::subscribe(core, &name, asked) {
        Verdict::Refused(error) => return Next::Now(Reply::refused(id, error)),
        Verdict::Allowed => return Next::Later(Box::pin(subscribed(core.clone(), id, name, wish))),
        Verdict::Pending(allowed) => allowed,
    };
    let core = core.clone();
    Next::Later(Box::pin(async move {
        match allowed.await {
            Ok(()) => subscribed(core, id, name, wish).await,
            Err(reject) => Reply::refused(id, reject.into()),
        }
    }))
}

async fn subscribed(core: Core, id: Option<RequestId>, name: ChannelName, wish: SubscribeRequest) -> Reply {
    let result = channel::subscribe(core.hub(), &core, &name, wish, |channel, welcome| {
        if let Some(id) = &id {
            let data = AckData::Subscribed(channel::subscribed_message(channel, welcome));
            core.push_reply(frame(&core, &Message::Ack { id, data: Some(data) }));
        }
    });
    match result.await {
        Ok(_) => Reply::sent(),
        Err(error) => Reply::refused(id, error),
    }
}

pub(super) fn unsubscribe(core: &Core, id: Option<RequestId>, name: &str) -> Next {
    let answer = || {
        if let Some(id) = &id {
            core.push_reply(frame(core, &Message::Ack { id, data: None }));
        }
    };
    match channel::unsubscribe(core.hub(), core, name, answer) {
        Ok(()) => Next::Now(Reply::sent()),
        Err(error) => Next::Now(Reply::refused(id, error)),
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
    match authority::history(core, &own) {
        Verdict::Refused(error) => Next::Now(Reply::refused(id, error)),
        Verdict::Allowed => match channel::history(core.hub(), &name, range).into_now() {
            Ok(page) => Next::Now(Reply::history(id, name, page, encoding)),
            Err(later) => {
                Next::Later(Box::pin(async move { Reply::history(id, name, later.await, encoding) }))
            }
        },
        Verdict::Pending(allowed) => {
            let core = core.clone();
            Next::Later(Box::pin(async move {
                if let Err(error) = with_permission(&core, &name, allowed).await {
                    return Reply::refused(id, error);
                }
                let page = channel::history(core.hub(), &name, range).await;
                Reply::history(id, name, page, encoding)
            }))
        }
    }
}

/// Who is present in a channel, a page at a time.
pub(super) fn presence(
    core: &Core,
    id: Option<RequestId>,
    name: &str,
    (after, limit): (Option<&str>, Option<u32>),
) -> Next {
    let Some(own) = core.subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    match authority::presence(core, &own) {
        Verdict::Refused(error) => Next::Now(Reply::refused(id, error)),
        Verdict::Allowed => Next::Now(page(core, id, &own, (after, limit))),
        Verdict::Pending(allowed) => {
            let (core, after) = (core.clone(), after.map(str::to_owned));
            Next::Later(Box::pin(async move {
                match with_permission(&core, &own.channel.name, allowed).await {
                    Ok(own) => page(&core, id, &own, (after.as_deref(), limit)),
                    Err(error) => Reply::refused(id, error),
                }
            }))
        }
    }
}

/// Replaces the metadata of a client's subscription. Others in any shard are told, so it waits until all of
/// them have room.
pub(super) fn update_presence(core: &Core, id: Option<RequestId>, name: &str, metadata: Raw<'_>) -> Next {
    let Some(own) = core.subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    if own.channel.presence.is_none() {
        return Next::Now(Reply::refused(id, no_presence()));
    }
    if let Err(error) = admission::admit_presence_update(core) {
        return Next::Now(Reply::refused(id, error));
    }
    let text: Arc<str> = metadata.as_json().into();
    let allowed = match authority::update_presence(core, &own, &text) {
        Verdict::Refused(error) => return Next::Now(Reply::refused(id, error)),
        Verdict::Allowed if !core.hub().is_congested() => {
            return Next::Now(Reply::of(id, describe(core.hub(), &own, text)));
        }
        Verdict::Allowed => Box::pin(std::future::ready(Ok(()))),
        Verdict::Pending(allowed) => allowed,
    };
    let (core, name, since) = (core.clone(), own.channel.name.clone(), RequestStart::now(core));
    Next::Later(Box::pin(async move {
        let described = async {
            allowed.await?;
            core.hub().wait_for_any_room().await;
            since.check_rights(&core)?;
            let own = core.subscription(name.as_str()).ok_or_else(channel::not_subscribed)?;
            describe(core.hub(), &own, text)
        };
        Reply::of(id, described.await)
    }))
}

fn no_presence() -> Error {
    Error::protocol(ErrorType::ValidationError, "this channel shows no presence")
}

fn page(core: &Core, id: Option<RequestId>, own: &Subscription, range: (Option<&str>, Option<u32>)) -> Reply {
    let Some(presence) = &own.channel.presence else {
        return Reply::refused(id, no_presence());
    };
    with_page(&own.channel, presence, range.0, range.1, |page| {
        Reply::encoded(core, id, AckData::Presence(page))
    })
}
