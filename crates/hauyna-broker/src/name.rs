//! Names of channels and users. They are checked once, where they are created, and shared by reference count.
//! Used everywhere in the crate.

use crate::directory::NodeId;
use crate::error::InvalidValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a channel: 1 to 255 bytes of UTF-8 without control characters. Names that begin with `@` are
/// reserved for the hub (`@user:alice`, `@group:admins`, `@all`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// The identifier of a user, as `identify` returned it: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl ChannelName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] where the name is empty, too long, or has a control character.
    pub fn new(name: &str) -> Result<Self, InvalidValue> {
        check(name, "channel").map(|()| Self(Arc::from(name)))
    }

    /// Returns the channel that carries a user's direct messages, `@user:NAME`.
    pub fn of_user(user: &str) -> Self {
        Self(Arc::from(format!("{USER_PREFIX}{user}")))
    }

    /// Returns the channel that carries a group's messages, `@group:NAME`.
    pub fn of_group(group: &str) -> Self {
        Self(Arc::from(format!("{GROUP_PREFIX}{group}")))
    }

    /// Returns the channel that carries the changes of a map, `@map:KIND:NAME`.
    pub fn of_map(map: &MapName) -> Self {
        Self(Arc::from(format!("{MAP_PREFIX}{}:{}", map.kind, map.name)))
    }

    /// Returns the map whose changes the channel carries, if it is one of those.
    pub fn map(&self) -> Option<MapName> {
        let (kind, name) = self.0.strip_prefix(MAP_PREFIX)?.split_once(':')?;
        Some(MapName { kind: kind.into(), name: name.into() })
    }

    /// Returns the channel that reaches every connection, `@all`.
    pub fn everybody() -> Self {
        Self(Arc::from(EVERYBODY))
    }

    /// Returns the receivers that the name stands for.
    pub fn target(&self) -> Target<'_> {
        match &*self.0 {
            EVERYBODY => Target::Everybody,
            name if name.starts_with('@') => {
                let user = name.strip_prefix(USER_PREFIX).map(Target::User);
                let group = || name.strip_prefix(GROUP_PREFIX).map(Target::Group);
                user.or_else(group).unwrap_or(Target::Channel)
            }
            _ => Target::Channel,
        }
    }

    /// Whether it is the channel that carries a group's messages.
    pub fn is_of_group(&self) -> bool {
        matches!(self.target(), Target::Group(_))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a map in a [`Directory`](crate::Directory): a kind, which says what the fields are, and a name
/// of that kind.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapName {
    kind: Arc<str>,
    name: Arc<str>,
}

impl MapName {
    /// Creates the name of a map.
    ///
    /// # Panics
    ///
    /// Panics if `kind` has a colon.
    pub fn new(kind: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        let kind = kind.into();
        assert!(!kind.contains(':'), "the kind of a map has no colon");
        Self { kind, name: name.into() }
    }

    /// Returns the kind of the map.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the name of the map among those of its kind.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for MapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.kind, self.name)
    }
}

/// Identifies one connection of a cluster, for as long as its node lives: 24 bits name the node, 40 bits
/// count its connections. As text it has 16 hexadecimal digits, of which the first six are the [`NodeId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Creates the identifier from its number.
    pub fn new(value: u64) -> Self {
        Self(value)
    }

    /// Creates the identifier of a connection of a node. Of `count`, the lower 40 bits are used.
    pub fn of_node(node: NodeId, count: u64) -> Self {
        Self(u64::from(node.number()) << COUNT_BITS | count & ((1 << COUNT_BITS) - 1))
    }

    /// Returns its number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the node that the connection is or was on; [`NodeId::ALONE`] without a cluster.
    pub fn node(self) -> NodeId {
        u32::try_from(self.0 >> COUNT_BITS).ok().and_then(NodeId::new).unwrap_or(NodeId::ALONE)
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidValue;

    /// Parses the 16 hexadecimal digits of [`Display`](fmt::Display), in lower case.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let number = (text.len() == 16 && text.bytes().all(is_digit)).then(|| u64::from_str_radix(text, 16));
        match number {
            Some(Ok(number)) => Ok(Self(number)),
            _ => Err(InvalidValue("the identifier of a connection has 16 hexadecimal digits".to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The receivers that the name of a channel stands for.
///
/// Exhaustive: a deliverer has to know every kind of receiver.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The subscribers of the channel.
    Channel,
    /// The connections of a user.
    User(&'a str),
    /// The members of a group.
    Group(&'a str),
    /// Every connection.
    Everybody,
}

/// Whether the name is reserved for the hub, so that clients must not use it in their requests.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with('@')
}

impl UserId {
    /// Checks an identifier.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] where it is empty, too long, or has a control character.
    pub fn new(user: &str) -> Result<Self, InvalidValue> {
        check(user, "user").map(|()| Self(Arc::from(user)))
    }

    /// Returns the identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that a name has 1 to 255 bytes and no control characters. `what` says in the error what it names.
///
/// # Errors
///
/// [`InvalidValue`] where it does not.
pub fn check(name: &str, what: &'static str) -> Result<(), InvalidValue> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else {
        return Ok(());
    };
    Err(InvalidValue(format!("the {what} name {fault}")))
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}
text!(ChannelName, UserId);

impl Deref for UserId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for UserId {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<str> for &UserId {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for UserId {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

const EVERYBODY: &str = "@all";
const USER_PREFIX: &str = "@user:";
const MAP_PREFIX: &str = "@map:";
const GROUP_PREFIX: &str = "@group:";
/// Maximum length of a name in bytes. The channel of a user or of a group is longer by its prefix.
const MAX_NAME: usize = 255;
/// Bits of a [`ConnectionId`] that count the connections of a node.
const COUNT_BITS: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_names_its_node_and_is_read_back_from_its_text() {
        let node = NodeId::new(0x00ab_cdef).unwrap();
        let id = ConnectionId::of_node(node, 0xffff_ff12_3456_789a);
        assert_eq!((id.to_string().as_str(), id.node()), ("abcdef123456789a", node));
        assert_eq!("abcdef123456789a".parse(), Ok(id));
        assert_eq!(serde_json::from_str::<ConnectionId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        assert_eq!(ConnectionId::of_node(NodeId::ALONE, 7).to_string(), "0000000000000007");
        for text in ["", "7", "+bcdef123456789a", "ABCDEF123456789a", "abcdef123456789a0", "éééééééé"]
        {
            assert!(text.parse::<ConnectionId>().is_err(), "{text}");
        }
    }
}
