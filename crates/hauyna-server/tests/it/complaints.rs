//! The error lines of the program for wrong arguments.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

#[test]
fn a_mistake_is_told_in_one_line_that_says_what_would_be_right() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (words, code, expected) in [
        (&["serve", "--echo", "/:id"][..], 2, "a path such as /echo, other than /chat"),
        (&["serve", "--echo", "/*"], 2, "a path such as /echo, other than /chat"),
        (&["serve", "--echo", "/%63hat"], 2, "a path such as /echo, other than /chat"),
        (&["serve", "--echo", "/a/../b"], 2, "dot segments"),
        (&["serve", "--echo", "/."], 2, "dot segments"),
        (&["serve", "--echo", "/"], 2, "the program serves a page at `/`"),
        (&["serve", "--echo", "/ready"], 2, "the program serves a page at `/ready`"),
        (&["serve", "--echo", "/chat.js"], 2, "the program serves a page at `/chat.js`"),
        (&["serve", "--drain", "-1s"], 2, "no option takes a negative value"),
        (&["serve", "--drain", "--log", "debug"], 2, "a value is required for '--drain <TIME>'"),
        (&["bench", "fanout", "--conns", "-1"], 2, "no option takes a negative value"),
        (&["serve", "--tls-cert", "cert.pem"], 2, "--tls-key <FILE>"),
        (&["types", "--format", "yaml"], 2, "possible values: typescript, json-schema, async-api"),
        (&["types", "--out", "/nowhere/at/all"], 1, "cannot be written: No such file or directory"),
        (&["serve", "--metrics", &taken], 1, "for metrics: Address already in use"),
        (&["serve", "--metrics", "off", "--listen", &taken], 1, "cannot listen on"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hauyna"));
        let Output { status, stderr, .. } = command.args(words).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{words:?}: {errors}");
        let complaints: Vec<_> = errors.lines().filter(|line| line.starts_with("hauyna: ")).collect();
        let [complaint] = complaints[..] else { panic!("{words:?}: {errors}") };
        assert!(complaint.contains(expected), "{complaint}");
        assert!(complaint.matches("Address already in use").count() < 2, "{complaint}");
    }
}
