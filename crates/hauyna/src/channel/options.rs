//! What a channel is like, by the pattern of its name: history, who may use it, whether it announces its
//! subscribers, what happens to slow ones. Read by `dispatch` and `channel`.

use super::pattern::Pattern;
use super::rules::Rules;
use super::{ClientEvents, Params};
use crate::broker::Retention;
use crate::contain::Foreign;
use crate::error::Error;
use crate::handler::Context;
use crate::metrics::Counter;
use crate::once::call_once;
use crate::presence::PresenceOptions;
use crate::rate::{Bucket, Rate};
use crate::used_limits::UsedLimits;
use crate::validate::Validator;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Options for the channels whose name matches a pattern; see
/// [`HubBuilder::channels`](crate::HubBuilder::channels).
///
/// A declared pattern is open: clients may subscribe, and publish while they are subscribed, unless the
/// options say otherwise. Channels that match no pattern are closed to requests of clients (the
/// application can use them as it likes).
///
/// # Panics
///
/// A rule (`authorize`, `authorize_…`) and `presence` are given once: a second call would silently take the place of the
/// first, and panics. Validators add up. Of a single number or choice (`history` and `no_history`, `publishers`,
/// `announce_subscribers`, `rate_limit`, `slow_consumer`) the last call counts.
#[derive(Clone)]
pub struct ChannelOptions {
    pub(crate) retention: Option<Retention>,
    pub(crate) access: Access,
    pub(crate) publishers: Publishers,
    pub(crate) authorize: Option<Arc<Authorize>>,
    pub(crate) rules: Rules,
    pub(crate) announce: Option<u32>,
    pub(crate) presence: Option<PresenceOptions>,
    pub(crate) slow_consumer: SlowConsumer,
    pub(crate) rate: Option<Rate>,
    /// Of what clients publish.
    pub(crate) validators: Vec<Arc<dyn Validator>>,
    /// What clients may send beside publications.
    pub(crate) client_events: Option<Arc<ClientEvents>>,
    /// Of the pattern these options were declared for.
    pub(crate) usage: Arc<PatternUsage>,
}

/// What there is of the channels of one pattern.
#[derive(Debug, Default)]
pub(crate) struct PatternUsage {
    /// As it was declared.
    pub(crate) pattern: Option<Box<str>>,
    pub(crate) channels: Counter,
    pub(crate) subscriptions: Counter,
    /// What is left of the rates of channels that nobody subscribes to now.
    pub(crate) spent: UsedLimits<Box<Bucket>>,
}

type Authorize = dyn Fn(&Context, &Params<'_>) -> bool + Send + Sync;

/// Who may subscribe at a client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    Private,
    /// No pattern matches.
    Undeclared,
}

/// Who may publish in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publishers {
    /// Every client that is subscribed, and the application.
    Subscribers,
    /// The application alone.
    Application,
}

/// What happens when a subscriber's outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// The connection is closed with 3008; the client comes back and recovers. The default.
    #[default]
    Disconnect,
    /// The channel's oldest waiting messages go; a `gap` says so.
    DropOldest,
    /// New messages of the channel are not queued; a `gap` says so.
    DropNewest,
    /// While the subscriber lags, only the latest message per conflation key waits; a `gap` says so.
    Conflate,
}

impl ChannelOptions {
    /// Options that say nothing special: open, 64 messages or 60 s of history, slow consumers disconnected.
    pub fn new() -> Self {
        Self {
            retention: Some(Retention { messages: 64, age: Duration::from_secs(60) }),
            access: Access::Open,
            publishers: Publishers::Subscribers,
            authorize: None,
            rules: Rules::default(),
            announce: None,
            presence: None,
            slow_consumer: SlowConsumer::default(),
            usage: Arc::default(),
            rate: None,
            validators: Vec::new(),
            client_events: None,
        }
    }

    /// Keeps at most `messages` publications, none older than `age`.
    #[must_use]
    pub fn history(mut self, messages: u32, age: Duration) -> Self {
        self.retention = (messages > 0).then_some(Retention { messages, age });
        self
    }

    /// Keeps no history: publications get no offset and cannot be recovered.
    #[must_use]
    pub fn no_history(mut self) -> Self {
        self.retention = None;
        self
    }

