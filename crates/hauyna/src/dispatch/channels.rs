//! The requests about one channel: subscribing, publishing, history, presence. `dispatch` calls it;
//! `authority` decides whether the client may.

use super::authority::{self, RequestStart, Verdict};
use super::{ClientPublication, Core, Next, Reply, admission, permission_denied};
use crate::broker::HistoryRange;
use crate::channel::{
    self, AccessRequest, AwaitingSubscription, ChannelCore, PublishOptions, SubscribeRequest, Subscription,
};
use crate::connection::frame;
use crate::error::Error;
use crate::presence::{describe, with_page};
use crate::validate::check_content;
use hauyna_broker::name::is_reserved;
use hauyna_broker::{Answer, ChannelName, Content, PublicationKind};
use hauyna_protocol::{AckData, ErrorType, Message, Raw, RequestId};
use std::borrow::Cow;
use std::sync::Arc;

/// The fields of a `channel_message`.
pub(super) struct PublishRequest<'a> {
    pub(super) channel: &'a str,
    pub(super) content: Raw<'a>,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) echo: bool,
}

pub(super) fn publish(core: &Core, id: Option<RequestId>, request: PublishRequest<'_>) -> Next {
    let PublishRequest { channel, content, key, echo } = request;
    let Some(subscription) = core.subscription_list().subscription(channel) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    let options = PublishOptions {
        user: Some(core.user().clone()),
        except: (!echo).then(|| core.id()),
        key: key.map(Into::into),
        options: Some(subscription.channel.options.clone()),
        ..PublishOptions::default()
    };
    let publication = ClientPublication {
        channel: subscription.channel.name.clone(),
        kind: PublicationKind::Message,
        content: Content::copy(content),
        options,
        subscription: Some(subscription.clone()),
        is_of_member: false,
    };
    let verdict = authority::publish(core, &subscription, &publication.content);
    then_if_subscribed(verdict, core, id, subscription, move |core, id, subscription, start| {
        match check_publication(core, &subscription.channel, &publication.content) {
            Ok(()) => super::publish(core, id, start, publication),
            Err(error) => Next::Now(Reply::refused(id, error)),
        }
    })
}

/// Runs an action about a subscription as [`Verdict::then`] does. If the application was asked, the
/// subscription must not have ended meanwhile.
fn then_if_subscribed<F>(
    verdict: Verdict,
    core: &Core,
    id: Option<RequestId>,
    subscription: Arc<Subscription>,
    action: F,
) -> Next
where
    F: FnOnce(&Core, Option<RequestId>, &Arc<Subscription>, Option<RequestStart>) -> Next + Send + 'static,
{
    verdict.then(core, id, move |core, id, start| match start.map(|_| subscription.check_not_ended()) {
        Some(Err(error)) => Next::Now(Reply::refused(id, error)),
        Some(Ok(())) | None => action(core, id, &subscription, start),
    })
}

/// Checks the rate and the content of a publication that the client is permitted to make.
fn check_publication(core: &Core, channel: &ChannelCore, content: &Content) -> Result<(), Error> {
    admission::admit_publication(core, channel)?;
    match &channel.options.validators[..] {
        [] => Ok(()),
        validators => check_content(validators, core.metrics(), channel.name.as_str(), content.raw()),
    }
}

pub(super) fn subscribe(
    core: &Core,
    id: Option<RequestId>,
    name: &str,
    token: Option<&str>,
    request: SubscribeRequest,
) -> Next {
    if let Err(error) = admission::admit_subscription(core) {
        return Next::Now(Reply::refused(id, error));
    }
    if is_reserved(name) {
        return Next::Now(Reply::refused(
            id,
            permission_denied("channel names that begin with @ are reserved for the server"),
        ));
    }
    let name = match ChannelName::new(name) {
        Ok(name) => name,
        Err(invalid) => return Next::Now(Reply::refused(id, invalid.into())),
    };
    let mut awaiting = None;
    let access = || {
        // From here until the authoriser has decided, the application may end the subscription.
        awaiting = Some(AwaitingSubscription::new(core.hub(), core.id(), &name));
        AccessRequest::new(core.hub(), &name, request.metadata.clone()).with_token(token)
    };
    let verdict = authority::subscribe(core, &name, access);
    let request = SubscribeRequest { awaiting, ..request };
    // Nothing else is checked again: only an open connection can be subscribed.
    verdict
        .then(core, id, move |core, id, _| Next::Later(Box::pin(subscribed(core.clone(), id, name, request))))
}

