//! A restart and a clock that jumps, rows 61 and 62 of `SECURITY.md`: clients do not reconnect all at once,
//! nothing that was acknowledged is lost, and a change of the wall clock disconnects nobody.

use crate::common::{
    Answer, CLOSE, Client, Server, TEXT, TIMEOUT, eventually, files_below, frame, measured, upgrade,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

fn get(server: &Server, path: &str) -> (u16, Value) {
    let mut client = server.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let Answer { status, body, .. } = client.answer().expect("an answer");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Reads messages until the close frame, which must have the code of a drain, and answers it.
fn until_drained(client: &mut Client, mut take: impl FnMut(Value)) {
    loop {
        let next = client.frame();
        if next.opcode() == CLOSE {
            assert_eq!(next.payload[..2], 3001_u16.to_be_bytes(), "{next:?}");
            client.send(&frame(CLOSE, &next.payload));
            return client.ended();
        }
        take(next.json());
    }
}

fn exit_code(server: &mut Server, timeout: Duration) -> i32 {
    let mut code = None;
    eventually("the program has ended", timeout, || {
        code = server.exit_code();
        code.is_some()
    });
    code.expect("the program has ended")
}

/// Uses a few hundred clients, as both ends have to fit into a CI machine. `hauyna bench drain` tests it with
/// 10,000, and `drain_notifies_all_at_once_and_closes_evenly_in_random_order` of hauyna to the
/// millisecond.
#[test]
fn row_61_sigterm_spreads_the_closes_over_the_window_and_the_exit_code_is_0() {
    const CLIENTS: usize = 300;
    let mut server = Server::start_with(&["--shards", "2", "--drain", "6s"]);
    let clients: Vec<Client> = (0..CLIENTS).map(|n| server.chat(&format!("user{n}"))).collect();
    let start = Instant::now();
    server.terminate();
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let thread = std::thread::Builder::new().stack_size(256 * 1024);
            let wait = move || {
                let notified = client.message("reconnect");
                assert_eq!((&notified["after"][0], &notified["reason"]), (&json!(0), &json!("drain")));
                assert!((5000..=6000).contains(&notified["after"][1].as_u64().unwrap()), "{notified}");
                let notified = start.elapsed();
                until_drained(&mut client, |_| {});
                (notified, start.elapsed())
            };
            thread.spawn(wait).unwrap()
        })
        .collect();
    let times: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mut parts = [0_usize; 6];
    for (_, closed) in &times {
        parts[(closed.as_millis() / 1000).min(5) as usize] += 1;
    }
    let notified = times.iter().map(|(notified, _)| *notified).max().unwrap();
    assert_eq!(exit_code(&mut server, Duration::from_secs(11).saturating_sub(start.elapsed())), 0);
    measured(
        "a drain over 6 s",
        format!("notified after {notified:?}, closed {parts:?}, ended after {:?}", start.elapsed()),
    );
    assert!(notified < Duration::from_secs(1), "the last was notified after {notified:?}");
    // Half of an even share is enough, since the machine runs other tests, too.
    assert!(parts.iter().all(|count| (CLIENTS / 12..=CLIENTS / 4).contains(count)), "{parts:?}");
}

#[test]
fn row_61_while_it_drains_ready_is_red_upgrades_are_refused_and_a_second_signal_ends_it() {
    let mut server = Server::start_with(&["--shards", "2", "--drain", "60m"]);
    let mut client = server.chat("ann");
    assert_eq!(get(&server, "/ready"), (200, json!({ "status": "ready" })));
    let mut kept = server.connect();
    kept.send(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(kept.head().unwrap().starts_with("HTTP/1.1 200 "));
    server.terminate();
    client.message("reconnect");
    // Check a connection from before, and new ones on every worker.
    kept.send(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    kept.take(json!({ "status": "ready" }).to_string().len());
    assert_eq!(kept.answer().unwrap().status, 503);
    for _ in 0..16 {
        let red = json!({ "status": "not_ready", "reason": "draining" });
        assert_eq!(get(&server, "/ready"), (503, red));
        assert_eq!(get(&server, "/live").0, 200);
        let mut refused = server.connect();
        refused.send(upgrade("/chat?user_id=bob", "").as_bytes());
        let answer = refused.answer().unwrap();
        assert!(answer.status == 503 && answer.has("retry-after: "), "{}", answer.head);
    }
    client.subscribe("general");
    assert_eq!(
        client.verdict(json!({ "type": "channel_message", "id": 1, "channel": "general", "content": 1 })),
        "ack"
    );
    server.terminate();
    assert_eq!(exit_code(&mut server, Duration::from_secs(5)), 143);
    client.ended();
}

#[test]
fn row_61_what_is_acknowledged_during_a_drain_reaches_everybody_who_is_still_there() {
    let mut server = Server::start_with(&["--shards", "2", "--drain", "2s"]);
    let readers: Vec<Client> = (0..40)
        .map(|n| {
            let mut client = server.chat(&format!("reader{n}"));
            client.subscribe("news");
            client
        })
        .collect();
    let mut writer = server.chat("writer");
    let start = Instant::now();
    server.terminate();
    let reading: Vec<_> = readers
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut last = 0;
                until_drained(&mut client, |message| {
                    if message["type"] == "message" {
                        assert_eq!(message["offset"], last + 1, "without a hole");
                        last += 1;
                    }
                });
                (last, start.elapsed())
            })
        })
        .collect();
    // Send as long as possible: the server answers everything that it reads before it closes.
    let (mut asked, mut acknowledged) = (0_u64, 0);
    let say = |n: u64| json!({ "type": "channel_message", "id": n, "channel": "news", "content": n });
    writer.say(&say(1));
    asked += 1;
    let mut other = writer.other_half();
    until_drained(&mut writer, |message| {
        if message["type"] == "ack" {
            acknowledged += 1;
            assert_eq!(message["data"]["offset"], acknowledged);
            asked += 1;
            other.say(&say(asked));
        }
    });
    let closed = start.elapsed();
    let ends: Vec<_> = reading.into_iter().map(|thread| thread.join().unwrap()).collect();
    let later: Vec<_> = ends.iter().filter(|(_, end)| *end > closed + Duration::from_millis(200)).collect();
    measured(
        "a drain in traffic",
        format!("{acknowledged} acknowledged, {} readers stayed longer", later.len()),
    );
    for (last, _) in &later {
        assert!(*last >= acknowledged, "{last} of {acknowledged}");
    }
    for (last, _) in ends {
        assert!(last <= asked, "{last} of {asked}");
    }
    assert_eq!(exit_code(&mut server, TIMEOUT), 0);
}

