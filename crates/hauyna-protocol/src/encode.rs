//! The layout of each message: the order of its fields, and which are left out. Only `Message::encode` and
//! `Application::encode` call it.

use crate::{
    AckData, Encoding, Message, Position, Raw, Recovery, RetryTerms, Session, Subscribed,
    json::JsonWriter,
    message::{ChannelEventMessage, ClientEvent, Direct, ErrorMessage, FailedSubscription, Publication},
    msgpack::PackWriter,
    presence,
    write::Writer,
};

impl Message<'_> {
    /// Appends the message to `out`.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        match encoding {
            Encoding::Json => self.write(&mut JsonWriter::new(out)),
            Encoding::MessagePack => self.write(&mut PackWriter::new(out)),
        }
    }

    fn write<W: Writer>(&self, w: &mut W) {
        w.object(|w| match self {
            Self::Session(session) => write_session(w, session),
            Self::Ack { id, data } => {
                w.text_field("type", "ack");
                w.id_field(id);
                if let Some(data) = data {
                    w.name("data");
                    write_ack_data(w, data);
                }
            }
            Self::Pong { id } => {
                w.text_field("type", "pong");
                if let Some(id) = id {
                    w.id_field(id);
                }
            }
            Self::Error(error) => write_error(w, error),
            Self::Publication(publication) => write_publication(w, publication),
            Self::Private(direct) => write_direct(w, "private", None, direct),
            Self::Group { room, direct } => write_direct(w, "group", Some(room), direct),
            Self::Broadcast(direct) => write_direct(w, "broadcast", None, direct),
            Self::ChannelEvent(event) => write_channel_event(w, event),
            Self::ClientEvent(event) => write_client_event(w, event),
            Self::PresenceState(state) => presence::write_state(w, state),
            Self::PresenceChange(change) => presence::write_change(w, change),
            Self::PresenceDiff(diff) => presence::write_diff(w, diff),
            Self::Occupancy { channel, count } => {
                w.text_field("type", "occupancy");
                w.text_field("channel", channel);
                w.unsigned_field("count", *count);
            }
            Self::Subscribed(subscribed) => {
                w.text_field("type", "subscribed");
                write_subscribed(w, subscribed);
            }
            Self::Unsubscribed { channel } => {
                w.text_field("type", "unsubscribed");
                w.text_field("channel", channel);
            }
            Self::Gap { channel, position, missed } => {
                w.text_field("type", "gap");
                w.text_field("channel", channel);
                if let Some(position) = position {
                    write_position(w, *position);
                }
                w.unsigned_field("missed", *missed);
            }
            Self::Request { id, event, data } => {
                w.text_field("type", "request");
                w.id_field(id);
                w.text_field("event", event);
                w.raw_field("data", *data);
            }
            Self::RetryPolicy(terms) => {
                w.text_field("type", "retry_policy");
                write_retry(w, *terms);
            }
            Self::ConnectionState { user, state, timestamp } => {
                w.text_field("type", "connection_state");
                w.text_field("user", user);
                w.text_field("state", state);
                w.unsigned_field("timestamp", *timestamp);
            }
            Self::Reconnect { min, max, reason } => {
                w.text_field("type", "reconnect");
                w.name("after");
                w.array(&[*min, *max], |w, delay| w.unsigned(*delay));
                w.text_field("reason", reason);
            }
        });
    }
}

fn write_session<W: Writer>(w: &mut W, session: &Session<'_>) {
    w.text_field("type", "session");
    w.text_field("connection_id", session.connection_id);
    w.text_field("user", session.user);
    w.boolean_field("resumed", session.resumed);
    if let Some(resume) = session.resume {
        w.name("resume");
        w.object(|w| {
            w.text_field("token", resume.token);
            w.unsigned_field("window", resume.window);
        });
    }
    if let Some(heartbeat) = session.heartbeat {
        w.name("heartbeat");
        w.object(|w| {
            w.unsigned_field("interval", heartbeat.interval);
            w.unsigned_field("timeout", heartbeat.timeout);
        });
    }
    if let Some(retry) = session.retry {
        w.name("retry");
        w.object(|w| write_retry(w, retry));
    }
    if !session.subscriptions.is_empty() {
        w.name("subscriptions");
        w.array(session.subscriptions, |w, subscribed| w.object(|w| write_subscribed(w, subscribed)));
    }
    if !session.failed.is_empty() {
        w.name("failed");
        w.array(session.failed, |w, failed| w.object(|w| write_failed(w, failed)));
    }
    if let Some(expires_at) = session.expires_at {
        w.unsigned_field("expires_at", expires_at);
    }
    if let Some(expires_in) = session.expires_in {
        w.unsigned_field("expires_in", expires_in);
    }
    if let Some(limits) = session.limits {
        w.name("limits");
        w.object(|w| w.unsigned_field("max_message", limits.max_message));
    }
}