async fn subscribed(
    core: Core,
    id: Option<RequestId>,
    name: ChannelName,
    request: SubscribeRequest,
) -> Reply {
    let result = channel::subscribe(core.hub(), &core, &name, request, |channel, reply| {
        if let Some(id) = &id {
            let data = AckData::Subscribed(channel::subscribed_message(channel, reply));
            core.sender().push_reply(frame(&core, &Message::Ack { id, data: Some(data) }));
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
            core.sender().push_reply(frame(core, &Message::Ack { id, data: None }));
        }
    };
    match channel::unsubscribe(core.hub(), core, name, answer) {
        Ok(()) => Next::Now(Reply::sent()),
        Err(error) => Next::Now(Reply::refused(id, error)),
    }
}

pub(super) fn history(core: &Core, id: Option<RequestId>, name: &str, range: HistoryRange) -> Next {
    let Some(subscription) = core.subscription_list().subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    if subscription.channel.options.retention.is_none() {
        let error = Error::protocol(ErrorType::ValidationError, "this channel keeps no history");
        return Next::Now(Reply::refused(id, error));
    }
    let verdict = authority::history(core, &subscription);
    then_if_subscribed(verdict, core, id, subscription, move |core, id, subscription, _| {
        let (name, encoding) = (subscription.channel.name.clone(), core.wire().encoding());
        match channel::history(core.hub(), &name, range) {
            Answer::Ready(page) => Next::Now(Reply::history(id, name, page, encoding)),
            Answer::Pending(later) => {
                let subscription = subscription.clone();
                Next::Later(Box::pin(async move {
                    let page = later.await;
                    // The page may have what was published after the application has ended the subscription.
                    match subscription.check_not_ended() {
                        Ok(()) => Reply::history(id, name, page, encoding),
                        Err(error) => Reply::refused(id, error),
                    }
                }))
            }
        }
    })
}

/// Answers who is present in a channel, one page at a time.
pub(super) fn presence(
    core: &Core,
    id: Option<RequestId>,
    name: &str,
    after: Option<&str>,
    limit: Option<u32>,
) -> Next {
    let Some(subscription) = core.subscription_list().subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    let (verdict, after) = (authority::presence(core, &subscription), after.map(str::to_owned));
    then_if_subscribed(verdict, core, id, subscription, move |core, id, subscription, _| {
        Next::Now(page(core, id, subscription, after.as_deref(), limit))
    })
}

/// Replaces the metadata of a client's subscription. Subscribers in any shard are notified, so it waits until
/// all shards have room.
pub(super) fn update_presence(core: &Core, id: Option<RequestId>, name: &str, metadata: Raw<'_>) -> Next {
    let Some(subscription) = core.subscription_list().subscription(name) else {
        return Next::Now(Reply::refused(id, channel::not_subscribed()));
    };
    if subscription.channel.presence.is_none() {
        return Next::Now(Reply::refused(id, no_presence()));
    }
    if let Err(error) = admission::admit_presence_update(core) {
        return Next::Now(Reply::refused(id, error));
    }
    let text: Arc<str> = metadata.as_json().into();
    let verdict = authority::update_presence(core, &subscription, &text);
    then_if_subscribed(verdict, core, id, subscription, move |core, id, subscription, start| {
        if !core.hub().is_congested() {
            let checked = start.map_or(Ok(()), |start| start.check_rights(core));
            return Next::Now(Reply::of(id, checked.and_then(|()| describe(core.hub(), subscription, text))));
        }
        let start = start.unwrap_or_else(|| RequestStart::now(core));
        let (core, subscription) = (core.clone(), subscription.clone());
        Next::Later(Box::pin(async move {
            core.hub().wait_for_any_room().await;
            let checked = start.check_rights(&core).and_then(|()| subscription.check_not_ended());
            Reply::of(id, checked.and_then(|()| describe(core.hub(), &subscription, text)))
        }))
    })
}

fn no_presence() -> Error {
    Error::protocol(ErrorType::ValidationError, "this channel shows no presence")
}

fn page(
    core: &Core,
    id: Option<RequestId>,
    subscription: &Subscription,
    after: Option<&str>,
    limit: Option<u32>,
) -> Reply {
    let Some(presence) = &subscription.channel.presence else {
        return Reply::refused(id, no_presence());
    };
    with_page(&subscription.channel, presence, after, limit, |page| {
        Reply::encoded(core, id, AckData::Presence(page))
    })
}
