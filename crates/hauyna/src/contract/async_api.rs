//! Generates an AsyncAPI 3.0 document from a contract, from the application's side: it receives what clients
//! send. The messages are described as they are on the wire, with the fields of the protocol around those of
//! the application. Called by `Contract::async_api`.

use super::channel::CONTENT;
use super::declared::referred;
use super::document::Document;
use super::{ChannelTerms, Exchange};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl Document {
    pub(super) fn async_api(&self) -> Value {
        let mut outline = Outline::default();
        let connection = outline.channel(CONNECTION, json!({ "description": "One WebSocket connection." }));
        for (name, one) in &self.terms.requests {
            let (data, reply) = request(name, one);
            outline.exchange("receive", name, &connection, [&data, &reply]);
        }
        for (name, one) in &self.terms.client_requests {
            let (data, reply) = client_request(name, one);
            outline.exchange("send", name, &connection, [&data, &reply]);
        }
        for (name, one) in &self.terms.messages {
            let message = outline.message(&connection, name, &direct(name, one));
            outline.operation("send", name, &connection, &message);
        }
        for (pattern, channel) in &self.terms.channels {
            outline.add_channel(pattern, channel);
        }
        let schemas: Map<String, Value> =
            self.definitions.iter().map(|(name, schema)| (name.clone(), plain(schema))).collect();
        let mut document = json!({
            "asyncapi": "3.0.0",
            "info": { "title": self.title, "version": self.version },
            "defaultContentType": "application/json",
            "channels": outline.channels,
            "operations": outline.operations,
            "components": { "schemas": schemas },
        });
        document.sort_all_objects();
        document
    }
}

/// The channels and operations of the document.
#[derive(Default)]
struct Outline {
    channels: BTreeMap<String, Value>,
    operations: BTreeMap<String, Value>,
}

impl Outline {
    fn add_channel(&mut self, pattern: &str, channel: &ChannelTerms<Value>) {
        let names = pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        let parameters: BTreeMap<String, Value> =
            names.map(|name| (identifier(name.trim_start_matches('*')), json!({}))).collect();
        let described = json!({ "address": address(pattern), "parameters": parameters });
        let id = self.channel(pattern, described);
        for (name, schema) in &channel.messages {
            let is_content = name == CONTENT;
            let payload = if is_content { publication(schema) } else { of_application(name, schema) };
            let message = self.message(&id, name, &payload);
            self.operation("send", &format!("{pattern} {name}"), &id, &message);
            if is_content {
                let message = self.message(&id, "channel_message", &publish(schema));
                self.operation("receive", &format!("{pattern} {name}"), &id, &message);
            }
        }
        for (name, data) in &channel.client_events {
            let payload = client_event(name, data, Origin::Client);
            let message = self.message(&id, "client_event", &payload);
            self.operation("receive", &format!("{pattern} client event {name}"), &id, &message);
            let payload = client_event(name, data, Origin::Server);
            let message = self.message(&id, "client_event", &payload);
            self.operation("send", &format!("{pattern} client event {name}"), &id, &message);
        }
        if let Some(metadata) = &channel.subscription {
            let message = self.message(&id, "subscribe_channel", &subscribe(metadata));
            self.operation("receive", &format!("{pattern} subscription"), &id, &message);
        }
        if let Some(metadata) = &channel.presence {
            let message = self.message(&id, "presence_change", &presence(metadata));
            self.operation("send", &format!("{pattern} presence"), &id, &message);
        }
    }

    fn channel(&mut self, name: &str, mut described: Value) -> String {
        let id = unused(&self.channels, &identifier(name));
        described["messages"] = json!({});
        self.channels.insert(id.clone(), described);
        id
    }

    /// Adds a message to a channel. Returns the reference to it.
    fn message(&mut self, channel: &str, name: &str, payload: &Value) -> Value {
        let mut message = json!({ "name": name, "payload": payload });
        if message.pointer("/payload/allOf/0/properties/id").is_some() {
            message["correlationId"] = json!({ "location": "$message.payload#/id" });
        }
        let channel_of =
            self.channels.get_mut(channel).and_then(|channel| channel["messages"].as_object_mut());
        let messages = channel_of.expect("invariant: `channel` gave every channel its messages");
        let id = unused_in(|id| messages.contains_key(id), &identifier(name));
        messages.insert(id.clone(), message);
        json!({ "$ref": format!("#/channels/{channel}/messages/{id}") })
    }

