//! JSON: reads the fields of a message without a tree, checks depth and grammar, writes messages, and
//! converts values to MessagePack.

mod check;
mod fields;
mod locate;
mod read;
mod token;
mod transcode;
mod write;

pub(crate) use check::check;
pub(crate) use fields::{collect, each_field};
pub(crate) use locate::locate;
pub(crate) use read::{read_text, read_unsigned};
pub(crate) use transcode::to_message_pack;
pub(crate) use write::{JsonWriter, write_float, write_text};

#[cfg(test)]
mod tests;
