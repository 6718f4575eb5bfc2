//! Streams for the tungstenite oracle: the golden table, and frames whose bytes are then damaged.

use hauyna_websocket::Role;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::golden::{frame, table};
use crate::oracle::compare;

#[test]
fn golden_streams_are_judged_as_tungstenite_judges_them() {
    for golden in table().iter().filter(|golden| !golden.deflate) {
        for size in [1, 3, usize::MAX] {
            compare(golden.role, size, &golden.input);
        }
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        "[a-zé€😀]{0,60}".prop_map(String::into_bytes),
        vec(Just(b'x'), 0..1100),
        (prop_oneof![990u16..1020, 2990u16..3010, any::<u16>()], "[a-zé]{0,8}").prop_map(|(code, reason)| [
            &code.to_be_bytes(),
            reason.as_bytes()
        ]
        .concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_frames_are_judged_as_tungstenite_judges_them(
        frames in vec((prop_oneof![
            6 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
            1 => Just(0x88u8),
            1 => any::<u8>(),
        ], payload()), 1..8),
        key in any::<[u8; 4]>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        size in 1usize..2000,
    ) {
        let mask = (role == Role::Server).then_some(key);
        let mut stream: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload, mask)).collect();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        stream.truncate(stream.len() - cut.index(stream.len()) / 4);
        compare(role, size, &stream);
    }

    #[test]
    fn random_bytes_are_judged_as_tungstenite_judges_them(
        bytes in vec(any::<u8>(), 0..200),
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        size in 1usize..300,
    ) {
        compare(role, size, &bytes);
    }
}
