//! Decides whether a client may do what it requests: by the handler's callback, else by the rule of the
//! channel's pattern, else by whether the pattern is open or private. `channels` and `direct` call it before
//! anything is done.

use super::{ClientPublication, Core, Next, Reply, permission_denied};
use crate::channel::{Access, AccessRequest, ChannelOptions, Publishers, Rule, Subscription};
use crate::close::CloseReason;
use crate::contain;
use crate::driver::{answer_behind_sent, call_for_request};
use crate::error::{Error, Reject};
use crate::group;
use crate::handler::{Action, Context};
use hauyna_broker::{Answer, BoxFuture, ChannelName, Content, Target};
use hauyna_protocol::RequestId;
use std::sync::Arc;

/// Whether a client may do something, or the future that decides it.
pub(super) enum Verdict {
    /// The options of the channel or of the hub permit it.
    Allowed,
    /// A function of the application has permitted it. It was called after the request began, and may have
    /// ended the client's rights itself.
    Permitted(RequestStart),
    Refused(Error),
    /// A function of the application has sent something, and was not able to decide.
    Failed(Error),
    Pending(RequestStart, BoxFuture<Result<(), Reject>>),
}

impl Verdict {
    /// Runs `action` at once if it is allowed, and inside one future if a callback has to decide first. If
    /// the application was asked, the action gets the moment at which the request began, and has to check
    /// again what may have changed.
    pub(super) fn then<F>(self, core: &Core, id: Option<RequestId>, action: F) -> Next
    where
        F: FnOnce(&Core, Option<RequestId>, Option<RequestStart>) -> Next + Send + 'static,
    {
        match self {
            Self::Refused(error) => Next::Now(Reply::refused(id, error)),
            Self::Failed(error) => Next::Now(Reply::refused(id, error)).behind_sent(),
            Self::Allowed => action(core, id, None),
            Self::Permitted(start) => action(core, id, Some(start)),
            Self::Pending(start, allowed) => {
                let core = core.clone();
                Next::Later(Box::pin(async move {
                    if let Err(reject) = allowed.await {
                        return Reply::refused(id, reject.into());
                    }
                    match action(&core, id, Some(start)) {
                        Next::Now(reply) => reply,
                        Next::Later(reply) => reply.await,
                    }
                }))
            }
        }
    }
}

/// Decides about a new subscription. `request` runs only where the application is asked, right before that.
pub(super) fn subscribe(core: &Core, name: &ChannelName, request: impl FnOnce() -> AccessRequest) -> Verdict {
    let options = core.hub().declarations.options(name.as_str());
    subscription_verdict(core, options, request).unwrap_or_else(|| match options.access {
        Access::Open => Verdict::Allowed,
        Access::Private => {
            log_private(core, name);
            Verdict::Refused(subscription_denied())
        }
        Access::Undeclared => {
            log_undeclared(core, name);
            Verdict::Refused(subscription_denied())
        }
    })
}

fn subscription_denied() -> Error {
    permission_denied("you may not subscribe to this channel")
}

/// Tells the developer what the client is not told: that the name matches no pattern, and what to do about
/// it.
fn log_undeclared(core: &Core, name: &ChannelName) {
    let remedy = "declare the channel with `Hub::builder().channels(..)`, \
                  or permit it with `Handler::authorize_subscribe`";
    tracing::debug!(
        target: "hauyna::channel",
        id = %core.id(),
        channel = %crate::log::name(name.as_str()),
        remedy,
        "a subscription to an undeclared channel was refused",
    );
}

/// Tells the developer what the client is not told: that no function decides about this private channel.
fn log_private(core: &Core, name: &ChannelName) {
    tracing::debug!(
        target: "hauyna::channel",
        id = %core.id(),
        channel = %crate::log::name(name.as_str()),
        remedy = "decide with `ChannelOptions::authorize_subscribe`, or subscribe in a callback",
        "a subscription to a private channel without a rule was refused",
    );
}

pub(super) fn publish(core: &Core, subscription: &Subscription, content: &Content) -> Verdict {
    let options = &subscription.channel.options;
    let request = || request_of(core, subscription).with_content(content);
    let verdict = verdict(core, Action::Publish, options.rules.publish.as_ref(), request);
    verdict.unwrap_or_else(|| match options.publishers {
        Publishers::Subscribers => Verdict::Allowed,
        Publishers::Application => {
            Verdict::Refused(permission_denied("clients may not publish in this channel"))
        }
    })
}

pub(super) fn history(core: &Core, subscription: &Subscription) -> Verdict {
    let rule = subscription.channel.options.rules.history.as_ref();
    let request = || request_of(core, subscription);
    verdict(core, Action::History, rule, request).unwrap_or(Verdict::Allowed)
}

pub(super) fn presence(core: &Core, subscription: &Subscription) -> Verdict {
    let rule = subscription.channel.options.rules.presence.as_ref();
    let request = || request_of(core, subscription);
    verdict(core, Action::Presence, rule, request).unwrap_or(Verdict::Allowed)
}