    /// Adds an operation without a reply: `action` is `send` or `receive`, `message` a reference to a message
    /// of the channel.
    fn operation(&mut self, action: &str, name: &str, channel: &str, message: &Value) {
        self.insert_operation(name, operation(action, channel, message));
    }

    /// Adds a message and its reply to a channel, and the operation of both.
    fn exchange(&mut self, action: &str, name: &str, channel: &str, payloads: [&Value; 2]) {
        let message = self.message(channel, name, payloads[0]);
        let reply = self.message(channel, &format!("{name}_reply"), payloads[1]);
        let mut operation = operation(action, channel, &message);
        operation["reply"] = json!({ "channel": operation["channel"], "messages": [reply] });
        self.insert_operation(name, operation);
    }

    fn insert_operation(&mut self, name: &str, operation: Value) {
        let action = operation["action"].as_str().unwrap_or_default();
        let id = unused(&self.operations, &identifier(&format!("{action}_{name}")));
        self.operations.insert(id, operation);
    }
}

fn operation(action: &str, channel: &str, message: &Value) -> Value {
    let channel = json!({ "$ref": format!("#/channels/{channel}") });
    json!({ "action": action, "channel": channel, "messages": [message] })
}

fn request(name: &str, one: &Exchange<Value>) -> (Value, Value) {
    let envelope = envelope(name, &json!({ "id": id() }), &[]);
    (json!({ "allOf": [envelope, plain(&one.data)] }), answer(&one.reply))
}

fn client_request(name: &str, one: &Exchange<Value>) -> (Value, Value) {
    let fields = json!({ "id": id(), "event": { "const": name }, "data": plain(&one.data) });
    (json!({ "allOf": [envelope("request", &fields, &["id", "event", "data"])] }), answer(&one.reply))
}

/// Returns the payload of an `ack`. Its `data` is optional where the reply is null.
fn answer(data: &Value) -> Value {
    let fields = json!({ "id": id(), "data": plain(data) });
    let is_empty = data.get("type").is_some_and(|kind| kind == "null");
    json!({ "allOf": [envelope("ack", &fields, if is_empty { &["id"] } else { &["id", "data"] })] })
}

fn direct(name: &str, message: &Value) -> Value {
    if !["private", "group", "broadcast"].contains(&name) {
        let envelope = envelope(name, &json!({}), &[]);
        return json!({ "allOf": [envelope, plain(message)] });
    }
    let fields = json!({
        "from": { "type": "string" }, "message": plain(message), "timestamp": moment(), "offset": offset(),
    });
    let mut envelope = envelope(name, &fields, &["message", "timestamp"]);
    if name == "group" {
        envelope["properties"]["room"] = json!({ "type": "string" });
    }
    envelope
}

fn publication(content: &Value) -> Value {
    let fields = json!({
        "channel": { "type": "string" }, "user": { "type": "string" }, "content": plain(content),
        "timestamp": moment(), "offset": offset(),
    });
    envelope("message", &fields, &["channel", "content", "timestamp"])
}

fn of_application(name: &str, message: &Value) -> Value {
    let fields = json!({ "channel": { "type": "string" }, "timestamp": moment(), "offset": offset() });
    json!({ "allOf": [envelope(name, &fields, &["channel", "timestamp"]), plain(message)] })
}

fn publish(content: &Value) -> Value {
    let fields = json!({
        "id": id(), "channel": { "type": "string" }, "content": plain(content), "key": { "type": "string" },
        "echo": { "type": "boolean", "description": "Whether the sender also gets it. Default: true." },
    });
    json!({ "allOf": [envelope("channel_message", &fields, &["channel", "content"])] })
}

fn subscribe(metadata: &Value) -> Value {
    let fields = json!({ "id": id(), "channel": { "type": "string" }, "metadata": plain(metadata) });
    json!({ "allOf": [envelope("subscribe_channel", &fields, &["channel"])] })
}

/// The sender of a client event: a client sends it to the server, the server sends it to the other
/// subscribers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Client,
    Server,
}