fn write_failed<W: Writer>(w: &mut W, failed: &FailedSubscription<'_>) {
    w.text_field("channel", failed.channel);
    w.text_field("error_type", failed.error.as_str());
    w.text_field("message", failed.message);
    w.boolean_field("temporary", failed.error.is_temporary());
}

fn write_retry<W: Writer>(w: &mut W, retry: RetryTerms) {
    if let Some(attempts) = retry.max_attempts {
        w.unsigned_field("max_attempts", u64::from(attempts));
    }
    w.unsigned_field("base_delay", retry.base_delay);
    w.unsigned_field("max_delay", retry.max_delay);
    w.name("backoff_multiplier");
    w.float(retry.backoff_multiplier);
    w.name("jitter");
    w.float(retry.jitter);
}

fn write_ack_data<W: Writer>(w: &mut W, data: &AckData<'_>) {
    match data {
        AckData::Raw(raw) => w.raw(*raw),
        AckData::Value(value) => w.value(value),
        AckData::Subscribed(subscribed) => w.object(|w| write_subscribed(w, subscribed)),
        AckData::Published(position) => w.object(|w| write_position(w, *position)),
        AckData::Presence(page) => w.object(|w| presence::write_page(w, page)),
        AckData::History { channel, position, oldest, messages } => w.object(|w| {
            w.text_field("channel", channel);
            write_position(w, *position);
            w.unsigned_field("oldest", *oldest);
            w.name("messages");
            w.array(messages, |w, message| w.encoded(message));
        }),
    }
}

fn write_subscribed<W: Writer>(w: &mut W, subscribed: &Subscribed<'_>) {
    w.text_field("channel", subscribed.channel);
    if let Some(position) = subscribed.position {
        write_position(w, position);
    }
    w.boolean_field("recoverable", subscribed.recoverable);
    match subscribed.recovery {
        Recovery::NotAsked => {}
        Recovery::Recovered => w.boolean_field("recovered", true),
        Recovery::Failed(reason) => {
            w.boolean_field("recovered", false);
            w.text_field("reason", reason.as_str());
        }
    }
    if !subscribed.client_events.is_empty() {
        w.name("client_events");
        w.map(subscribed.client_events, |w, per_second| w.unsigned(u64::from(*per_second)));
    }
}

fn write_error<W: Writer>(w: &mut W, error: &ErrorMessage<'_>) {
    w.text_field("type", "error");
    w.text_field("error_type", error.error.as_str());
    w.text_field("message", error.message);
    w.unsigned_field("timestamp", error.timestamp);
    if let Some(id) = error.id {
        w.id_field(id);
    }
    w.boolean_field("temporary", error.error.is_temporary());
    if let Some(details) = error.details {
        w.name("details");
        w.value(details);
    }
}

pub(crate) fn write_publication<W: Writer>(w: &mut W, publication: &Publication<'_>) {
    w.text_field("type", "message");
    w.text_field("channel", publication.channel);
    if let Some(user) = publication.user {
        w.text_field("user", user);
    }
    w.raw_field("content", publication.content);
    write_stamp(w, publication.timestamp, publication.offset);
}

fn write_direct<W: Writer>(w: &mut W, kind: &'static str, room: Option<&str>, direct: &Direct<'_>) {
    w.text_field("type", kind);
    if let Some(from) = direct.from {
        w.text_field("from", from);
    }
    if let Some(room) = room {
        w.text_field("room", room);
    }
    w.raw_field("message", direct.message);
    write_stamp(w, direct.timestamp, direct.offset);
}

fn write_channel_event<W: Writer>(w: &mut W, event: &ChannelEventMessage<'_>) {
    w.text_field("type", "channel_event");
    w.text_field("event", event.event.as_str());
    w.text_field("channel", event.channel);
    w.text_field("user", event.user);
    w.name("metadata");
    w.raw(event.metadata.unwrap_or(Raw::EMPTY_OBJECT));
}

fn write_client_event<W: Writer>(w: &mut W, event: &ClientEvent<'_>) {
    w.text_field("type", "client_event");
    w.text_field("channel", event.channel);
    w.text_field("event", event.event);
    w.text_field("user", event.user);
    if let Some(data) = event.data {
        w.raw_field("data", data);
    }
}

fn write_position<W: Writer>(w: &mut W, position: Position) {
    w.epoch_field(position.epoch);
    w.unsigned_field("offset", position.offset);
}

fn write_stamp<W: Writer>(w: &mut W, timestamp: u64, offset: Option<u64>) {
    w.unsigned_field("timestamp", timestamp);
    if let Some(offset) = offset {
        w.unsigned_field("offset", offset);
    }
}
