//! The builder of a contract, `Contract`: which types the messages of an application have.

use super::declared::{Declared, Side};
use super::definitions::Definitions;
use super::document::{self, Document};
use super::{ChannelContract, ClientRequestType, check};
use crate::error::Error;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The types of the messages between clients and an application. JSON Schema, AsyncAPI and TypeScript are
/// generated from it.
///
/// What clients send is described as `Deserialize` accepts it, and what they get as `Serialize` writes it: a
/// client may leave out a field with a default, but the server always sends it.
///
/// # Examples
///
/// ```
/// use hauyna::{ChannelOptions, Context, Handler};
/// use hauyna::contract::{ChannelContract, Contract};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Note { text: String, #[serde(default)] urgent: bool }
///
/// #[derive(Serialize, JsonSchema)]
/// #[serde(tag = "type", rename_all = "snake_case")]
/// enum RoomEvent { Cleared { by: String } }
///
/// async fn count(_: Context, note: Note) -> hauyna::Result<usize> {
///     Ok(note.text.len())
/// }
///
/// let contract = Contract::new("Notes", "1.0.0")
///     .event::<Note, usize>("count")
///     .channel("room:{id}", ChannelContract::new().content::<Note>().messages::<RoomEvent>());
/// contract.check(&Handler::new().on("count", count)); // panics where the two disagree
///
/// let types = contract.typescript();
/// assert!(types.contains("export type RoomChannel = {"));
/// assert!(types.contains("urgent?: boolean;"));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Contract {
    title: String,
    version: String,
    pub(super) terms: ContractTerms<Declared>,
}

/// The terms of a contract. `T` stands for a type: as it was declared, or its schema.
#[derive(Debug, Clone)]
pub(super) struct ContractTerms<T> {
    pub(super) requests: BTreeMap<String, Exchange<T>>,
    pub(super) client_requests: BTreeMap<String, Exchange<T>>,
    pub(super) messages: BTreeMap<String, T>,
    pub(super) channels: BTreeMap<String, ChannelTerms<T>>,
}

#[derive(Debug, Clone)]
pub(super) struct Exchange<T> {
    pub(super) data: T,
    pub(super) reply: T,
}

#[derive(Debug, Clone)]
pub(super) struct ChannelTerms<T> {
    /// The messages by `type`; `message` is the content of publications.
    pub(super) messages: BTreeMap<String, T>,
    /// The data of client events, by the type of event.
    pub(super) client_events: BTreeMap<String, T>,
    pub(super) subscription: Option<T>,
    pub(super) presence: Option<T>,
}