    /// Refuses every client that neither [`ChannelOptions::authorize`] nor [`ChannelOptions::authorize_subscribe`] admits; all of
    /// them, where none is set.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.access = Access::Private;
        self
    }

    /// Decides who may subscribe, from the connection and the pattern's parameters.
    #[must_use]
    pub fn authorize<F>(mut self, authorize: F) -> Self
    where
        F: Fn(&Context, &Params<'_>) -> bool + Send + Sync + 'static,
    {
        let authorize = Foreign::new(authorize);
        let authorize = Arc::new(move |cx: &Context, params: &Params<'_>| authorize(cx, params));
        call_once::<Arc<Authorize>>(&mut self.authorize, authorize, "authorize");
        self
    }

    /// Sets who may publish. Default: [`Publishers::Subscribers`].
    #[must_use]
    pub fn publishers(mut self, publishers: Publishers) -> Self {
        self.publishers = publishers;
        self
    }

    /// Checks what clients publish, once it is known that they may: its `content`, and the channel's name. What
    /// does not pass is answered with `validation_error`. Of several validators all are asked. What the
    /// application publishes is not checked.
    #[must_use]
    pub fn validate(mut self, validator: impl Validator) -> Self {
        let validator = Foreign::new(validator);
        self.validators.push(Arc::new(move |name: &str, value: &Value| validator.validate(name, value)));
        self
    }

    /// Refuses what clients publish unless its `content` can be decoded into `T`: `validation_error`, with the place
    /// of the fault. As [`ChannelOptions::validate`] otherwise.
    #[must_use]
    pub fn content<T: DeserializeOwned + 'static>(self) -> Self {
        self.validate(crate::validate::of_type::<T>)
    }

    /// Tells subscribers who comes and goes (`channel_event`), while there are at most 1,000 of them.
    #[must_use]
    pub fn announce_subscribers(self) -> Self {
        self.announce_subscribers_up_to(1000)
    }

    /// As [`ChannelOptions::announce_subscribers`], up to a number of subscribers of one's own: announcing costs
    /// one message per subscriber and change.
    #[must_use]
    pub fn announce_subscribers_up_to(mut self, subscribers: u32) -> Self {
        self.announce = Some(subscribers);
        self
    }

    /// Limits what all clients together publish in one channel, on this node; more is refused with
    /// `rate_limited`. What the application itself publishes is not counted. Default: no limit.
    #[must_use]
    pub fn rate_limit(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Shows subscribers who is there: `Presence::each()`, `Presence::diff()` or `Presence::occupancy()`. See
    /// [`PresenceOptions`].
    #[must_use]
    pub fn presence(mut self, presence: PresenceOptions) -> Self {
        call_once(&mut self.presence, presence, "presence");
        self
    }

    /// Sets what happens to subscribers that do not read fast enough. Default: they are disconnected.
    #[must_use]
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = policy;
        self
    }

    /// Who may subscribe, in a word.
    pub(crate) fn access_name(&self) -> &'static str {
        let is_authorized = self.authorize.is_some() || self.rules.subscribe.is_some();
        match (self.access, is_authorized) {
            (Access::Undeclared, _) => "undeclared",
            (_, true) => "authorized",
            (Access::Private, false) => "private",
            (Access::Open, false) => "open",
        }
    }

    /// What a group's channel is like: its members are the application's choice, and nothing is kept.
    pub(crate) fn of_group() -> Self {
        Self { retention: None, ..Self::undeclared() }
    }

    fn undeclared() -> Self {
        Self { access: Access::Undeclared, publishers: Publishers::Application, ..Self::new() }
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ChannelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("retention", &self.retention)
            .field("access", &self.access)
            .field("publishers", &self.publishers)
            .field("announce", &self.announce)
            .field("presence", &self.presence)
            .field("slow_consumer", &self.slow_consumer)
            .field("rate", &self.rate)
            .field("client_events", &self.client_events)
            .finish_non_exhaustive()
    }
}

/// The patterns of a hub, in the order of their declaration: the first that matches decides.
#[derive(Debug)]
pub(crate) struct Declarations {
    declared: Vec<(Pattern, Arc<ChannelOptions>)>,
    undeclared: Arc<ChannelOptions>,
}

impl Declarations {
    pub(crate) fn new(declared: Vec<(String, ChannelOptions)>) -> Result<Self, Error> {
        let mut patterns: Vec<(Pattern, Arc<ChannelOptions>)> = Vec::with_capacity(declared.len());
        for (text, mut options) in declared {
            let pattern = Pattern::parse(&text)?;
            pattern.check_behind(patterns.iter().map(|(earlier, _)| earlier))?;
            options.usage = Arc::new(PatternUsage { pattern: Some(text.into()), ..PatternUsage::default() });
            patterns.push((pattern, Arc::new(options)));
        }
        Ok(Self { declared: patterns, undeclared: Arc::new(ChannelOptions::undeclared()) })
    }

    /// What there is of each pattern, in the order of their declaration, and of no pattern.
    #[cfg(feature = "metrics")]
    pub(crate) fn usages(&self) -> impl Iterator<Item = &PatternUsage> {
        let declared = self.declared.iter().map(|(_, options)| &*options.usage);
        declared.chain([&*self.undeclared.usage])
    }

    pub(crate) fn options(&self, channel: &str) -> &Arc<ChannelOptions> {
        let found = self.declared.iter().find(|(pattern, _)| pattern.matches(channel));
        found.map_or(&self.undeclared, |(_, options)| options)
    }

    /// The options with the parameters that the pattern takes from the name.
    pub(crate) fn resolve<'a>(&'a self, channel: &'a str) -> (&'a Arc<ChannelOptions>, Params<'a>) {
        self.declared
            .iter()
            .find_map(|(pattern, options)| Some((options, pattern.params(channel)?)))
            .unwrap_or((&self.undeclared, Params::default()))
    }
}