fn client_event(name: &str, data: &Value, origin: Origin) -> Value {
    let mut fields = json!({ "channel": { "type": "string" }, "event": { "const": name } });
    let mut required = vec!["channel", "event"];
    if data.get("type").is_none_or(|kind| kind != "null") {
        fields["data"] = plain(data);
        required.push("data");
    }
    match origin {
        Origin::Client => fields["id"] = id(),
        Origin::Server => {
            fields["user"] = json!({ "type": "string" });
            required.push("user");
        }
    }
    let envelope = envelope("client_event", &fields, &required);
    if origin == Origin::Client { json!({ "allOf": [envelope] }) } else { envelope }
}

fn presence(metadata: &Value) -> Value {
    let fields = json!({
        "event": { "enum": ["join", "leave", "update"] }, "user": { "type": "string" },
        "channel": { "type": "string" }, "metadata": plain(metadata), "status": { "type": "string" },
        "connections": { "type": "integer" }, "timestamp": moment(), "offset": offset(),
    });
    let required = ["event", "user", "channel", "metadata", "status", "connections", "timestamp", "offset"];
    envelope("presence_change", &fields, &required)
}

/// Returns the schema of a message of the protocol: its `type` and other fields.
fn envelope(kind: &str, fields: &Value, required: &[&str]) -> Value {
    let mut envelope = json!({ "type": "object", "properties": fields });
    envelope["properties"]["type"] = json!({ "const": kind });
    envelope["required"] = std::iter::once("type").chain(required.iter().copied()).collect();
    envelope
}

fn id() -> Value {
    json!({ "type": ["integer", "string"], "description": "The reply has the same id." })
}

fn moment() -> Value {
    json!({ "type": "integer", "description": "Milliseconds since the Unix epoch." })
}

fn offset() -> Value {
    json!({ "type": "integer", "description": "Present where the channel numbers its publications." })
}

/// Converts a schema to draft 7, on which AsyncAPI builds: tuples are `items`, and `$ref` has no siblings.
fn plain(schema: &Value) -> Value {
    let Value::Object(whole) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in whole {
        match key.as_str() {
            "$ref" => {}
            "prefixItems" => {
                let rest = whole.get("items").map_or(json!(true), plain);
                out.insert("items".to_owned(), list(value));
                out.insert("additionalItems".to_owned(), rest);
            }
            "items" if whole.contains_key("prefixItems") => {}
            "properties" | "patternProperties" => {
                let fields = value.as_object().into_iter().flatten();
                out.insert(key.clone(), fields.map(|(name, schema)| (name.clone(), plain(schema))).collect());
            }
            "oneOf" | "anyOf" | "allOf" => {
                out.insert(key.clone(), list(value));
            }
            "items" | "additionalProperties" | "not" | "contains" | "propertyNames" => {
                out.insert(key.clone(), plain(value));
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    let Some(name) = referred(schema) else { return Value::Object(out) };
    let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
    if out.is_empty() {
        return reference;
    }
    if let Some(all) = out.entry("allOf").or_insert_with(|| json!([])).as_array_mut() {
        all.push(reference);
    }
    Value::Object(out)
}

fn list(schemas: &Value) -> Value {
    schemas.as_array().into_iter().flatten().map(plain).collect()
}

/// Returns a pattern in the notation of AsyncAPI: `room:{*id}` becomes `room:{id}`.
fn address(pattern: &str) -> String {
    let mut parts = pattern.split('{');
    let mut address = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        address.push_str(&format!("{{{}}}{rest}", identifier(name.trim_start_matches('*'))));
    }
    address
}

/// Returns a text with only the characters that the keys of a document may have.
fn identifier(text: &str) -> String {
    let kept: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    kept.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

fn unused(there: &BTreeMap<String, Value>, wanted: &str) -> String {
    unused_in(|id| there.contains_key(id), wanted)
}

fn unused_in(is_there: impl Fn(&str) -> bool, wanted: &str) -> String {
    let wanted = if wanted.is_empty() { "unnamed" } else { wanted };
    let numbered = (2..).map(|number: u32| format!("{wanted}_{number}"));
    let mut ids = std::iter::once(wanted.to_owned()).chain(numbered).filter(|id| !is_there(id));
    ids.next().unwrap_or_default()
}

const CONNECTION: &str = "connection";
