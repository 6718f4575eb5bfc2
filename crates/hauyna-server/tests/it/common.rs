//! The program under test as a child process, the resources that it uses, and a raw WebSocket client that can
//! send any bytes and any frames. The other test modules use it.

use serde_json::{Value, json};
use std::borrow::Borrow;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running `hauyna serve`. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    output: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts the program with an echo endpoint, at its default log level.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--shards", "2"])
    }

    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::start_in(options, &[])
    }

    /// Starts it with environment variables. There is no `/metrics` unless the options ask for it, since many
    /// servers run at once.
    pub(crate) fn start_in(options: &[&str], environment: &[(&str, &str)]) -> Self {
        raise_descriptor_limit();
        let metrics: &[&str] = if options.contains(&"--metrics") { &[] } else { &["--metrics", "off"] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_hauyna"))
            .args(["serve", "--listen", "127.0.0.1:0", "--echo", "/echo"])
            .args(metrics)
            .args(options)
            .envs(environment.iter().copied())
            .env("NO_COLOR", "1")
            // Huge pages would round every growth up to 2 MiB.
            .env("MIMALLOC_ALLOW_THP", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let errors = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        printed.read_line(&mut line).unwrap();
        let (_, address) =
            line.trim().split_once("http://").unwrap_or_else(|| panic!("no address in {line:?}"));
        let address = address.parse().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let lines = output.clone();
        std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, address, log, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the processor time of the process, user and system, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn rss(&self) -> i64 {
        self.status("VmRSS:")
    }

    /// Returns the peak of resident memory in KiB.
    pub(crate) fn peak_rss(&self) -> i64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Returns the number of open file descriptors.
    pub(crate) fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Uses every worker once, so that its threads, buffers and allocator arenas exist.
    pub(crate) fn warm(&self) {
        for _ in 0..16 {
            self.serves();
        }
    }

    /// Returns the number of descriptors of the idle server, with all workers started and closed connections
    /// gone.
    pub(crate) fn settled_fds(&self) -> usize {
        self.warm();
        let (mut fds, mut same) = (self.fds(), 0);
        eventually("the descriptors settle", Duration::from_secs(10), || {
            let now = self.fds();
            same = if now == fds { same + 1 } else { 0 };
            fds = now;
            same == 40
        });
        fds
    }

    /// Returns the share of a core that the server uses during `time`.
    pub(crate) fn busy_share(&self, time: Duration) -> f64 {
        let (cpu, start) = (self.cpu(), Instant::now());
        while let Some(remaining) = time.checked_sub(start.elapsed()) {
            std::thread::park_timeout(remaining);
        }
        (self.cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64()
    }

    /// Sends SIGTERM, as a service manager does.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Returns the exit code once the program has ended by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    /// Sets the soft limit of descriptors of the running server; the hard limit stays.
    pub(crate) fn limit_fds(&self, soft: usize) {
        prlimit(self.id(), soft);
    }

    /// Returns the printed address of the metrics.
    pub(crate) fn metrics(&self) -> SocketAddr {
        let find = || {
            let lines = self.output.lock().unwrap();
            let address =
                lines.iter().find_map(|line| line.split_once("metrics")?.1.trim().strip_prefix("http://"));
            address.map(|address| address.trim_end_matches("/metrics").parse().unwrap())
        };
        eventually("the address of the metrics is printed", TIMEOUT, || find().is_some());
        find().unwrap()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Connects without sending a byte.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Connects and upgrades to `/echo`.
    pub(crate) fn echo(&self) -> Client {
        self.open("/echo", "")
    }

    /// Connects a plain client of `/chat`.
    pub(crate) fn chat(&self, user: &str) -> Client {
        let mut client = self.open(&format!("/chat?user_id={user}"), "");
        // The answer to the handshake arrives a moment before others can see the connection.
        assert_eq!(client.verdict(json!({ "type": "ping", "id": "first" })), "pong");
        client
    }

    /// Connects a client of `/chat` that speaks MessagePack, and reads its `session`.
    pub(crate) fn chat_msgpack(&self, user: &str) -> Client {
        let protocol = "Sec-WebSocket-Protocol: hauyna.v1.msgpack\r\n";
        let mut client = self.open(&format!("/chat?user_id={user}"), protocol);
        assert_eq!(client.frame().opcode(), BINARY, "the session");
        client
    }

    pub(crate) fn open(&self, path: &str, headers: &str) -> Client {
        Client::open(self.address, path, headers)
    }

    /// Checks that a good client gets an upgrade and an echo, which proves that the server has caught up.
    /// Returns the time.
    pub(crate) fn serves(&self) -> Duration {
        let start = Instant::now();
        let mut client = self.echo();
        client.send(&frame(TEXT, b"still there?"));
        assert_eq!(client.frame().payload, b"still there?");
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the descriptor limit of this process, which children inherit. Tests open some thousands of sockets.
pub(crate) fn raise_descriptor_limit() {
    static RAISED: std::sync::Once = std::sync::Once::new();
    RAISED.call_once(|| prlimit(std::process::id(), 20_000));
}

/// Returns the number of descriptors that this process may open.
pub(crate) fn descriptor_limit() -> usize {
    raise_descriptor_limit();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// Sets the soft limit with `prlimit` of util-linux. A hard limit below `soft` leaves it unchanged.
fn prlimit(process: u32, soft: usize) {
    let set = Command::new("prlimit")
        .args(["--pid", &process.to_string(), &format!("--nofile={soft}:")])
        .stderr(Stdio::null())
        .status();
    drop(set);
}

/// A raw client on a TCP socket.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// A received frame: `first` has FIN, the reserved bits and the opcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// An answer over plain HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn has(&self, header: &str) -> bool {
        self.head.to_ascii_lowercase().contains(&format!("\r\n{}", header.to_ascii_lowercase()))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self::of(stream)
    }

    /// Creates a client on an existing socket.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn open(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut client = Self::connect(address);
        client.send(upgrade(path, headers).as_bytes());
        client.upgraded();
        client
    }

    /// Reads the head of the answer, which must be 101.
    pub(crate) fn upgraded(&mut self) -> String {
        let head = self.head().expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        head
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends chunks until the server closes or stops reading for a second. Returns how many it sent.
    pub(crate) fn flood(&mut self, chunk: &[u8], times: usize) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        (0..times).take_while(|_| self.stream.write_all(chunk).is_ok()).count()
    }

    /// Sends a message of the protocol.
    pub(crate) fn say(&mut self, message: &Value) {
        self.send(&frame(TEXT, message.to_string().as_bytes()));
    }

    /// Sends a request and reads until its answer, the message with the same `id`.
    pub(crate) fn ask(&mut self, request: impl Borrow<Value>) -> Value {
        let request = request.borrow();
        self.say(request);
        loop {
            let frame = self.frame();
            if frame.opcode() == PING {
                continue;
            }
            let answer = frame.json();
            if answer["id"] == request["id"] {
                return answer;
            }
        }
    }

    /// Returns the `error_type` of the answer to a request, or its `type` if it is no error.
    pub(crate) fn verdict(&mut self, request: impl Borrow<Value>) -> String {
        let answer = self.ask(request);
        let kind = answer.get("error_type").unwrap_or(&answer["type"]);
        kind.as_str().unwrap().to_owned()
    }

    pub(crate) fn subscribe(&mut self, channel: &str) -> Value {
        let answer = self.ask(json!({ "type": "subscribe_channel", "id": "s", "channel": channel }));
        assert_eq!(answer["type"], "ack", "{answer}");
        answer["data"].clone()
    }

    /// Returns the next message of a type and drops others.
    pub(crate) fn message(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame();
            if frame.opcode() == PING {
                continue;
            }
            let message = frame.json();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Reads once and returns the number of bytes; 0 at the end of the stream or after a reset.
    fn more(&mut self) -> usize {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.read.extend_from_slice(&chunk[..count]);
                    return count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the server sent nothing for {:?}", self.stream.read_timeout().unwrap())
                }
                Err(_) => return 0,
            }
        }
    }

    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    /// Returns the next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count && self.more() > 0 {}
        self.read.drain(..count).collect()
    }

    /// Reads an HTTP answer until the server closes the connection; `None` if it was reset before an answer.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let head = self.head()?;
        while self.more() > 0 {}
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, head, body: std::mem::take(&mut self.read) })
    }

    /// Returns the next frame, or `None` at the end of the stream.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, length)) = self.begun()
                && self.read.len() >= header + length
            {
                let first = self.read[0];
                let payload = self.read[header..header + length].to_vec();
                self.read.drain(..header + length);
                return Some(Frame { first, payload });
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    /// Returns the lengths of the header and of the payload of the frame at the front, once they are known.
    fn begun(&self) -> Option<(usize, usize)> {
        let second = *self.read.get(1)?;
        assert_eq!(second & 0x80, 0, "a server does not mask");
        match second {
            126 => Some((4, u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()).into())),
            127 => Some((10, u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap()) as usize)),
            short => Some((2, short.into())),
        }
    }

    pub(crate) fn frame(&mut self) -> Frame {
        self.next_frame().expect("a frame, not the end of the stream")
    }

    /// Reads to the close frame and to the end of the stream. Returns the close code.
    pub(crate) fn closed_with(&mut self) -> u16 {
        loop {
            let frame = self.frame();
            if frame.opcode() == CLOSE {
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                assert_eq!(self.next_frame(), None, "nothing follows a close frame");
                return code;
            }
        }
    }

    /// Reads to the end of the stream or a reset.
    pub(crate) fn ended(&mut self) {
        while self.more() > 0 {
            self.read.clear();
        }
    }

    /// Whether the server sends nothing and does not close for this long.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let outcome = self.stream.peek(&mut [0; 1]);
        self.stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        matches!(outcome, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Returns a client on the same socket, for another thread.
    pub(crate) fn other_half(&self) -> Self {
        Self::of(self.stream.try_clone().unwrap())
    }

    /// Makes this client end with a reset when dropped.
    pub(crate) fn reset(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Shuts down the sending side; reading still works.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// Returns a valid upgrade request; `headers` are complete lines.
pub(crate) fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Returns a complete masked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(0x80 | opcode, payload)
}

/// Returns a masked frame with any first byte.
pub(crate) fn raw_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = header(first, payload.len() as u64);
    let length = out.len();
    out[length - 4..].copy_from_slice(&KEY);
    out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Returns the header of a masked frame that claims a length, with a zero key.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut out = vec![first];
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out
}

/// Prints a figure, visible with `--nocapture`.
pub(crate) fn measured(what: &str, figure: impl std::fmt::Display) {
    println!("measured: {what}: {figure}");
}

/// Polls a condition that has no event, such as a figure in `/proc`. Returns how long it took.
pub(crate) fn eventually(what: &str, timeout: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Longer than any deadline of the server.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Returns the files below a directory with one of these extensions.
pub(crate) fn files_below(root: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![std::path::PathBuf::from(root)];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|one| extension == *one))
            {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}