/// Decides about new metadata of a subscriber, by the rule that saw it when the client subscribed.
pub(super) fn update_presence(core: &Core, subscription: &Subscription, metadata: &Arc<str>) -> Verdict {
    let channel = &subscription.channel;
    let request = || AccessRequest::new(core.hub(), &channel.name, Some(metadata.clone())).into_update();
    subscription_verdict(core, &channel.options, request).unwrap_or(Verdict::Allowed)
}

/// Decides about sending to a user, a group or everybody, by the handler's callback if it has one.
pub(super) fn send(
    core: &Core,
    action: Action,
    ClientPublication { channel, content, .. }: &ClientPublication,
) -> Option<Verdict> {
    verdict(core, action, None, || AccessRequest::new(core.hub(), channel, None).with_content(content))
}

/// Whether the roles of a group permit a client to send to it.
pub(super) fn check_role(core: &Core, group: &str) -> Result<(), Error> {
    match core.hub().groups.can(core.user(), group, group::SEND) {
        true => Ok(()),
        // The same for groups that do not exist, so that names cannot be probed.
        false => Err(group_denied()),
    }
}

fn group_denied() -> Error {
    permission_denied("you may not send to this group")
}

/// Checks a publication once more that has waited for a decision or for room: the client's rights, its
/// subscription, that a member of the group is still one, and the role, if the role has permitted it.
///
/// # Errors
///
/// `unauthorized`, `not_subscribed`, `permission_denied`.
pub(super) fn check_after_wait(
    core: &Core,
    start: RequestStart,
    publication: &ClientPublication,
) -> Result<(), Error> {
    start.check_rights(core)?;
    if let Some(subscription) = &publication.subscription {
        subscription.check_not_ended()?;
    }
    let Target::Group(group) = publication.channel.target() else { return Ok(()) };
    if core.endpoint().authorizer(Action::Group).is_none() {
        return check_role(core, group);
    }
    // The application may permit clients to send that are no members, so only a removal counts.
    let is_removed = publication.is_of_member && !core.hub().groups.is_member(core.user(), group);
    if is_removed { Err(group_denied()) } else { Ok(()) }
}

/// The moment at which a request began, before the application was asked or the request had to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestStart {
    /// Number of revocations that there had been.
    revocations: u64,
}

impl RequestStart {
    pub(super) fn now(core: &Core) -> Self {
        Self { revocations: core.hub().revocations.made() }
    }

    /// Checks again whether the client may do anything. It may not after a revocation, whatever became of the
    /// connection, after its credentials have expired, or after the application has closed the connection for
    /// good. A connection that was merely lost had its rights.
    ///
    /// # Errors
    ///
    /// `unauthorized`.
    pub(super) fn check_rights(self, core: &Core) -> Result<(), Error> {
        core.credentials().check_revoked_since(self.revocations)?;
        // A connection that was closing already when its credentials expired keeps its reason.
        if core.reason().is_some_and(CloseReason::ends_rights) || core.credentials().has_ended() {
            Err(Reject::unauthorized("the rights of this connection have ended").into())
        } else {
            Ok(())
        }
    }
}

/// Returns a request of a subscriber.
fn request_of(core: &Core, subscription: &Subscription) -> AccessRequest {
    let metadata = subscription.metadata.lock().clone();
    AccessRequest::new(core.hub(), &subscription.channel.name, metadata)
}

/// Returns the decision of the handler's callback, or else of the pattern's rule, about a subscription, if
/// there is one of them.
fn subscription_verdict(
    core: &Core,
    options: &ChannelOptions,
    request: impl FnOnce() -> AccessRequest,
) -> Option<Verdict> {
    verdict(core, Action::Subscribe, options.rules.subscribe.as_ref(), request)
}

/// Returns the decision of the handler's callback, or else of the pattern's rule, if there is one of them.
fn verdict(
    core: &Core,
    action: Action,
    rule: Option<&Rule>,
    request: impl FnOnce() -> AccessRequest,
) -> Option<Verdict> {
    let rule = core.endpoint().authorizer(action).or(rule)?;
    Some(decide(core, rule, request()))
}

fn decide(core: &Core, rule: &Rule, request: AccessRequest) -> Verdict {
    let (cx, start) = (Context::new(core.clone()), RequestStart::now(core));
    let (answer, has_sent) = call_for_request(|| contain::call(&core.metrics().panics, || rule(cx, request)));
    match answer {
        Ok(answer) if has_sent => Verdict::Pending(start, Box::pin(answer_behind_sent(answer.into_future()))),
        Ok(Answer::Ready(Ok(()))) => Verdict::Permitted(start),
        Ok(Answer::Ready(Err(reject))) => Verdict::Refused(reject.into()),
        Ok(Answer::Pending(later)) => Verdict::Pending(start, later),
        Err(contain::Panicked) => {
            let error = Error::other("a callback panicked");
            if has_sent { Verdict::Failed(error) } else { Verdict::Refused(error) }
        }
    }
}
