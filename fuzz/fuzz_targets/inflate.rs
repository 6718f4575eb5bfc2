//! Any bytes as compressed messages: never above the limit, never a panic, the same from a used pool as from a
//! fresh one, whole as in fragments, and what we compress comes back.
#![no_main]

use std::sync::LazyLock;

use hauyna_websocket::{
    Compression, Decoder, Deflate, DeflateConfig, Event, Fragment, FrameHead, Limits, OpCode, ProtocolError,
    Role, Takeover,
};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

static USED: LazyLock<Deflate> = LazyLock::new(|| fresh(Takeover::None));

fn fresh(takeover: Takeover) -> Deflate {
    Deflate::new(DeflateConfig { takeover, threshold: 0, ..DeflateConfig::default() })
}

fn decoder(deflate: &Deflate, message: usize) -> Decoder {
    let mut offer = HeaderMap::new();
    offer.insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
    let inflate = deflate.negotiate(&offer).expect("a plain offer is accepted").inflate;
    Decoder::new(Role::Client, Limits { message, frame: 1 << 20, empty_fragments: 64 }).with_inflate(inflate)
}

/// The first message of the stream.
fn message(decoder: &mut Decoder, mut stream: Vec<u8>) -> Result<Vec<u8>, ProtocolError> {
    let mut events = decoder.feed(&mut stream);
    match events.next()? {
        Some(Event::Binary(bytes)) => Ok(bytes.to_vec()),
        other => panic!("a whole message was sent: {other:?}"),
    }
}

fn frame(opcode: OpCode, fragment: Fragment, compression: Compression, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHead { opcode, fragment, compression, mask: None }.encode_into(&mut out, payload);
    out
}

fuzz_target!(|input: &[u8]| {
    let [first, payload @ ..] = input else { return };
    let limit = 1 << (first >> 4);
    let whole = frame(OpCode::Binary, Fragment::Final, Compression::Deflated, payload);
    let used = message(&mut decoder(&USED, limit), whole.clone());
    if payload.len() <= limit {
        let cut = usize::from(first & 15).min(payload.len());
        let mut split = frame(OpCode::Binary, Fragment::More, Compression::Deflated, &payload[..cut]);
        split.extend(frame(OpCode::Continuation, Fragment::Final, Compression::Plain, &payload[cut..]));
        assert_eq!(used, message(&mut decoder(&fresh(Takeover::None), limit), split));
    }
    if let Ok(message) = &used {
        assert!(message.len() <= limit);
    }
    let mut context = decoder(&fresh(Takeover::Allowed), limit);
    for _ in 0..2 {
        if let Ok(message) = message(&mut context, whole.clone()) {
            assert!(message.len() <= limit);
        } else {
            break;
        }
    }
    if let Some(deflated) = USED.compress(payload) {
        let frame = frame(OpCode::Binary, Fragment::Final, Compression::Deflated, &deflated);
        assert_eq!(message(&mut decoder(&USED, payload.len()), frame).as_deref(), Ok(payload));
    }
});
