//! The trait of both encodings' writers. Messages are described once, through this trait; the writers append
//! to a buffer without intermediate values.

use crate::{Epoch, Raw, RequestId};

/// A writer of one value to a buffer. Objects have at most 15 fields; maps have any number.
pub(crate) trait Writer {
    /// Writes an object whose fields `fields` writes, each as a `name` and one value.
    fn object(&mut self, fields: impl FnOnce(&mut Self));

    /// Writes an array; `item` writes each item.
    fn array<T>(&mut self, items: &[T], item: impl FnMut(&mut Self, &T));

    /// Writes an object whose keys are data; `value` writes each value.
    fn map<K: AsRef<str>, V>(&mut self, entries: &[(K, V)], value: impl FnMut(&mut Self, &V));

    /// Writes a field's name; one value follows. Names are plain ASCII.
    fn name(&mut self, name: &'static str);

    /// Writes a text.
    fn text(&mut self, text: &str);

    /// Writes an integer.
    fn unsigned(&mut self, number: u64);

    /// Writes a float; a number that is not finite becomes `null`.
    fn float(&mut self, number: f64);

    /// Writes a boolean.
    fn boolean(&mut self, value: bool);

    /// Writes a raw value.
    fn raw(&mut self, raw: Raw<'_>);

    /// Writes a value that is already in this writer's encoding.
    fn encoded(&mut self, bytes: &[u8]);

    /// Writes a field that is a text.
    fn text_field(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.text(text);
    }

    /// Writes a field that is an integer.
    fn unsigned_field(&mut self, name: &'static str, number: u64) {
        self.name(name);
        self.unsigned(number);
    }

    /// Writes a field that is a boolean.
    fn boolean_field(&mut self, name: &'static str, value: bool) {
        self.name(name);
        self.boolean(value);
    }

    /// Writes a field with a raw value.
    fn raw_field(&mut self, name: &'static str, raw: Raw<'_>) {
        self.name(name);
        self.raw(raw);
    }

    /// Writes a value of the application.
    fn value(&mut self, value: &serde_json::Value) {
        let json = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        self.raw(Raw::assume_valid(crate::Encoding::Json, &json));
    }

    /// Writes the `id` of a request.
    fn id_field(&mut self, id: &RequestId) {
        match id {
            RequestId::Number(number) => self.unsigned_field("id", *number),
            RequestId::Text(text) => self.text_field("id", text),
        }
    }

    /// Writes the field `epoch`.
    fn epoch_field(&mut self, epoch: Epoch) {
        self.name("epoch");
        epoch.with_text(|text| self.text(text));
    }
}
