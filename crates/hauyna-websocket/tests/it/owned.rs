//! Events that own their payload, and a decoder run over chunks. The other test modules compare with them.

use hauyna_websocket::{Decoder, Event, ProtocolError};

/// An [`Event`] that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close(reason) => Self::Close(reason.map(|(code, text)| (code.as_u16(), text.to_owned()))),
        }
    }
}

/// Events of a stream, and the fault that ended it.
pub(crate) type Outcome = (Vec<Owned>, Option<ProtocolError>);

/// Feeds the chunks one after another.
pub(crate) fn decode<'c>(decoder: &mut Decoder, chunks: impl IntoIterator<Item = &'c [u8]>) -> Outcome {
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let mut events = decoder.feed(&mut chunk);
        loop {
            match events.next() {
                Ok(Some(event)) => seen.push(event.into()),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}
