//! Threats in frames and compression, rows 14 to 26 of `SECURITY.md`. `/echo` takes messages of 64 MiB,
//! `/chat` of 64 KiB. Memory is growth over the idle server; processor times are bounds for a debug build.

use crate::common::{
    BINARY, CLOSE, CONTINUATION, Client, PING, PONG, Server, TEXT, eventually, frame, header, measured,
    raw_frame,
};
use flate2::{Compress, Compression, FlushCompress};
use std::time::{Duration, Instant};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// Sends bytes on a new connection and returns its close code.
fn code_of(server: &Server, path: &str, bytes: &[u8]) -> u16 {
    let mut client = server.open(path, "");
    client.send(bytes);
    client.closed_with()
}

#[test]
fn nats_cve_2026_27889_impossible_lengths_are_refused_before_any_allocation() {
    let server = Server::start();
    server.warm();
    let peak = server.peak_rss();
    for length in [1 << 63, u64::MAX, (1 << 63) + 1] {
        assert_eq!(code_of(&server, "/echo", &header(0x82, length)), 1002, "{length:x}");
    }
    for length in [(1 << 63) - 1, 1 << 40, 1 << 32, (64 << 20) + 1] {
        assert_eq!(code_of(&server, "/echo", &header(0x82, length)), 1009, "{length:x}");
        let sum = [raw_frame(BINARY, b"some"), header(0x80, length)].concat();
        assert_eq!(code_of(&server, "/echo", &sum), 1009, "{length:x} after 4");
    }
    assert_eq!(
        code_of(&server, "/echo", b"\x82\xff\0\0\0\0\0\0\0\x01\0\0\0\0x"),
        1002,
        "not the shortest form"
    );
    assert!(server.peak_rss() - peak < 2048, "{} KiB", server.peak_rss() - peak);
}

#[test]
fn rustsec_2022_0035_a_claimed_length_costs_no_memory() {
    let server = Server::start();
    server.warm();
    let before = server.rss();
    let claim = [&header(0x82, 60 << 20)[..], b"only this comes"].concat();
    let clients: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = server.echo();
            client.send(&claim);
            client
        })
        .collect();
    server.serves();
    let each = (server.rss() - before) / clients.len() as i64;
    measured("a claim of 60 MiB", format!("{each} KiB a connection"));
    assert!(each < 32, "{each} KiB a connection");
}

#[test]
fn cve_2026_48779_tiny_fragments_cost_one_buffer_and_linear_work() {
    let server = Server::start();
    let mut client = server.echo();
    server.warm();
    let (rss, cpu) = (server.rss(), server.cpu());
    client.send(&raw_frame(BINARY, b"a"));
    let thousand = raw_frame(CONTINUATION, b"a").repeat(1000);
    (0..200).for_each(|_| client.send(&thousand));
    client.send(&frame(PING, b"there?"));
    assert_eq!(client.frame().payload, b"there?"); // all of them have been read
    let (grown, spent) = (server.rss() - rss, server.cpu() - cpu);
    measured("200,001 fragments", format!("{grown} KiB, {spent:?}"));
    assert!(grown < 2048, "{grown} KiB for 200,001 bytes");
    assert!(spent < Duration::from_secs(3), "{spent:?}"); // 80 ms; a release build takes 10
    client.send(&frame(CONTINUATION, b"!"));
    assert_eq!(client.frame().payload.len(), 200_002);
}

#[test]
fn cve_2026_48779_empty_fragments_without_end_are_refused() {
    let server = Server::start();
    let empty = raw_frame(CONTINUATION, b"").repeat(64);
    assert_eq!(code_of(&server, "/chat?user_id=a", &[raw_frame(TEXT, b""), empty.clone()].concat()), 1002);
    let mut client = server.echo();
    client.send(&[raw_frame(TEXT, b"some"), empty, frame(CONTINUATION, b"thing")].concat());
    assert_eq!(client.frame().payload, b"something");
}

