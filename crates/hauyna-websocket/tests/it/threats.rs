//! Regression tests, named after the attacks that they cover.

use hauyna_websocket::{Decoder, Limits, OpCode, ProtocolError, Role};

use crate::golden::masked;
use crate::owned::{Owned, decode};

fn server() -> Decoder {
    Decoder::new(Role::Server, Limits::default())
}

#[test]
fn an_idle_decoder_is_small_and_holds_no_heap() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
    let mut decoder = server();
    assert_eq!(decoder.buffered(), 0);
    let stream =
        [masked(0x81, b"whole"), masked(0x01, b"frag"), masked(0x80, b"ments"), masked(0x89, b"!")].concat();
    decode(&mut decoder, stream.chunks(3));
    assert!(!decoder.is_mid_message());
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn decoders_and_compression_move_and_are_shared_between_threads() {
    fn both<T: Send + Sync>() {}
    both::<Decoder>();
    both::<hauyna_websocket::Deflate>();
    both::<hauyna_websocket::handshake::HeadReader>();
}

#[test]
fn what_a_peer_sends_stays_out_of_debug_output() {
    let mut decoder = server();
    let mut secret = masked(0x81, b"secret-secret");
    let last = secret.len() - 1;
    let mut events = decoder.feed(&mut secret[..last]);
    assert_eq!(events.next(), Ok(None));
    let shown = format!("{events:?}");
    assert!(!shown.contains("115, 101") && shown.contains("buffered"), "{shown}");
}

#[test]
fn rustsec_2022_0035_memory_follows_arrived_bytes_not_the_claim() {
    let limits = Limits { message: usize::MAX, frame: usize::MAX, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let header = [0x82, 0xff, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(decode(&mut decoder, [&header[..]]), (vec![], None));
    assert!(decoder.buffered() < 1024, "{}", decoder.buffered());
    for n in 1..=100 {
        assert_eq!(decode(&mut decoder, [&[0; 1000][..]]), (vec![], None));
        let arrived = n * 1000;
        assert!(decoder.buffered() <= 2 * arrived + (8 << 10), "{} for {arrived}", decoder.buffered());
    }
}

#[test]
fn nats_cve_2026_27889_lengths_that_overflow_a_sum_are_refused() {
    let limits = Limits { message: usize::MAX, frame: usize::MAX, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let huge = [0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    // With one such fragment and one byte the sum stays below 2^64; the limit must hold nevertheless.
    let outcome = decode(&mut decoder, [&masked(0x02, b"x")[..], &huge[..]]);
    assert_eq!(outcome, (vec![], None));
    let mut decoder = Decoder::new(Role::Server, Limits { message: (1 << 62) + 1, ..limits });
    let outcome = decode(&mut decoder, [&masked(0x02, b"x")[..], &huge[..]]);
    assert_eq!(outcome.1, Some(ProtocolError::MessageTooBig));
}

#[test]
fn cve_2026_48779_tiny_fragments_cost_one_buffer_and_linear_work() {
    let mut decoder = server();
    let mut stream = masked(0x02, b"a");
    for _ in 0..65_534 {
        stream.extend(masked(0x00, b"a"));
    }
    let mut peak = 0;
    for chunk in stream.chunks(16 << 10) {
        assert_eq!(decode(&mut decoder, [chunk]), (vec![], None));
        peak = peak.max(decoder.buffered());
    }
    assert!(peak <= 2 * (64 << 10) + 1024, "{peak}");
    let end = decode(&mut decoder, [&masked(0x80, b"b")[..]]);
    assert!(matches!(&end.0[..], [Owned::Binary(bytes)] if bytes.len() == 65_536), "{:?}", end.1);
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn cve_2026_48779_empty_fragments_without_end_are_refused() {
    let mut decoder = server();
    let stream: Vec<u8> =
        std::iter::once(masked(0x02, b"")).chain((0..64).map(|_| masked(0x00, b""))).flatten().collect();
    let (events, error) = decode(&mut decoder, [&stream[..]]);
    assert_eq!((events, error), (vec![], Some(ProtocolError::EmptyFragments)));
}

#[test]
fn fragments_beyond_the_message_limit_are_refused_at_their_header() {
    let mut decoder = server();
    let part = masked(0x00, &[0; 1000]);
    let mut stream = masked(0x02, &[0; 1000]);
    for _ in 0..64 {
        stream.extend_from_slice(&part);
    }
    assert_eq!(decode(&mut decoder, [&stream[..]]), (vec![], None));
    assert!(decoder.buffered() < 66 << 10);
    let header_of_the_next = &masked(0x00, &[0; 1000])[..4];
    assert_eq!(decode(&mut decoder, [header_of_the_next]).1, Some(ProtocolError::MessageTooBig));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn after_a_fault_or_a_close_nothing_is_parsed() {
    for first in [masked(0x88, b""), masked(0x83, b"")] {
        let mut decoder = server();
        let _ = decode(&mut decoder, [&first[..]]);
        assert!(decoder.is_finished());
        let mut late = masked(0x81, b"late");
        let untouched = late.clone();
        let mut events = decoder.feed(&mut late);
        assert_eq!(events.next(), Ok(None));
        assert_eq!(events.rest(), untouched);
    }
}

#[test]
fn stopping_gives_back_what_was_not_looked_at() {
    let mut decoder = server();
    let mut input = [masked(0x81, b"one"), masked(0x81, b"two")].concat();
    let second = masked(0x81, b"two");
    let mut events = decoder.feed(&mut input);
    assert!(events.next().unwrap().is_some());
    let rest = events.rest();
    assert_eq!(rest, second);
    assert_eq!(decoder.feed(rest).next(), Ok(Some(hauyna_websocket::Event::Text("two"))));
}

#[test]
fn limits_changed_between_frames_hold_from_the_next_frame_on() {
    let mut decoder = server();
    decoder.set_limits(Limits { message: 3, frame: 3, ..Limits::default() });
    let outcome = decode(&mut decoder, [&masked(0x81, b"abc")[..], &masked(0x81, b"abcd")[..]]);
    assert_eq!(outcome, (vec![Owned::Text("abc".into())], Some(ProtocolError::FrameTooBig)));
}

#[test]
fn text_fails_at_its_first_impossible_byte() {
    // Autobahn 6.4: the fault shows before the frame, or the message, is complete.
    let whole = masked(0x81, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80edited");
    let mut decoder = server();
    assert_eq!(decode(&mut decoder, [&whole[..6 + 6]]), (vec![], None));
    assert_eq!(decode(&mut decoder, [&whole[12..13]]).1, Some(ProtocolError::InvalidUtf8));
}

#[test]
fn a_flood_of_control_frames_within_a_message_holds_nothing() {
    let mut decoder = server();
    decode(&mut decoder, [&masked(0x01, b"begun")[..]]);
    let before = decoder.buffered();
    let flood = masked(0x89, &[0; 125]).repeat(1000);
    assert_eq!(decode(&mut decoder, flood.chunks(100)).0.len(), 1000);
    assert!(decoder.buffered() <= before + 125, "{} after {before}", decoder.buffered());
}

#[test]
fn a_client_key_never_shows_in_what_a_server_sends() {
    assert_eq!(hauyna_websocket::encode(OpCode::Text, b"x")[1] & 0x80, 0);
}
