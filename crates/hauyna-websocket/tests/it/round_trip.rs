//! Any sequence of messages, fragmented and cut at will, in both directions, plain and compressed.

use hauyna_websocket::{
    Compression, Decoder, Deflate, DeflateConfig, Fragment, FrameHead, Limits, OpCode, Role, Takeover,
};
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::owned::{Owned, decode};

#[derive(Debug, Clone)]
struct Sent {
    message: Owned,
    deflated: bool,
    /// Where to cut the payload into fragments, and whether a ping comes before each but the first.
    cuts: Vec<(prop::sample::Index, bool)>,
}

fn messages() -> impl Strategy<Value = Vec<Sent>> {
    let text = prop_oneof![any::<String>(), "[a-c]{0,400}"].prop_map(Owned::Text);
    let binary = prop_oneof![vec(any::<u8>(), 0..300), vec(0u8..3, 0..70_000)].prop_map(Owned::Binary);
    let control = vec(any::<u8>(), 0..=125)
        .prop_flat_map(|bytes| prop_oneof![Just(Owned::Ping(bytes.clone())), Just(Owned::Pong(bytes))]);
    let sent = (
        prop_oneof![3 => text, 3 => binary, 1 => control],
        any::<bool>(),
        vec(any::<(prop::sample::Index, bool)>(), 0..4),
    );
    vec(sent.prop_map(|(message, deflated, cuts)| Sent { message, deflated, cuts }), 0..6)
}

/// Encodes the messages as one stream and lists the expected events.
fn stream(sent: &[Sent], mask: Option<[u8; 4]>, deflate: Option<&Deflate>) -> (Vec<u8>, Vec<Owned>) {
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    for Sent { message, deflated, cuts } in sent {
        let (opcode, payload) = match message {
            Owned::Text(text) => (OpCode::Text, text.as_bytes()),
            Owned::Binary(bytes) => (OpCode::Binary, &bytes[..]),
            Owned::Ping(bytes) => (OpCode::Ping, &bytes[..]),
            Owned::Pong(bytes) => (OpCode::Pong, &bytes[..]),
            Owned::Close(_) => unreachable!("not generated"),
        };
        let compressed =
            deflate.filter(|_| *deflated && !opcode.is_control()).and_then(|d| d.compress(payload));
        let compression = if compressed.is_some() { Compression::Deflated } else { Compression::Plain };
        let payload = compressed.as_deref().unwrap_or(payload);
        let mut ends: Vec<_> = match opcode.is_control() {
            true => vec![],
            false => cuts.iter().map(|(cut, ping)| (cut.index(payload.len() + 1), *ping)).collect(),
        };
        ends.sort_unstable();
        ends.push((payload.len(), false));
        let mut start = 0;
        for (n, (end, ping)) in ends.iter().copied().enumerate() {
            let head = FrameHead {
                opcode: if n == 0 { opcode } else { OpCode::Continuation },
                fragment: if n + 1 == ends.len() { Fragment::Final } else { Fragment::More },
                compression: if n == 0 { compression } else { Compression::Plain },
                mask,
            };
            head.encode_into(&mut out, &payload[start..end]);
            start = end;
            if ping && n + 1 < ends.len() {
                FrameHead { mask, ..FrameHead::of(OpCode::Ping) }.encode_into(&mut out, b"between");
                expected.push(Owned::Ping(b"between".to_vec()));
            }
        }
        expected.push(message.clone());
    }
    (out, expected)
}

fn chunks<'s>(stream: &'s [u8], sizes: &'s [usize]) -> impl Iterator<Item = &'s [u8]> {
    let mut rest = stream;
    let mut sizes = sizes.iter().copied().cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(usize::MAX).min(rest.len());
        let (chunk, tail) = rest.split_at(size);
        rest = tail;
        (!chunk.is_empty()).then_some(chunk)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn messages_arrive_as_they_were_sent(
        sent in messages(),
        sizes in vec(1usize..5000, 1..5),
        mask in any::<Option<[u8; 4]>>(),
        takeover in prop_oneof![Just(None), Just(Some(Takeover::None)), Just(Some(Takeover::Allowed))],
    ) {
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let mut decoder = Decoder::new(role, Limits { message: 1 << 20, frame: 1 << 20, empty_fragments: 8 });
        let deflate = takeover.map(|takeover| Deflate::new(DeflateConfig { takeover, threshold: 0, ..DeflateConfig::default() }));
        if let Some(deflate) = &deflate {
            let mut offer = HeaderMap::new();
            offer.insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
            decoder = decoder.with_inflate(deflate.negotiate(&offer).unwrap().inflate);
        }
        let (stream, expected) = stream(&sent, mask, deflate.as_ref());
        prop_assert_eq!(decode(&mut decoder, chunks(&stream, &sizes)), (expected, None));
        prop_assert!(!decoder.is_mid_message());
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn text_is_judged_as_std_judges_it(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..40),
            vec(prop_oneof![Just(0xe2u8), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f), Just(0xed), Just(0xa0), Just(b'a')], 0..40),
            any::<String>().prop_map(String::into_bytes),
        ],
        cuts in vec(any::<prop::sample::Index>(), 0..5),
        sizes in vec(1usize..20, 1..4),
    ) {
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
        ends.sort_unstable();
        let (mut out, mut start) = (Vec::new(), 0);
        for (n, end) in ends.iter().copied().enumerate() {
            let head = FrameHead {
                opcode: if n == 0 { OpCode::Text } else { OpCode::Continuation },
                fragment: if n + 1 == ends.len() { Fragment::Final } else { Fragment::More },
                ..FrameHead::of(OpCode::Text)
            };
            head.encode_into(&mut out, &bytes[start..end]);
            start = end;
        }
        let (events, error) = decode(&mut Decoder::new(Role::Client, Limits::default()), chunks(&out, &sizes));
        match std::str::from_utf8(&bytes) {
            Ok(text) => prop_assert_eq!((events, error), (vec![Owned::Text(text.to_owned())], None)),
            Err(_) => prop_assert_eq!((events, error), (vec![], Some(hauyna_websocket::ProtocolError::InvalidUtf8))),
        }
    }

    #[test]
    fn any_bytes_give_the_same_outcome_however_they_are_cut(
        bytes in vec(any::<u8>(), 0..300),
        sizes in vec(1usize..20, 1..4),
        deflate in any::<bool>(),
    ) {
        let whole = decode(&mut crate::golden::decoder(Role::Client, deflate), [&bytes[..]]);
        let cut = decode(&mut crate::golden::decoder(Role::Client, deflate), chunks(&bytes, &sizes));
        prop_assert_eq!(whole, cut);
    }
}