#[test]
fn row_61_clients_that_never_pause_are_closed_in_their_turn_too() {
    const FLOODERS: usize = 12;
    let mut server = Server::start_with(&["--shards", "2", "--drain", "4s"]);
    let mut flooders: Vec<Client> = (0..FLOODERS).map(|n| server.chat(&format!("flooder{n}"))).collect();
    let asked = frame(TEXT, br#"{"type":"ping"}"#).repeat(200);
    let start = Instant::now();
    let flooding: Vec<_> = flooders
        .iter_mut()
        .map(|client| {
            let (mut writer, mut reader, asked) = (client.other_half(), client.other_half(), asked.clone());
            // Send until the connection ends, without waiting for answers.
            std::thread::spawn(move || while writer.stream.write_all(&asked).is_ok() {});
            std::thread::spawn(move || {
                while reader.frame().opcode() != CLOSE {}
                let closed = start.elapsed();
                let _ = reader.stream.shutdown(std::net::Shutdown::Both);
                closed
            })
        })
        .collect();
    server.terminate();
    let mut closed: Vec<Duration> = flooding.into_iter().map(|thread| thread.join().unwrap()).collect();
    closed.sort();
    measured("twelve that never pause", format!("closed after {closed:?}"));
    // If each had to wait for a pause, all would use the whole window.
    assert!(closed[0] < Duration::from_secs(3), "{closed:?}");
    assert_eq!(exit_code(&mut server, TIMEOUT), 0);
}

/// Builds a shared object that moves a program's wall clock by the seconds in a file. `None` if there is no C
/// compiler.
fn moved_clock(folder: &str) -> Option<PathBuf> {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t id, struct timespec *now) {
            long result = syscall(SYS_clock_gettime, id, now);
            if (id == CLOCK_REALTIME && result == 0) {
                const char *path = getenv("MOVED_CLOCK");
                FILE *file = path ? fopen(path, "r") : NULL;
                long seconds = 0;
                if (file) { if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds; fclose(file); }
            }
            return (int)result;
        }
    "#;
    let (source, object) = (format!("{folder}/clock.c"), PathBuf::from(format!("{folder}/clock.so")));
    std::fs::write(&source, SOURCE).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&object).arg(&source).status();
    built.is_ok_and(|status| status.success()).then_some(object)
}

#[cfg(target_os = "linux")]
#[test]
fn row_62_a_wall_clock_that_jumps_forty_days_disconnects_nobody() {
    const DAYS: i64 = 40 * 24 * 60 * 60;
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/moved-clock");
    std::fs::create_dir_all(folder).unwrap();
    let Some(object) = moved_clock(folder) else {
        return eprintln!("SKIPPED: there is no C compiler to move the clock with");
    };
    let offset = format!("{folder}/offset-{}", std::process::id());
    std::fs::write(&offset, "0").unwrap();
    let environment = [("LD_PRELOAD", object.to_str().unwrap()), ("MOVED_CLOCK", &offset)];
    let server = Server::start_in(&["--shards", "2"], &environment);
    let mut clients: Vec<Client> = (0..50).map(|n| server.chat(&format!("user{n}"))).collect();
    let now = |client: &mut Client| {
        client.say(&json!({ "type": "private", "to": "user0", "message": 1 }));
        client.message("private")["timestamp"].as_i64().unwrap() / 1000
    };
    let before = now(&mut clients[0]);
    for jump in [DAYS, -DAYS] {
        std::fs::write(&offset, jump.to_string()).unwrap();
        let moved = now(&mut clients[0]) - before;
        assert!((moved - jump).abs() < 60, "the program sees the jump: {moved} s");
        // Deadlines are checked once a second.
        assert!(clients[1].is_silent(Duration::from_secs(3)), "nobody is closed or pinged");
        for client in &mut clients {
            assert_eq!(client.verdict(json!({ "type": "ping", "id": 1 })), "pong");
        }
        server.serves();
    }
    std::fs::remove_file(&offset).unwrap();
}

#[test]
fn row_62_wall_time_is_asked_for_timestamps_and_tokens_and_for_no_deadline() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../hauyna/src");
    let mut asking = Vec::new();
    for path in files_below(root, &["rs"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let above_tests = text.split("#[cfg(test)]").next().unwrap();
        let mut code = above_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code.any(|line| line.contains("SystemTime::now()")) {
            asking.push(path[root.len() + 1..].to_owned());
        }
    }
    asking.sort();
    assert_eq!(asking, WALL_TIME, "wall time jumps: nothing but what people read and tokens may hang on it");
}

/// Files that read the wall clock: `clock` for timestamps of messages, `handle` for what is shown; the others
/// compare it with the expiry of a token.
const WALL_TIME: [&str; 4] = ["auth/identity.rs", "auth/jwt.rs", "clock.rs", "connection/handle.rs"];
