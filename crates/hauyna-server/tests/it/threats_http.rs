//! Threats before the upgrade, rows 1 to 13 of `SECURITY.md`, and what else a socket can do to an HTTP
//! server. Processor times are bounds for a debug build on a busy machine.

use crate::common::{Answer, Client, Server, TEXT, descriptor_limit, eventually, frame, measured, upgrade};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// Sends a request and returns the refusal.
fn refused(server: &Server, request: &[u8]) -> Answer {
    let mut client = server.connect();
    client.send(request);
    client.answer().expect("an answer")
}

#[test]
fn row_01_one_huge_header_is_431_and_cheap() {
    let server = Server::start();
    server.serves();
    let (cpu, start) = (server.cpu(), Instant::now());
    let mut client = server.connect();
    client.send(b"GET /chat HTTP/1.1\r\nX-Huge: ");
    let sent = client.flood(&[b'a'; 64 * 1024], 320);
    assert!(sent < 320, "all of it was taken, not only what the buffers of two kernels hold");
    assert!(start.elapsed() < Duration::from_secs(5));
    let spent = server.cpu() - cpu;
    measured("a header of 20 MB", format!("{spent:?}"));
    assert!(spent < Duration::from_millis(100), "{spent:?}");
    let answer = refused(&server, format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(17 * 1024)).as_bytes());
    assert_eq!(answer.status, 431);
    server.serves();
}

#[test]
fn row_01_a_head_of_one_byte_packets_is_linear_work() {
    let server = Server::start();
    server.serves();
    let cpu = server.cpu();
    let mut client = server.connect();
    for byte in upgrade("/echo", &format!("X-Long: {}\r\n", "b".repeat(4000))).as_bytes() {
        client.send(&[*byte]);
    }
    client.upgraded();
    // These are 4,200 wake-ups; the server parses nothing before the end.
    let spent = server.cpu() - cpu;
    measured("4,200 packets of a head", format!("{spent:?}"));
    assert!(spent < Duration::from_millis(500), "{spent:?}");
}

#[test]
fn row_02_cve_2024_37890_many_headers_are_431_and_echo_still_works() {
    let server = Server::start();
    let headers = |count: usize| (0..count).map(|n| format!("x{n}: y\r\n")).collect::<String>();
    for count in [101, 500, 2000] {
        let answer = refused(&server, upgrade("/echo", &headers(count)).as_bytes());
        assert_eq!(answer.status, 431, "{count}");
    }
    server.open("/echo", &headers(95)); // and five of the handshake
    server.serves();
}

#[test]
fn row_03_slowloris_heads_are_closed_at_the_deadline_and_delay_nobody() {
    let server = Server::start();
    server.serves();
    let start = Instant::now();
    let begun = upgrade("/echo", "").as_bytes()[..60].to_vec();
    let mut held: Vec<Client> = (0..1000.min(descriptor_limit() / 4)).map(|_| server.connect()).collect();
    held.iter_mut().for_each(|client| client.send(&begun));
    // Bytes do not extend the deadline: send single bytes to one connection.
    let mut trickling = server.connect();
    let mut alive_until = start;
    while alive_until.elapsed() < Duration::from_secs(1) {
        let served = server.serves();
        assert!(served < Duration::from_secs(1), "a good client waited {served:?}");
        if trickling.stream.write_all(b"x").is_ok() && trickling.is_silent(Duration::from_millis(200)) {
            alive_until = Instant::now();
        }
        assert!(start.elapsed() < Duration::from_secs(13), "the trickle is still held");
    }
    let closed = alive_until - start;
    assert!(closed >= Duration::from_secs(9), "closed after {closed:?} already");
    held.iter_mut().for_each(Client::ended);
    assert!(start.elapsed() < Duration::from_secs(13), "{:?}", start.elapsed());
}

#[test]
fn row_03_a_second_request_has_a_deadline_of_its_own() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let start = Instant::now();
    client.send(b"GET /live HT");
    client.ended();
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[test]
fn row_04_a_silent_connection_is_closed_at_the_deadline() {
    let server = Server::start();
    let idle = server.settled_fds();
    let start = Instant::now();
    let mut silent: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    silent.iter_mut().for_each(Client::ended);
    let closed = start.elapsed();
    assert!(closed >= Duration::from_secs(9) && closed < Duration::from_secs(12), "{closed:?}");
    eventually("the descriptors are back", Duration::from_secs(2), || server.fds() == idle);
}