#[test]
fn row_17_fragments_beyond_the_message_limit_are_cut_at_the_limit() {
    let server = Server::start();
    let mut client = server.chat("a");
    server.warm();
    let peak = server.peak_rss();
    client.send(&raw_frame(TEXT, &[b' '; 1024]));
    client.flood(&raw_frame(CONTINUATION, &[b' '; 1024]), 10_000);
    assert_eq!(client.closed_with(), 1009); // although more is on its way: that is read and dropped
    let grown = server.peak_rss() - peak;
    measured("10 MB of fragments", format!("{grown} KiB"));
    assert!(grown < 64 + 1024, "{grown} KiB");
    let exact = [raw_frame(TEXT, &[b' '; 60 << 10]), frame(CONTINUATION, &[b' '; (4 << 10) + 1])].concat();
    assert_eq!(code_of(&server, "/chat?user_id=a", &exact), 1009);
    let mut fits = server.chat("a");
    fits.send(&[raw_frame(TEXT, &[b' '; 60 << 10]), frame(CONTINUATION, &[b' '; 4 << 10])].concat());
    assert_eq!(fits.frame().json()["error_type"], "parse_error");
}

#[test]
fn ping_flood_is_bounded() {
    let server = Server::start();
    let idle = server.settled_fds();
    let mut client = server.echo();
    server.warm();
    let peak = server.peak_rss();
    // Two million pings whose pongs nobody reads. Once the server stops reading, the pings stay in the
    // buffers.
    client.flood(&frame(PING, &[b'p'; 125]).repeat(1000), 2000);
    let grown = server.peak_rss() - peak;
    measured("two million pings", format!("{grown} KiB"));
    assert!(grown < 1024, "{grown} KiB");
    assert!(server.serves() < Duration::from_secs(1));
    eventually("the write deadline ends it", Duration::from_secs(15), || server.fds() == idle);
}

#[test]
fn row_18_pings_that_are_read_are_all_answered() {
    let server = Server::start();
    let mut client = server.chat("a");
    for round in 0..100_u32 {
        let pings: Vec<u8> = (0..10).flat_map(|_| frame(PING, &round.to_be_bytes())).collect();
        client.send(&pings);
        for _ in 0..10 {
            let pong = client.frame();
            assert_eq!((pong.opcode(), &pong.payload[..]), (PONG, &round.to_be_bytes()[..]));
        }
    }
}

#[test]
fn row_19_broken_frames_are_1002() {
    let server = Server::start();
    let close = |code: u16| frame(CLOSE, &code.to_be_bytes());
    let table: [(&str, Vec<u8>); 21] = [
        ("unmasked", b"\x81\x02hi".to_vec()),
        ("rsv1", raw_frame(0xc1, b"hi")),
        ("rsv2", raw_frame(0xa1, b"hi")),
        ("rsv3", raw_frame(0x91, b"hi")),
        ("opcode 3", raw_frame(0x83, b"hi")),
        ("opcode 11", raw_frame(0x8b, b"hi")),
        ("opcode 15", raw_frame(0x8f, b"")),
        ("long ping", raw_frame(0x89, &[0; 126])),
        ("split ping", raw_frame(0x09, b"hi")),
        ("split close", raw_frame(0x08, b"")),
        ("continues nothing", raw_frame(0x80, b"hi")),
        ("begins twice", [raw_frame(0x01, b"a"), raw_frame(0x81, b"b")].concat()),
        ("half a close code", frame(CLOSE, b"\x03")),
        ("close 0", close(0)),
        ("close 999", close(999)),
        ("close 1004", close(1004)),
        ("close 1005", close(1005)),
        ("close 1006", close(1006)),
        ("close 1015", close(1015)),
        ("close 2000", close(2000)),
        ("close 65535", close(65535)),
    ];
    for (name, bytes) in table {
        assert_eq!(code_of(&server, "/echo", &bytes), 1002, "{name}");
        assert_eq!(code_of(&server, "/chat?user_id=a", &bytes), 1002, "{name}");
    }
    server.serves();
}

#[test]
fn row_20_text_that_is_not_utf8_is_1007_as_soon_as_it_is_impossible() {
    let server = Server::start();
    for bad in [&b"\xff"[..], b"a\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        assert_eq!(code_of(&server, "/echo", &frame(TEXT, bad)), 1007, "{bad:?}");
    }
    let mut split = raw_frame(TEXT, "κόσ".as_bytes());
    split.extend(raw_frame(CONTINUATION, b"\xf4"));
    split.extend(raw_frame(CONTINUATION, b"\x90")); // never finished
    assert_eq!(code_of(&server, "/echo", &split), 1007);
    let unfinished = [&header(0x81, 1000)[..], b"begins well \xff"].concat();
    assert_eq!(code_of(&server, "/echo", &unfinished), 1007);
    assert_eq!(code_of(&server, "/echo", &frame(CLOSE, b"\x03\xe8\xff")), 1007);
    let text = "κόσμε 𐍈 \u{10ffff}";
    let mut client = server.echo();
    for byte in raw_frame(0x81, text.as_bytes()) {
        client.send(&[byte]);
    }
    assert_eq!(client.frame().payload, text.as_bytes());
}

