//! MessagePack: reads the fields of a message without a tree, and checks that its values are safe to pass on.
//! It is iterative; a claimed length counts only as far as there are bytes, and nothing is allocated for it.

mod check;
mod fields;
mod read;
mod token;
mod transcode;
mod write;

pub(crate) use check::check;
pub(crate) use fields::{collect, each_field};
pub(crate) use read::{read_text, read_unsigned};
pub(crate) use transcode::to_json;
pub(crate) use write::{PackWriter, extend_map};

#[cfg(test)]
mod tests;