impl Contract {
    /// Creates an empty contract. `title` and `version` are those of the application; the generated documents
    /// have them.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self { title: title.into(), version: version.into(), terms: ContractTerms::default() }
    }

    /// Declares an event of [`Handler::on`](crate::Handler::on): a client sends `Data` and gets `Reply`. `()`
    /// is an event without data.
    ///
    /// # Panics
    ///
    /// Where it is declared twice, or its name is one of the protocol. The fields of `Data` are those of the
    /// message: it also panics where `Data` is not an object, has a field `type` or `id`, which the message
    /// itself has, or denies unknown fields, because it would refuse these two.
    #[track_caller]
    pub fn event<Data, Reply>(mut self, name: &str) -> Self
    where
        Data: JsonSchema + DeserializeOwned,
        Reply: JsonSchema + Serialize,
    {
        let exchange =
            Exchange { data: Declared::of_event::<Data>(), reply: Declared::of::<Reply>(Side::Output) };
        agreed(check::request(name, &exchange.data));
        let old = self.terms.requests.insert(name.to_owned(), exchange);
        assert!(old.is_none(), "the event `{name}` is declared twice");
        self
    }

    /// Declares a client request; [`ClientRequestType::ask`] sends it with the types declared here.
    ///
    /// # Panics
    ///
    /// Where it is declared twice, or its name is not valid.
    #[track_caller]
    pub fn client_request<Data, Reply>(mut self, request: ClientRequestType<Data, Reply>) -> Self
    where
        Data: JsonSchema + Serialize,
        Reply: JsonSchema + DeserializeOwned,
    {
        let name = request.name();
        agreed(check::name(name));
        let exchange =
            Exchange { data: Declared::of::<Data>(Side::Output), reply: Declared::of::<Reply>(Side::Input) };
        let old = self.terms.client_requests.insert(name.to_owned(), exchange);
        assert!(old.is_none(), "the client request `{name}` is declared twice");
        self
    }

    /// Declares a message that clients get outside of channels: the `message` of `private`, `group` or
    /// `broadcast`, or a message of the application with this `type` to one connection. For the latter, `T`
    /// has the fields besides `type`.
    ///
    /// # Panics
    ///
    /// Where it is declared twice, the name is another one of the protocol, or a message of the application
    /// is not an object.
    #[track_caller]
    pub fn message<T: JsonSchema + Serialize>(mut self, name: &str) -> Self {
        let message = Declared::of::<T>(Side::Output);
        agreed(check::direct(name, &message));
        let old = self.terms.messages.insert(name.to_owned(), message);
        assert!(old.is_none(), "the message `{name}` is declared twice");
        self
    }

    /// Declares several messages of the application by an enum with `#[serde(tag = "type")]`: each variant is
    /// one.
    ///
    /// # Panics
    ///
    /// As [`Contract::message`]; also where `T` is not such an enum.
    #[track_caller]
    pub fn messages<T: JsonSchema + Serialize>(mut self) -> Self {
        for (name, message) in agreed(Declared::of::<T>(Side::Output).variants()) {
            agreed(check::direct(&name, &message));
            let old = self.terms.messages.insert(name.clone(), message);
            assert!(old.is_none(), "the message `{name}` is declared twice");
        }
        self
    }

    /// Declares the channels whose name matches a pattern, as in
    /// [`HubBuilder::channels`](crate::HubBuilder::channels).
    ///
    /// # Panics
    ///
    /// Where the pattern is malformed, or is declared twice.
    pub fn channel(mut self, pattern: &str, channel: ChannelContract) -> Self {
        agreed(check::pattern(pattern, self.terms.channels.keys()));
        self.terms.channels.insert(pattern.to_owned(), channel.terms);
        self
    }

    /// Checks that a handler has the same events as the contract, with the same types of data and reply.
    /// [`Handler::on_message`](crate::Handler::on_message) handles what [`Handler::on`](crate::Handler::on)
    /// does not, and [`Handler::trigger_events`](crate::Handler::trigger_events) declares no types of data.
    /// Call it in a test, or where the handler is created.
    ///
    /// # Panics
    ///
    /// Where they differ; the message has every difference.
    #[track_caller]
    pub fn check(&self, handler: &crate::Handler) {
        let differences = check::differences(&self.terms, handler);
        assert!(differences.is_empty(), "the contract and the handler differ:\n{}", differences.join("\n"));
    }

    /// Returns the contract as a JSON Schema (2020-12) of an object with `requests`, `clientRequests`,
    /// `messages`, `channels` and `clientEvents`, whose types are in `$defs`. [`Contract::write`] writes it
    /// to a file.
    #[must_use]
    pub fn json_schema(&self) -> Value {
        self.document().json_schema()
    }

    /// Returns the contract as an AsyncAPI 3.0 document, from the application's side, with the messages as
    /// they are on the wire.
    #[must_use]
    pub fn async_api(&self) -> Value {
        self.document().async_api()
    }

    /// Returns the contract as a TypeScript module: one type for each Rust type, one for each pattern of
    /// channels, and `Contract`, the type argument of the TypeScript client. It ends with a line feed.
    #[must_use]
    pub fn typescript(&self) -> String {
        self.document().typescript()
    }

    /// Writes the contract to a file, which `hauyna types` and [`Contract::read`] read.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let text = format!("{:#}\n", self.json_schema());
        Ok(std::fs::write(path, text)?)
    }

    /// Reads a contract that [`Contract::write`] has written, or any document of the same form.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::error::ErrorKind::Io) where the file cannot be read;
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config), with the place of the fault, where it is not a
    /// contract.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)?;
        let value =
            serde_json::from_str(&text).map_err(|error| Error::config(format!("not JSON: {error}")))?;
        document::read(&value).map_err(Error::config)
    }

    fn document(&self) -> Document {
        let mut definitions = Definitions::default();
        // Types that clients get come first, so that they get the names without a suffix.
        self.terms.visit(&mut |declared| {
            if declared.side == Side::Output {
                definitions.admit(declared);
            }
        });
        let terms = self.terms.map(&mut |declared| definitions.admit(declared));
        let (title, version) = (self.title.clone(), self.version.clone());
        Document { title, version, terms, definitions: definitions.into_schemas() }
    }
}

impl<T> Default for ContractTerms<T> {
    fn default() -> Self {
        let (requests, client_requests, messages, channels) = Default::default();
        Self { requests, client_requests, messages, channels }
    }
}

impl<T> Default for ChannelTerms<T> {
    fn default() -> Self {
        let (messages, client_events) = Default::default();
        Self { messages, client_events, subscription: None, presence: None }
    }
}

impl<T> ContractTerms<T> {
    fn visit(&self, f: &mut impl FnMut(&T)) {
        self.map(&mut |one| f(one));
    }

    /// Returns the same terms with every type replaced by the result of `f`.
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> ContractTerms<U> {
        ContractTerms {
            requests: exchanges(&self.requests, f),
            client_requests: exchanges(&self.client_requests, f),
            messages: each(&self.messages, f),
            channels: each(&self.channels, &mut |channel| ChannelTerms {
                messages: each(&channel.messages, f),
                client_events: each(&channel.client_events, f),
                subscription: channel.subscription.as_ref().map(&mut *f),
                presence: channel.presence.as_ref().map(&mut *f),
            }),
        }
    }
}

fn exchanges<T, U>(
    of: &BTreeMap<String, Exchange<T>>,
    f: &mut impl FnMut(&T) -> U,
) -> BTreeMap<String, Exchange<U>> {
    each(of, &mut |one| Exchange { data: f(&one.data), reply: f(&one.reply) })
}

fn each<T, U>(of: &BTreeMap<String, T>, f: &mut impl FnMut(&T) -> U) -> BTreeMap<String, U> {
    of.iter().map(|(name, one)| (name.clone(), f(one))).collect()
}

/// Returns the value, or panics with the fault, because a wrong declaration is a mistake of the programmer.
#[track_caller]
pub(super) fn agreed<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}