#[test]
fn row_06_cve_2021_32640_hostile_extension_and_protocol_headers_are_cheap() {
    let server = Server::start_with(&["--shards", "2", "--deflate"]);
    server.serves();
    let cpu = server.cpu();
    let hostile = [
        format!("Sec-WebSocket-Extensions: {}\r\n", "permessage-deflate;".repeat(800)),
        format!("Sec-WebSocket-Extensions: permessage-deflate; x=\"{}\r\n", "\\".repeat(15_000)),
        format!("Sec-WebSocket-Extensions: {}\r\n", "a, ".repeat(5_000)),
        format!(
            "Sec-WebSocket-Extensions: permessage-deflate{}; client_no_context_takeover\r\n",
            " ".repeat(15_000)
        ),
        format!("Sec-WebSocket-Protocol: {}\r\n", (0..2500).map(|n| format!("p{n},")).collect::<String>()),
        format!("Sec-WebSocket-Protocol: {}hauyna.v1.json\r\n", "  \t".repeat(5000)),
    ];
    let rounds = 10;
    for header in hostile.iter().cycle().take(rounds * hostile.len()) {
        let mut client = server.connect();
        client.send(upgrade("/chat?user_id=a", header).as_bytes());
        let mut first = [0; 12];
        client.stream.read_exact(&mut first).unwrap();
        assert!([&b"HTTP/1.1 101"[..], b"HTTP/1.1 400"].contains(&&first[..]), "{first:?}");
    }
    let each = (server.cpu() - cpu) / (rounds * hostile.len()) as u32;
    measured("a hostile extension header", format!("{each:?}"));
    assert!(each < Duration::from_millis(20), "{each:?}");
}

#[test]
fn row_07_cross_site_pages_are_403() {
    let server = Server::start();
    let host = server.address.to_string();
    let with = |origin: &str| {
        let request = upgrade("/chat?user_id=eve", &format!("Origin: {origin}\r\n"));
        request.replace("Host: localhost", &format!("Host: {host}"))
    };
    let foreign = [
        "null",
        "https://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "https://127.0.0.1.evil.example",
        "http://localhost",
        "file://",
        "http://user@127.0.0.1",
        "",
        "http://127.0.0.1:99999",
        "ws",
    ];
    for origin in foreign {
        assert_eq!(refused(&server, with(origin).as_bytes()).status, 403, "{origin}");
    }
    let twice = with(&format!("http://{host}\r\nOrigin: http://{host}"));
    assert_eq!(refused(&server, twice.as_bytes()).status, 400);
    let mut same = server.connect();
    same.send(with(&format!("http://{host}")).as_bytes());
    same.upgraded();
    server.chat("no-browser");
}

#[test]
fn row_08_smuggled_requests_are_refused_and_nothing_after_them_is_read() {
    let server = Server::start();
    let behind = "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bodies = [
        "Content-Length: 0\r\n",
        "Content-Length: 40\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
    ];
    for header in bodies {
        let answer = refused(&server, format!("{}{behind}", upgrade("/echo", header)).as_bytes());
        assert_eq!(answer.status, 400, "{header}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("live"), "{header}");
        assert!(answer.has("connection: close"));
    }
    let wrong = upgrade("/echo", "").replace("Version: 13", "Version: 777");
    let answer = refused(&server, format!("{wrong}{behind}").as_bytes());
    assert_eq!(answer.status, 426);
    assert!(answer.has("sec-websocket-version: 13"), "{}", answer.head);
    assert!(
        !String::from_utf8_lossy(&answer.body).contains("HTTP/1.1"),
        "the request behind it was answered"
    );
    for line_ending in ["\n", "\r", "\r\r\n"] {
        let odd = upgrade("/echo", "").replacen("\r\n", line_ending, 1);
        assert_eq!(refused(&server, odd.as_bytes()).status, 400, "{line_ending:?}");
    }
}

