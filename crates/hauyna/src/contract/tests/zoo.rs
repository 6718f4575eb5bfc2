//! Types of every form that serde knows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One of everything.
/// With a comment that would end early: */
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Plain {
    pub(super) flag: bool,
    pub(super) letter: char,
    pub(super) ratio: f64,
    pub(super) small: i8,
    /// Counts.
    pub(super) large: u64,
    pub(super) unit: (),
    #[serde(rename = "kebab-name")]
    pub(super) renamed: String,
    #[serde(rename = "class")]
    pub(super) keyword: Option<String>,
    #[deprecated]
    #[serde(default)]
    pub(super) old: bool,
    #[serde(default = "five", skip_serializing_if = "is_five")]
    pub(super) five: u8,
    #[schemars(extend("format" = "date-time"))]
    pub(super) at: String,
}

fn five() -> u8 {
    5
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_five(number: &u8) -> bool {
    *number == 5
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Many {
    pub(super) list: Vec<Option<u8>>,
    pub(super) set: BTreeSet<String>,
    pub(super) pair: (u8, String),
    pub(super) triple: [f32; 3],
    pub(super) by_name: BTreeMap<String, Shade>,
    pub(super) by_number: BTreeMap<u32, bool>,
    pub(super) by_shade: BTreeMap<Shade, u8>,
    pub(super) anything: serde_json::Value,
    pub(super) result: Result<u8, String>,
}

#[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shade {
    Light,
    /// Not light.
    Dark,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) enum External {
    Nothing,
    One(u8),
    Two(u8, String),
    Named { x: f64 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Internal {
    Nothing,
    Shown { shade: Shade },
    Whole(Point),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "t", content = "c")]
pub(super) enum Adjacent {
    Nothing,
    One(Point),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Untagged {
    Number(f64),
    Text(String),
    Point(Point),
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Name(pub(super) String);

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Couple(pub(super) Name, pub(super) Option<Name>);

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Nothing;

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct NoFields {}

/// A folder in a folder.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Folder {
    pub(super) name: Name,
    pub(super) parent: Option<Box<Folder>>,
    pub(super) folders: Vec<Folder>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Flat {
    #[serde(flatten)]
    pub(super) point: Point,
    #[serde(flatten)]
    pub(super) kind: Internal,
    pub(super) own: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Open {
    pub(super) own: bool,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, u8>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Strict {
    pub(super) own: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) more: Option<u8>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
}

pub(super) mod other {
    use super::{Deserialize, JsonSchema, Serialize};

    /// Not the one outside.
    #[derive(Serialize, Deserialize, JsonSchema)]
    pub(in super::super) struct Point {
        pub(in super::super) angle: f64,
    }

    /// A word of TypeScript.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[expect(non_camel_case_types, reason = "that is what it is about")]
    pub(in super::super) struct string {
        pub(in super::super) text: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub(in super::super) struct Contract {
        pub(in super::super) is_mine: bool,
    }
}