/// Returns a permessage-deflate payload that inflates to this many MiB of zeros.
fn bomb(mib: usize) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let (mut out, zeros) = (Vec::new(), vec![0; 1 << 20]);
    let mut pieces = (0..3).map(|_| {
        let mut piece = Vec::with_capacity(1 << 16);
        compress.compress_vec(&zeros, &mut piece, FlushCompress::Sync).unwrap();
        piece
    });
    out.extend(pieces.next().unwrap());
    // With a window full of zeros, each further piece is the same.
    let (second, third) = (pieces.next().unwrap(), pieces.next().unwrap());
    assert_eq!(second, third);
    (1..mib).for_each(|_| out.extend(&second));
    out.truncate(out.len() - 4); // RFC 7692 §7.2.1
    out
}

#[test]
fn undici_cve_2026_1526_deflate_bombs_stop_at_the_limit() {
    let server = Server::start_with(&["--shards", "2", "--deflate"]);
    server.warm();
    // The buffer doubles by copying, and the allocator keeps the smaller ones for a moment: twice the limit.
    for (path, mib, limit) in [("/chat?user_id=a", 50, 64), ("/echo", 512, 2 * 64 * 1024)] {
        let (peak, cpu) = (server.peak_rss(), server.cpu());
        let bytes = raw_frame(0xc2, &bomb(mib));
        assert!(path == "/echo" || bytes.len() < 64 * 1024, "{}", bytes.len());
        let mut client = server.open(path, DEFLATE);
        client.send(&bytes);
        assert_eq!(client.closed_with(), 1009, "{path}");
        let (grown, spent) = (server.peak_rss() - peak, server.cpu() - cpu);
        measured(path, format!("a bomb of {mib} MiB: {grown} KiB, {spent:?}"));
        assert!(grown < limit + 8 * 1024, "{path}: {grown} KiB");
        assert!(spent < Duration::from_secs(1), "{path}: {spent:?}");
    }
}

#[test]
fn row_22_compression_costs_no_memory_per_connection() {
    let server = Server::start_with(&["--shards", "2", "--deflate"]);
    let text = "something that compresses, ".repeat(40);
    let open = |headers: &str| -> Vec<Client> {
        let opened = |_| {
            let mut client = server.open("/echo", headers);
            client.send(&frame(TEXT, text.as_bytes()));
            client.frame();
            client
        };
        (0..500).map(opened).collect()
    };
    server.warm();
    let start = server.rss();
    let plain = open("");
    let with_plain = server.rss();
    let deflated = open(DEFLATE);
    let with_both = server.rss();
    let more = ((with_both - with_plain) - (with_plain - start)) / deflated.len() as i64;
    measured("compression", format!("{more} KiB more a connection"));
    assert!(more <= 8, "{more} KiB more a connection");
    drop(plain);
}

#[test]
fn row_23_hostile_deflate_offers_are_declined_and_garbage_is_refused() {
    let server = Server::start_with(&["--shards", "2", "--deflate"]);
    let offers = [
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits=\"",
        "permessage-deflate; client_max_window_bits=1e1",
    ];
    for offer in offers {
        let mut client = server.connect();
        let line = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        client.send(crate::common::upgrade("/echo", &line).as_bytes());
        let head = client.upgraded();
        assert!(!head.to_lowercase().contains("permessage-deflate"), "{offer}: {head}");
        client.send(&raw_frame(0xc1, b"hi"));
        assert_eq!(client.closed_with(), 1002, "{offer}");
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..100 {
        let mut garbage = [0xff; 40];
        for byte in &mut garbage[1..] {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (random >> 56) as u8;
        }
        let mut client = server.open("/echo", DEFLATE);
        client.send(&raw_frame(0xc2, &garbage)); // block type 3 does not exist
        assert_eq!(client.closed_with(), 1007);
    }
    assert_eq!(code_of(&server, "/echo", &raw_frame(0xc1, b"hi")), 1002, "nothing was negotiated");
}

#[test]
fn row_23_two_connections_never_see_each_others_bytes() {
    let server = Server::start_with(&["--shards", "2", "--deflate"]);
    let mut clients = [server.open("/echo", DEFLATE), server.open("/echo", DEFLATE)];
    for round in 0..300 {
        for (client, secret) in clients.iter_mut().zip([b'A', b'B']) {
            let payload = vec![secret; 1 + (round * 37) % 700];
            client.send(&frame(BINARY, &payload));
            let echo = client.frame();
            let plain = if echo.first & 0x40 == 0 { echo.payload } else { inflated(&echo.payload) };
            assert_eq!(plain, payload);
        }
    }
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 16);
    let whole = [payload, b"\0\0\xff\xff"].concat();
    flate2::Decompress::new(false).decompress_vec(&whole, &mut out, flate2::FlushDecompress::Sync).unwrap();
    out
}

