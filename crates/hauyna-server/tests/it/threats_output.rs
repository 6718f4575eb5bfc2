//! The program with an output that is closed, full or stuck (terminal, log or pipe), and with every signal
//! that it may receive.

use crate::common::{Answer, CLOSE, Client, Server, TIMEOUT, eventually, frame};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

/// A `hauyna` process with given stdout and stderr; killed when dropped.
struct Program(Child);

impl Program {
    fn start(words: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hauyna"));
        Self::spawn(command.args(words).stdin(Stdio::null()).stdout(stdout).stderr(stderr))
    }

    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Starts a server that logs everything, on a free port.
    fn serve(stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> (Self, SocketAddr) {
        let address = free_address();
        let listen = address.to_string();
        let words = ["serve", "--listen", &listen, "--metrics", "off", "--shards", "2", "--drain", "1s"];
        let program = Self::start(&[&words[..], &["--log", "debug"]].concat(), stdout, stderr);
        eventually("the server answers", TIMEOUT, || std::net::TcpStream::connect(address).is_ok());
        (program, address)
    }

    fn signal(&self, signal: Signal) {
        send(self.0.id(), signal);
    }

    /// Waits for the exit code; -1 if a signal ended the process.
    fn exit_code(&mut self) -> i32 {
        let mut status = None;
        eventually("the program has ended", TIMEOUT, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), signal).expect("the process lives");
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Returns the writing end of a pipe whose reader is closed.
fn closed() -> PipeWriter {
    pipe().unwrap().1
}

/// Returns the writing end of a full pipe whose reader is stuck.
fn stuck() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// Checks that the server works: it answers, and closes with the codes that belong to a client's mistakes.
fn behaves(address: SocketAddr) {
    let mut client = Client::open(address, "/chat?user_id=ann", "");
    assert_eq!(client.verdict(json!({ "type": "ping", "id": 1 })), "pong");
    assert_eq!(client.verdict(json!({ "type": "nonsense", "id": 2 })), "unknown_event");
    // This frame is not masked.
    client.send(&[0x81, 1, b'x']);
    assert_eq!(client.closed_with(), 1002);
    let mut client = Client::connect(address);
    client.send(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let Answer { status, .. } = client.answer().expect("an answer");
    assert_eq!(status, 200);
}

/// Ends a server as a service manager does. Its client is drained and its exit code is 0.
fn drains(mut program: Program, address: SocketAddr, signal: Signal) {
    let mut client = Client::open(address, "/chat?user_id=bob", "");
    assert_eq!(client.verdict(json!({ "type": "ping", "id": 1 })), "pong");
    program.signal(signal);
    client.message("reconnect");
    let close = loop {
        let next = client.frame();
        if next.opcode() == CLOSE {
            break next;
        }
    };
    assert_eq!(close.payload[..2], 3001_u16.to_be_bytes(), "{signal:?}");
    client.send(&frame(CLOSE, &close.payload));
    client.ended();
    assert_eq!(program.exit_code(), 0, "{signal:?}");
}

#[test]
fn a_log_whose_reader_has_gone_changes_nothing_for_clients_and_signals() {
    let (program, address) = Program::serve(Stdio::null(), closed());
    behaves(address);
    drains(program, address, Signal::TERM);
}

#[test]
fn a_log_on_a_full_disk_changes_nothing_for_clients_and_signals() {
    let (program, address) = Program::serve(Stdio::null(), full());
    behaves(address);
    drains(program, address, Signal::TERM);
}

#[test]
fn a_server_whose_announcements_nobody_takes_serves_all_the_same() {
    let (_reader, writer) = stuck();
    for stdout in [Stdio::from(closed()), full().into(), writer.into()] {
        let (program, address) = Program::serve(stdout, Stdio::null());
        behaves(address);
        drains(program, address, Signal::TERM);
    }
}

#[test]
fn a_log_whose_reader_is_stuck_keeps_nobody_waiting_and_says_what_was_dropped() {
    let (reader, writer) = pipe().unwrap();
    let (program, address) = Program::serve(Stdio::null(), writer);
    // The pipe holds 64 KiB and the program 2 MiB.
    let mut client = Client::open(address, "/chat?user_id=ann", "");
    let channel = "c".repeat(64);
    for _ in 0..120 {
        for _ in 0..100 {
            client.say(&json!({ "type": "subscribe_channel", "channel": channel }));
            client.say(&json!({ "type": "unsubscribe_channel", "channel": channel }));
        }
        assert_eq!(client.verdict(json!({ "type": "ping", "id": 1 })), "pong");
    }
    behaves(address);
    let lines = BufReader::new(reader).lines().map_while(Result::ok);
    let reading =
        std::thread::spawn(move || lines.filter(|line| line.contains("lines dropped")).collect::<Vec<_>>());
    drains(program, address, Signal::TERM);
    let lines = reading.join().unwrap();
    assert!(lines.iter().any(|line| line.contains("dropped=")), "{lines:?}");
}

#[test]
fn signals_that_end_a_process_drain_the_server_and_a_second_one_ends_it_at_once() {
    let signals = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::XCPU, Signal::POWER];
    for signal in signals {
        let (program, address) = Program::serve(Stdio::null(), Stdio::null());
        drains(program, address, signal);
    }
    for signal in signals {
        let mut server = Server::start_with(&["--shards", "2", "--drain", "60m"]);
        let mut client = server.chat("ann");
        send(server.id(), signal);
        client.message("reconnect");
        send(server.id(), signal);
        let mut code = None;
        eventually("the program has ended", TIMEOUT, || {
            code = server.exit_code();
            code.is_some()
        });
        assert_eq!(code, Some(128 + signal.as_raw()));
    }
}

#[test]
fn signals_that_mean_nothing_to_a_server_do_nothing_to_it() {
    let (program, address) = Program::serve(Stdio::null(), Stdio::null());
    let mut client = Client::open(address, "/chat?user_id=ann", "");
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::PIPE,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::XFSZ,
        Signal::STKFLT,
    ] {
        program.signal(signal);
        assert_eq!(client.verdict(json!({ "type": "ping", "id": 1 })), "pong", "{signal:?}");
    }
    behaves(address);
    drains(program, address, Signal::TERM);
}

#[test]
fn a_server_under_nohup_outlives_its_terminal() {
    let address = free_address();
    let words = ["serve", "--listen", &address.to_string(), "--metrics", "off", "--drain", "1s"];
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" HUP; exec "$0" "$@""#, env!("CARGO_BIN_EXE_hauyna")]).args(words);
    let program = Program::spawn(shell.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("the server answers", TIMEOUT, || std::net::TcpStream::connect(address).is_ok());
    program.signal(Signal::HUP);
    behaves(address);
    drains(program, address, Signal::TERM);
}

/// Runs a command with this stdout until it ends.
fn run(words: &[&str], stdout: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hauyna"));
    command.args(words).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

/// Arguments of commands that print a result.
fn printing(url: &str) -> Vec<Vec<&str>> {
    let bench = ["bench", "echo", "--url", url, "--conns", "2", "--msgs", "20", "--warmup", "0"];
    vec![
        vec!["--help"],
        vec!["--version"],
        vec!["serve", "--help"],
        vec!["types"],
        vec!["types", "--format", "json-schema"],
        bench.to_vec(),
        [&bench[..], &["--json"]].concat(),
    ]
}

#[test]
fn a_result_whose_reader_has_gone_is_no_failure_and_one_that_is_lost_is() {
    let server = Server::start();
    let url = format!("ws://{}/chat", server.address);
    for words in printing(&url) {
        let output = run(&words, closed());
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{words:?}");
        let output = run(&words, full());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{words:?}: {text}");
        assert!(text.starts_with("hauyna: the output cannot be written: "), "{words:?}: {text}");
    }
}

#[test]
fn a_complaint_that_nobody_takes_keeps_its_exit_code() {
    let (_reader, writer) = stuck();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let commands: [(&[&str], i32); 4] = [
        (&["--nonsense"], 2),
        (&["types", "/nowhere"], 1),
        (&["bench", "echo", "--url", "ws://127.0.0.1:1/", "--secs", "1"], 1),
        (&["serve", "--metrics", "off", "--listen", &listen], 1),
    ];
    for (words, code) in commands {
        for stderr in [Stdio::from(closed()), full().into(), writer.try_clone().unwrap().into()] {
            assert_eq!(Program::start(words, Stdio::null(), stderr).exit_code(), code, "{words:?}");
        }
    }
}

#[test]
fn a_load_tool_that_cannot_print_is_ended_by_signals() {
    let server = Server::start();
    let url = format!("ws://{}/chat", server.address);
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP] {
        let (_reader, writer) = stuck();
        let words = ["bench", "echo", "--url", &url, "--conns", "1", "--msgs", "5", "--warmup", "0"];
        let mut program = Program::start(&words, writer, Stdio::null());
        eventually("it prints", TIMEOUT, || {
            threads(program.0.id()).iter().any(|name| name == "hauyna-print")
        });
        program.signal(signal);
        assert_eq!(program.exit_code(), 128 + signal.as_raw());
    }
}

#[test]
fn a_load_tool_that_a_signal_ends_takes_its_own_server_with_it() {
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT, Signal::INT] {
        let words = ["bench", "drain", "--conns", "5", "--window", "60s"];
        let mut program = Program::start(&words, Stdio::null(), Stdio::null());
        let id = program.0.id();
        let mut server = None;
        eventually("it has a server", TIMEOUT, || {
            server = child(id).filter(|child| threads(*child).iter().any(|name| name == "hauyna-0"));
            server.is_some()
        });
        // The first Ctrl-C only ends the measurement, if there is one yet.
        eventually("it has ended", TIMEOUT, || {
            let has_ended = program.0.try_wait().unwrap().is_some();
            if !has_ended {
                program.signal(signal);
            }
            has_ended
        });
        let code = program.exit_code();
        assert!(code == 128 + signal.as_raw() || signal == Signal::INT && code == 1, "{signal:?}: {code}");
        assert!(!std::path::Path::new(&format!("/proc/{}", server.unwrap())).exists(), "{signal:?}");
    }
}

/// Returns the names of the threads of a process.
fn threads(process: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// Returns the child of a process.
fn child(of: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        parent == Some(of)
    })
}
