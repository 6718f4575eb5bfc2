//! What both encodings can write. Messages are described once, against this trait; the writers append to a
//! buffer and build nothing in between.

use crate::{Epoch, Raw, RequestId};

/// Appends one value to a buffer. Objects have at most 15 fields; maps have any number.
pub(crate) trait Writer {
    /// Writes an object whose fields `fields` writes, each as a `name` and one value.
    fn object(&mut self, fields: impl FnOnce(&mut Self));

    /// Writes an array, each item by `item`.
    fn array<T>(&mut self, items: &[T], item: impl FnMut(&mut Self, &T));

    /// Writes an object whose keys are data: each with a value by `value`.
    fn map<K: AsRef<str>, V>(&mut self, entries: &[(K, V)], value: impl FnMut(&mut Self, &V));

    /// Writes a field's name; one value follows. Names are plain ASCII.
    fn name(&mut self, name: &'static str);

    /// Writes a text.
    fn text(&mut self, text: &str);

    /// Writes an integer.
    fn unsigned(&mut self, number: u64);

    /// Writes a fraction; what is no finite number becomes `null`.
    fn float(&mut self, number: f64);

    /// Writes a truth value.
    fn boolean(&mut self, value: bool);

    /// Splices a value in.
    fn raw(&mut self, raw: Raw<'_>);

    /// Splices a value in that is already in this writer's encoding.
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

    /// Writes a field that is a truth value.
    fn boolean_field(&mut self, name: &'static str, value: bool) {
        self.name(name);
        self.boolean(value);
    }

    /// Writes a field that is spliced in.
    fn raw_field(&mut self, name: &'static str, raw: Raw<'_>) {
        self.name(name);
        self.raw(raw);
    }

    /// Writes a value of the application's.
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
