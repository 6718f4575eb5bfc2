//! The load tool against a real server: each workload ends in time with all its figures and without a loss,
//! and invalid options are refused with one line.

use crate::common::Server;
use hauyna_websocket::handshake::{HeadReader, check};
use hauyna_websocket::{Decoder, Event, Limits, OpCode, Role, encode_into};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::Instant;

/// Runs `hauyna bench` with these arguments.
fn bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hauyna")).arg("bench").args(words).output().expect("the program starts")
}

/// Measures for a second and returns the report.
fn measured(server: &Server, path: &str, words: &[&str]) -> Value {
    let url = format!("ws://{}{path}", server.address);
    let mut all = words.to_vec();
    if !words.contains(&"--secs") {
        all.extend(["--secs", "1"]);
    }
    all.extend(["--url", &url, "--warmup", "0.1"]);
    alone(&all)
}

/// Measures without a given server, and returns the report after checking the figures that all reports have.
pub(crate) fn alone(words: &[&str]) -> Value {
    let output = bench(&[words, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    assert_eq!(errors, "", "{words:?}: only JSON is printed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["workload"], words[0]);
    for fault in ["lost", "duplicated", "reordered", "errors"] {
        assert_eq!(report[fault], 0, "{fault}: {report}");
    }
    let figures = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| report[name].as_f64());
    assert!(figures.iter().all(|figure| figure.is_some_and(|micros| micros > 0.0)), "{report}");
    assert!(figures.is_sorted(), "{report}");
    for figure in ["conns", "size", "seconds", "throughput_per_s"] {
        assert!(report[figure].as_f64().is_some_and(|number| number > 0.0), "{figure}: {report}");
    }
    report
}

#[test]
fn fanout_delivers_everything_in_a_closed_and_in_an_open_loop() {
    let server = Server::start();
    let report = measured(&server, "/chat", &["fanout", "--conns", "50", "--channels", "5", "--window", "8"]);
    assert_eq!((&report["channels"], &report["window"]), (&5.into(), &8.into()));
    assert!(report["connect_s"].as_f64().unwrap() > 0.0);
    let start = Instant::now();
    let report = measured(&server, "/chat", &["fanout", "--conns", "20", "--rate", "200"]);
    let (published, max) = (report["published"].as_f64().unwrap(), 200.0 * start.elapsed().as_secs_f64());
    assert!(published <= max + 1.0, "no more than the rate allows: {published} of {max}");
    assert_eq!(report["rate"], 200.0);
}

#[test]
fn join_counts_what_everybody_is_told_of_those_who_come() {
    let server = Server::start();
    let pid = server.id().to_string();
    let report = measured(&server, "/chat", &["join", "--conns", "120", "--over", "0.5", "--pid", &pid]);
    // Up to 100 members, each gets a message about each; above that the messages are diffs.
    let per_join = report["messages_per_join"].as_f64().unwrap();
    assert!((40.0..60.0).contains(&per_join), "{report}");
    assert!(report["server_us_per_join"].as_f64().unwrap() > 1.0, "{report}");
}

#[test]
fn a_number_of_messages_ends_a_run() {
    let server = Server::start();
    let report = measured(&server, "/chat", &["fanout", "--conns", "10", "--rate", "1000", "--msgs", "20"]);
    assert_eq!(report["samples"], 20 * 10, "20 messages to 10 subscribers");
    let report = measured(&server, "/echo", &["echo", "--raw", "--conns", "3", "--msgs", "30"]);
    assert_eq!(report["samples"], 30, "over all connections");
}

#[test]
fn echo_measures_the_protocol_and_the_plain_endpoint() {
    let server = Server::start();
    let report = measured(&server, "/chat", &["echo", "--conns", "10", "--pipeline", "4"]);
    assert_eq!((&report["kind"], &report["pipeline"]), (&"ping".into(), &4.into()));
    let report = measured(&server, "/echo", &["echo", "--raw", "--conns", "10", "--size", "100000"]);
    assert_eq!((&report["kind"], &report["size"]), (&"raw".into(), &100_000.into()));
}

#[test]
fn idle_reports_connecting_and_memory() {
    let server = Server::start();
    let report = measured(&server, "/chat", &["idle", "--conns", "200", "--pid", &server.id().to_string()]);
    assert!(report["connects_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["rss_bytes_per_conn"].as_u64().is_some(), "{report}");
    let report = measured(&server, "/echo", &["idle", "--conns", "5", "--no-subscribe"]);
    assert!(report.get("rss_bytes_per_conn").is_none(), "only with --pid");
}

#[test]
fn churn_counts_whole_cycles() {
    let server = Server::start();
    let report = measured(&server, "/chat", &["churn", "--conns", "5"]);
    assert_eq!(report["broken"], 0);
    assert!(report["cycles"].as_u64().unwrap() > 5, "{report}");
}

#[test]
fn slow_sees_who_was_cut_and_that_others_lost_nothing() {
    let server = Server::start();
    // 1 MiB every half second is more than the buffers of a connection hold, and readers keep up on a busy
    // machine.
    let words =
        ["slow", "--conns", "10", "--stalled", "3", "--size", "16384", "--rate", "120", "--secs", "4"];
    let report = measured(&server, "/chat", &words);
    assert_eq!((&report["stalled"], &report["stalled_cut"]), (&3.into(), &3.into()), "{report}");
    let codes = report["stalled_codes"].as_object().unwrap();
    assert!(codes.keys().all(|code| code == "3008" || code == "1006"), "{codes:?}");
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_line() {
    let server = Server::start();
    let url = |path: &str| format!("ws://{}{path}", server.address);
    let refused = [
        ("ws://192.0.2.1/chat".to_owned(), "--allow-remote"),
        ("http://127.0.0.1/".to_owned(), "ws://HOST:PORT/PATH"),
        ("ws://127.0.0.1:1/chat".to_owned(), "cannot connect"),
        (url("/nowhere"), "404"),
        (url("/chat?user_id="), "401"),
    ];
    for (url, reason) in refused {
        let output = bench(&["fanout", "--url", &url, "--conns", "3", "--secs", "1"]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{url}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(reason), "{url}: {errors}");
    }
}

#[test]
fn a_publication_that_is_refused_fails_the_run() {
    let server = Server::start();
    let url = format!("ws://{}/chat", server.address);
    // Above the server's message limit.
    let words = ["fanout", "--url", &url, "--conns", "2", "--size", "100000", "--secs", "1"];
    let output = bench(&words);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("lost") && errors.contains("payload_too_large"), "{errors}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("lost"), "the table is printed, too");
}

#[test]
fn what_a_faulty_server_does_is_found_and_fails_the_run() {
    for words in [&["echo", "--pipeline", "40"], &["fanout", "--window", "40"]] {
        let url = format!("ws://{}/", faulty_server());
        let mut all = words.to_vec();
        all.extend(["--url", &url, "--conns", "1", "--msgs", "40", "--secs", "2", "--warmup", "0", "--json"]);
        let output = bench(&all);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let report: Value =
            serde_json::from_slice(&output.stdout).expect("the report is printed nevertheless");
        assert_eq!([&report["lost"], &report["duplicated"], &report["reordered"]], [1, 1, 1], "{report}");
        assert_eq!(report["samples"], 39, "a message is measured when it first arrives: {report}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("1 lost, 1 duplicated, 1 reordered"));
    }
}

/// Serves one connection: acknowledges a subscription and sends back everything else, except that it swallows
/// the message 3, repeats 5, and sends 7 after 8.
fn faulty_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    std::thread::spawn(move || {
        let mut stream = listener.accept()?.0;
        let mut chunk = vec![0; 64 << 10];
        let (mut head, mut out) = (HeadReader::new(), Vec::new());
        let head = loop {
            let read = stream.read(&mut chunk)?;
            if let Some(head) = head.push(&chunk[..read]).expect("a good request") {
                break head;
            }
        };
        let request = head.request.into_parts().0;
        check(&request).expect("a handshake").write_response(None, None, &mut out);
        let mut decoder = Decoder::new(Role::Server, Limits::default());
        let (mut count, mut held) = (0, String::new());
        while !decoder.is_finished() {
            stream.write_all(&out)?;
            out.clear();
            let read = stream.read(&mut chunk)?;
            let mut events = decoder.feed(&mut chunk[..read]);
            while let Some(Event::Text(text)) = events.next().expect("a good client") {
                if text.contains("subscribe_channel") {
                    encode_into(&mut out, OpCode::Text, br#"{"type":"ack","id":1}"#, None);
                    continue;
                }
                let mut send = |text: &str| encode_into(&mut out, OpCode::Text, text.as_bytes(), None);
                match count {
                    3 => {}
                    5 => [text, text].into_iter().for_each(send),
                    7 => text.clone_into(&mut held),
                    8 => [text, &held].into_iter().for_each(send),
                    _ => send(text),
                }
                count += 1;
            }
        }
        std::io::Result::Ok(())
    });
    address
}

#[test]
fn drain_ends_a_server_of_its_own_evenly_with_nothing_lost_and_exit_code_0() {
    let report = alone(&["drain", "--conns", "200", "--window", "2s"]);
    assert_eq!((&report["exit_code"], &report["untold"]), (&0.into(), &0.into()), "{report}");
    let (min, max) = (report["least_of_even"].as_f64().unwrap(), report["most_of_even"].as_f64().unwrap());
    // If the machine stalls for a tenth of the window, two tenths arrive at once.
    assert!((0.0..=1.0).contains(&min) && (1.0..4.0).contains(&max), "{report}");
    assert!(report["ended_s"].as_f64().unwrap() < 7.0, "{report}");
}

#[test]
fn storm_brings_everybody_back_by_the_policy_of_the_server() {
    let report = alone(&["storm", "--conns", "200"]);
    assert_eq!((&report["back"], &report["recovered"]), (&200.into(), &200.into()), "{report}");
    assert!(report["server_us_per_reconnect"].as_f64().unwrap() > 1.0, "{report}");
    assert!(report["back_s"].as_f64().unwrap() > 0.1, "spread: {report}");
}