#[test]
fn row_24_crime_no_context_is_shared_between_messages() {
    let server = Server::start_with(&["--shards", "2", "--deflate"]);
    let mut client = server.connect();
    client.send(crate::common::upgrade("/echo", DEFLATE).as_bytes());
    let head = client.upgraded().to_lowercase();
    assert!(
        head.contains("server_no_context_takeover") && head.contains("client_no_context_takeover"),
        "{head}"
    );
    let secret = "a secret that an attacker guesses at ".repeat(20);
    let lengths: Vec<usize> = (0..2)
        .map(|_| {
            client.send(&frame(TEXT, secret.as_bytes()));
            client.frame().payload.len()
        })
        .collect();
    assert_eq!(lengths[0], lengths[1], "the second is no shorter, though it repeats the first");
    let short = b"token=secret"; // below the threshold: sent plain
    client.send(&frame(TEXT, short));
    assert_eq!(client.frame().first, 0x81);
}

#[test]
fn row_25_data_after_a_close_is_ignored_and_the_socket_closes() {
    let server = Server::start();
    let mut client = server.echo();
    let start = Instant::now();
    client.send(&[frame(CLOSE, b"\x0f\xa0bye"), frame(TEXT, b"too late"), b"\xff\xff\xff".to_vec()].concat());
    assert_eq!(client.closed_with(), 4000, "the server returns the code, then nothing");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let mut flooding = server.chat("flood");
    flooding.send(&frame(CLOSE, b""));
    let start = Instant::now();
    flooding.flood(&frame(TEXT, &[b'x'; 1000]).repeat(100), 1000);
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    server.serves();
}

#[test]
fn row_25_after_a_fault_the_socket_closes_in_time_whatever_the_peer_does() {
    let server = Server::start();
    let idle = server.settled_fds();
    let mut silent = server.echo();
    silent.send(b"\xff\x80\0\0\0\0");
    let mut flooding = server.echo();
    flooding.send(b"\xff\x80\0\0\0\0");
    let (start, cpu) = (Instant::now(), server.cpu());
    while start.elapsed() < Duration::from_secs(8) && flooding.flood(&frame(TEXT, b"after"), 1) == 1 {}
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let frames = silent.frame();
    assert_eq!(frames.payload.first_chunk().map(|code| u16::from_be_bytes(*code)), Some(1002));
    eventually("both are gone", Duration::from_secs(8), || server.fds() == idle);
    assert!(server.cpu() - cpu < Duration::from_secs(6));
}

#[test]
fn cve_2026_45736_only_what_was_put_there_is_sent() {
    let server = Server::start();
    let mut client = server.echo();
    for length in [0_usize, 1, 125, 126, 127, 4095, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
        client.send(&frame(BINARY, &payload));
        let echo = client.frame();
        assert!(echo.first == 0x82 && echo.payload == payload, "{length}");
    }
    client.send(&frame(CLOSE, b"\x03\xe8"));
    assert_eq!(client.frame().payload, b"\x03\xe8", "the close frame holds only the code");
}

#[test]
fn one_byte_writes_of_everything_change_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    let text = r#"{"type":"ping","id":7}"#;
    let all = [
        crate::common::upgrade("/chat?user_id=slow", "").into_bytes(),
        frame(PING, b"now"),
        raw_frame(TEXT, &text.as_bytes()[..9]),
        frame(PING, b"between"),
        frame(CONTINUATION, &text.as_bytes()[9..]),
        frame(CLOSE, b"\x03\xe8"),
    ];
    all.concat().iter().for_each(|byte| client.send(&[*byte]));
    client.upgraded();
    assert_eq!(client.frame().payload, b"now");
    assert_eq!(client.frame().payload, b"between");
    assert_eq!(client.frame().payload, br#"{"type":"pong","id":7}"#);
    assert_eq!(client.closed_with(), 1000);
}