#[test]
fn row_09_bad_keys_methods_and_versions_are_refused_with_their_status() {
    let server = Server::start();
    let good = upgrade("/echo", "");
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let table = [
        (good.replace(key, "abc"), 400),
        (good.replace(key, ""), 400),
        (good.replace(key, "dGhlIHNhbXBsZSBub25jZXg="), 400),
        (good.replace(key, "!!!!IHNhbXBsZSBub25jZQ=="), 400),
        (good.replace(&format!("Sec-WebSocket-Key: {key}\r\n"), ""), 400),
        (good.replace("Host:", &format!("Sec-WebSocket-Key: {key}\r\nHost:")), 400),
        (good.replace("GET", "POST"), 405),
        (good.replace("GET", "HEAD"), 405),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (good.replace("Host: localhost\r\n", ""), 400),
        (good.replace("Host: localhost", "Host: a\r\nHost: b"), 400),
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (good.replace("Connection: Upgrade", "Connection: close"), 426),
    ];
    for (request, status) in table {
        assert_eq!(refused(&server, request.as_bytes()).status, status, "{request}");
    }
    let binary = refused(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n");
    assert_eq!(binary.status, 400);
}

#[test]
fn row_10_no_byte_of_a_request_comes_back_in_an_error() {
    let server = Server::start();
    let mark = "zq<script>zq";
    let requests = [
        format!("GET /{mark} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        format!("GET /chat?user_id= HTTP/1.1\r\nHost: {mark}\r\nConnection: close\r\n\r\n"),
        format!("{mark} /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        upgrade("/chat", &format!("X-{mark}: {mark}\r\n")),
        upgrade("/chat?user_id=", &format!("X: {mark}\r\n")),
        upgrade("/chat?user_id=zq%0d%0aSet-Cookie:%20zq", ""),
        upgrade("/chat?user_id=zq%00zq", ""),
        upgrade("/chat?user_id=zq", &format!("Origin: http://{mark}\r\n")),
        upgrade("/chat?user_id=zq", &format!("Sec-WebSocket-Protocol: {mark}\r\n")),
        upgrade(&format!("/chat?user_id={}", "zq".repeat(200)), ""),
        upgrade("/nowhere/zq", "Origin: zq\r\n").replace("Connection: Upgrade", "Connection: close, Upgrade"),
    ];
    for request in requests {
        let answer = refused(&server, request.as_bytes());
        let whole = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
        assert!(answer.status >= 400, "{request}\n{whole}");
        assert!(!whole.contains("zq") && !whole.contains("Cookie"), "{request}\n{whole}");
        if !answer.body.is_empty() && answer.has("content-type: application/json") {
            assert!(answer.has("x-content-type-options: nosniff"), "{whole}");
        }
    }
}

#[test]
fn row_11_a_reconnect_storm_is_back_within_fifteen_seconds() {
    let server = Server::start();
    // This process holds only the clients' ends of the connections. 3,000 fit on every CI machine.
    let clients = 3000.min(descriptor_limit() / 4);
    let storm = || -> (Vec<Client>, Duration) {
        let start = Instant::now();
        let mut all: Vec<Client> = (0..clients).map(|_| server.connect()).collect();
        all.iter_mut().for_each(|client| client.send(upgrade("/chat?user_id=storm", "").as_bytes()));
        for client in &mut all {
            client.upgraded();
        }
        (all, start.elapsed())
    };
    let (first, _) = storm();
    drop(first); // all at once, and all back at once
    let (_second, back) = storm();
    measured("the storm", format!("{clients} clients back after {back:?}"));
    assert!(back < Duration::from_secs(15), "{clients} clients were back after {back:?}");
    server.serves();
}

/// Uses 1,000 clients; `hauyna bench storm --conns 10000` does the same with 10,000.
#[test]
fn row_11_clients_that_are_all_cut_come_back_by_their_policy_and_none_waits_for_its_handshake() {
    let report = crate::bench::alone(&["storm", "--conns", "1000"]);
    assert_eq!(
        (&report["back"], &report["refused"], &report["recovered"]),
        (&1000.into(), &0.into(), &1000.into())
    );
    let (back, p99) = (report["back_s"].as_f64().unwrap(), report["p99_us"].as_f64().unwrap() / 1e6);
    measured("the storm, by the policy", format!("back after {back:.2} s, p99 of the handshakes {p99:.3} s"));
    assert!(back < 15.0 && p99 < 2.0, "{report}");
}

#[test]
fn row_12_without_descriptors_the_server_rests_and_serves_again_after_release() {
    let server = Server::start();
    let idle = server.settled_fds();
    server.limit_fds(64);
    let crowd: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    eventually("descriptors are used up", Duration::from_secs(5), || server.fds() >= 62);
    let mut waiting = server.connect(); // in the backlog, or shed
    let share = server.busy_share(Duration::from_secs(2));
    measured("starved of descriptors", format!("{:.1} % of a core", share * 100.0));
    assert!(share < 0.2, "{:.0} % of a core while starved", share * 100.0);
    let lines = server.log().iter().filter(|line| line.contains("cannot accept")).count();
    assert!((1..200).contains(&lines), "{lines} lines about it");
    let _ = waiting.stream.write_all(b"GET");
    drop((crowd, waiting));
    let again = eventually("a new client is served", Duration::from_secs(3), || served(&server));
    measured("served again after", format!("{again:?}"));
    server.limit_fds(descriptor_limit());
    server.warm(); // each worker accepts again, and takes its spare descriptor back
    eventually("the descriptors are back", Duration::from_secs(3), || server.fds() == idle);
}

/// Whether an upgrade works now; the server may drop the connection.
fn served(server: &Server) -> bool {
    let mut client = server.connect();
    let mut first = [0; 12];
    client.stream.write_all(upgrade("/echo", "").as_bytes()).is_ok()
        && client.stream.read_exact(&mut first).is_ok()
        && first == *b"HTTP/1.1 101"
}

#[test]
fn row_13_aborted_handshakes_of_ten_kinds_leave_nothing_behind() {
    let server = Server::start();
    let good = upgrade("/chat?user_id=a", "");
    let (half, after) = (good.as_bytes()[..good.len() / 2].to_vec(), [good.as_bytes(), b"\x81\xfe"].concat());
    let abort = |kind: usize| {
        let mut client = server.connect();
        let write: &[u8] = match kind {
            0 => b"",
            1 => b"G",
            2 | 3 => &half,
            4 => b"\x00\xff\x00\xff\r\n\r\n",
            5 => b"GET /chat HTTP/1.1\r\n\r\n",
            6 => good.as_bytes(),
            7 => &after,
            8 => b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /li",
            _ => b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx",
        };
        let _ = client.stream.write_all(write);
        match kind {
            3 => client.reset(),
            6 => drop(client.stream.peek(&mut [0; 1])), // closed with the answer unread
            7 => client.half_close(),
            _ => {}
        }
    };
    let round = |count: usize| (0..count).for_each(|n| abort(n % 10));
    let fds = server.settled_fds();
    let back = || eventually("the descriptors are back", Duration::from_secs(15), || server.fds() == fds);
    round(1000);
    back();
    let rss = server.rss();
    round(5000);
    back();
    let grown = server.rss() - rss;
    measured("5,000 aborted handshakes", format!("{grown} KiB"));
    assert!(grown.abs() < 8 * 1024, "{grown} KiB");
    server.serves();
}

#[test]
fn slow_readers_of_plain_http_are_closed_at_a_deadline() {
    let server = Server::start();
    server.serves();
    let start = Instant::now();
    let mut client = server.connect();
    // The answers are some hundred megabytes, and none is read.
    let asks = "GET /chat.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    client.flood(asks.as_bytes(), 100);
    eventually("it is closed", Duration::from_secs(25), || {
        client.stream.write_all(b"G").is_err_and(|error| is_broken(&error))
    });
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

fn is_broken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[test]
fn frames_in_the_packet_of_the_handshake_are_answered_and_garbage_there_is_1002() {
    let server = Server::start();
    let mut early = server.connect();
    early.send(&[upgrade("/echo", "").as_bytes(), &frame(TEXT, b"early")].concat());
    early.upgraded();
    assert_eq!(early.frame().payload, b"early");
    let mut garbage = server.connect();
    garbage.send(&[upgrade("/echo", "").as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat());
    garbage.upgraded();
    assert_eq!(garbage.closed_with(), 1002);
}

#[test]
fn a_client_that_half_closes_after_its_request_still_gets_its_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client
        .send(b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.half_close();
    assert_eq!(client.answer().expect("an answer").status, 426);
}

#[test]
fn an_upgrade_behind_an_ordinary_request_is_a_connection_like_any_other() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(&[upgrade("/echo", "").as_bytes(), &frame(TEXT, b"early")].concat());
    assert!(client.head().expect("an answer").starts_with("HTTP/1.1 200 "));
    let body = client.take(5);
    assert_eq!(body, b"live\n");
    client.upgraded();
    assert_eq!(client.frame().payload, b"early");
    client.send(&frame(TEXT, &[b'x'; 100_000]));
    assert_eq!(client.frame().payload.len(), 100_000);
    client.send(b"\xff\x80\0\0\0\0");
    assert_eq!(client.closed_with(), 1002);
}
