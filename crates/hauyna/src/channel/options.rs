//! The options of channels, by the pattern of their names: history, permissions, announcements, slow
//! consumers. Set on `HubBuilder::channels`; read by `dispatch`, `channel`, `presence` and `shard`.

use super::ClientEvents;
use super::pattern::{Params, Pattern};
use super::rules::Rules;
use crate::broker::Retention;
use crate::contain::Foreign;
use crate::counters::Counter;
use crate::error::Error;
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
/// options say otherwise. Channels that match no pattern are closed to requests of clients; the application
/// itself can use them without restriction.
///
/// # Panics
///
/// A rule (`authorize_…`) and `presence` can be set once: a second call would silently replace
/// the first, so it panics. Several validators all apply. For a single number or choice (`history` and
/// `no_history`, `publishers`, `announce_subscribers`, `rate_limit`, `slow_consumer`) the last call counts.
#[derive(Clone)]
pub struct ChannelOptions {
    pub(crate) retention: Option<Retention>,
    pub(crate) access: Access,
    pub(crate) publishers: Publishers,
    pub(crate) rules: Rules,
    pub(crate) announce: Option<u32>,
    pub(super) presence: Option<PresenceOptions>,
    pub(crate) slow_consumer: SlowConsumer,
    pub(crate) rate: Option<Rate>,
    /// The validators of what clients publish.
    pub(crate) validators: Vec<Arc<dyn Validator>>,
    /// The events that clients may send besides publications.
    pub(crate) client_events: Option<Arc<ClientEvents>>,
    /// The counters of the pattern that these options were declared for.
    pub(crate) usage: Arc<PatternUsage>,
}

/// Counters of the channels of one pattern.
#[derive(Debug, Default)]
pub(crate) struct PatternUsage {
    /// The text of the pattern; `None` for channels that match no pattern.
    pub(crate) pattern: Option<Box<str>>,
    pub(crate) channels: Counter,
    pub(crate) subscriptions: Counter,
    /// The used rate limits of channels that were removed because nobody subscribes to them.
    pub(crate) spent: UsedLimits<Box<Bucket>>,
}

/// Which clients may subscribe by a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every client, unless a rule refuses it.
    Open,
    /// Only clients that a rule admits.
    Private,
    /// No client, because no pattern matches the name.
    Undeclared,
}

/// Who may publish in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publishers {
    /// Every client that is subscribed, and the application.
    Subscribers,
    /// Only the application.
    Application,
}

/// What happens when a subscriber's outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// The connection is closed with 3008; the client reconnects and recovers. This is the default.
    #[default]
    Disconnect,
    /// The channel's oldest waiting messages are dropped; a `gap` tells the client.
    DropOldest,
    /// New messages of the channel are not queued; a `gap` tells the client.
    DropNewest,
    /// While the subscriber lags, only the latest message per conflation key waits; a `gap` tells the client.
    Conflate,
}

impl ChannelOptions {
    /// Creates options with the defaults: open, 64 messages or 60 s of history, slow consumers disconnected.
    pub fn new() -> Self {
        Self {
            retention: Some(Retention { messages: 64, age: Duration::from_secs(60) }),
            access: Access::Open,
            publishers: Publishers::Subscribers,
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

    /// Keeps at most `messages` publications, none of which is older than `age`.
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

    /// Refuses every client that [`ChannelOptions::authorize_subscribe`] does not admit; where that is not
    /// set, it refuses all clients.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.access = Access::Private;
        self
    }

    /// Sets who may publish. Default: [`Publishers::Subscribers`].
    #[must_use]
    pub fn publishers(mut self, publishers: Publishers) -> Self {
        self.publishers = publishers;
        self
    }

    /// Adds a validator of what clients publish, which gets the channel's name and the `content` of a
    /// permitted publication. A value that does not pass is answered with `validation_error`. All of several
    /// validators run. What the application publishes is not checked.
    #[must_use]
    pub fn validate(mut self, validator: impl Validator) -> Self {
        let validator = Foreign::new(validator);
        self.validators.push(Arc::new(move |name: &str, value: &Value| validator.validate(name, value)));
        self
    }

    /// Refuses what clients publish unless its `content` can be decoded into `T`, with a `validation_error`
    /// that says where the fault is. Otherwise it is as [`ChannelOptions::validate`].
    #[must_use]
    pub fn content<T: DeserializeOwned + 'static>(self) -> Self {
        self.validate(crate::validate::of_type::<T>)
    }

    /// Announces to subscribers who subscribes and unsubscribes (`channel_event`), while there are at most
    /// 1,000 of them.
    #[must_use]
    pub fn announce_subscribers(self) -> Self {
        self.announce_subscribers_up_to(1000)
    }

    /// Announces as [`ChannelOptions::announce_subscribers`], up to the given number of subscribers. Each
    /// change costs one message per subscriber.
    #[must_use]
    pub fn announce_subscribers_up_to(mut self, subscribers: u32) -> Self {
        self.announce = Some(subscribers);
        self
    }

    /// Limits what all clients together publish in one channel on this node; more is refused with
    /// `rate_limited`. What the application itself publishes is not counted. Default: no limit.
    #[must_use]
    pub fn rate_limit(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Shows subscribers who is present: [`PresenceOptions::new`] or `Presence::each()`, which are the same,
    /// `Presence::diff()` or `Presence::occupancy()`.
    #[must_use]
    #[track_caller]
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

    /// Returns one word for who may subscribe.
    pub(crate) fn access_name(&self) -> &'static str {
        match (self.access, self.rules.subscribe.is_some()) {
            (Access::Undeclared, _) => "undeclared",
            (_, true) => "authorized",
            (Access::Private, false) => "private",
            (Access::Open, false) => "open",
        }
    }

    /// Returns the options of a group's channel: the application chooses its members, and it keeps no
    /// history.
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
        f.debug_struct("ChannelOptions")
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

/// The patterns of a hub, in the order of their declaration: the first that matches applies.
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

    /// Returns the counters of each pattern, in the order of declaration, then those of undeclared channels.
    #[cfg(feature = "metrics")]
    pub(crate) fn usages(&self) -> impl Iterator<Item = &PatternUsage> {
        let declared = self.declared.iter().map(|(_, options)| &*options.usage);
        declared.chain([&*self.undeclared.usage])
    }

    pub(crate) fn options(&self, channel: &str) -> &Arc<ChannelOptions> {
        let found = self.declared.iter().find(|(pattern, _)| pattern.matches(channel));
        found.map_or(&self.undeclared, |(_, options)| options)
    }

    /// Returns the options of a channel with the values of the pattern's parameters in its name.
    pub(crate) fn resolve<'a>(&'a self, channel: &'a str) -> (&'a Arc<ChannelOptions>, Params<'a>) {
        self.declared
            .iter()
            .find_map(|(pattern, options)| Some((options, pattern.params(channel)?)))
            .unwrap_or((&self.undeclared, Params::default()))
    }
}
