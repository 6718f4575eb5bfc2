//! Connections that do not take part in the pressure. Each runs on its own thread, sends pings and publishes
//! in its own channel, one request after the other, and measures the latency of each answer. `stage` uses
//! them.

use anyhow::{Context, Result, bail};
use hauyna_websocket::handshake::ClientRequest;
use hauyna_websocket::{Decoder, Event, Limits, Role};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The bystanders and their threads.
#[derive(Debug)]
pub(crate) struct Bystanders {
    phase: Arc<AtomicU8>,
    threads: Vec<JoinHandle<Result<Measured>>>,
}

/// Latencies of answers, without and with pressure.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) alone: Vec<Duration>,
    pub(crate) beside: Vec<Duration>,
}

impl Bystanders {
    /// Connects the bystanders. Until [`Bystanders::begin_pressure`] there is no pressure.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let phase = Arc::new(AtomicU8::new(ALONE));
        let thread = |number| {
            let phase = phase.clone();
            std::thread::spawn(move || measure(address, number, &phase))
        };
        Self { threads: (0..BYSTANDERS).map(thread).collect(), phase }
    }

    /// Records that the pressure begins.
    pub(crate) fn begin_pressure(&self) {
        self.phase.store(BESIDE, Ordering::Relaxed);
    }

    /// Ends the bystanders and returns their latencies and failures.
    pub(crate) fn end(self) -> (Measured, Vec<String>) {
        self.phase.store(OVER, Ordering::Relaxed);
        let (mut all, mut failures) = (Measured::default(), Vec::new());
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(measured)) => {
                    all.alone.extend(measured.alone);
                    all.beside.extend(measured.beside);
                }
                Ok(Err(error)) => failures.push(format!("bystander: {error:#}")),
                Err(_) => failures.push("bystander: panicked".to_owned()),
            }
        }
        (all, failures)
    }
}

/// Returns the 99th percentile of latencies.
pub(crate) fn p99(latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * 99 / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

fn measure(address: SocketAddr, number: u64, phase: &AtomicU8) -> Result<Measured> {
    let mut line = Line::connect(address, number)?;
    let channel = format!("own:{number}");
    line.send(&format!("{{\"type\":\"subscribe_channel\",\"id\":1,\"channel\":\"{channel}\"}}"))?;
    line.await_type("ack")?;
    let mut measured = Measured::default();
    loop {
        let latencies = match phase.load(Ordering::Relaxed) {
            ALONE => &mut measured.alone,
            BESIDE => &mut measured.beside,
            _ => return Ok(measured),
        };
        let began = Instant::now();
        line.send("{\"type\":\"ping\",\"id\":2}")?;
        line.await_type("pong")?;
        latencies.push(began.elapsed());
        let began = Instant::now();
        line.send(&format!("{{\"type\":\"channel_message\",\"channel\":\"{channel}\",\"content\":1}}"))?;
        line.await_type("message")?;
        latencies.push(began.elapsed());
        std::thread::sleep(PAUSE);
    }
}

/// A blocking connection.
struct Line {
    stream: TcpStream,
    decoder: Decoder,
    /// Types of the messages that arrived.
    arrived: VecDeque<String>,
}

impl Line {
    fn connect(address: SocketAddr, number: u64) -> Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let (request, mut answer) =
            ClientRequest::new(&address.to_string(), &format!("/?user=bystander{number}")).start()?;
        stream.write_all(&request)?;
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).context("no answer to the handshake")?;
            anyhow::ensure!(read > 0, "the connection ended within the handshake");
            if let Some(accepted) = answer.push(&buffer[..read])? {
                anyhow::ensure!(accepted.rest.is_empty(), "a plain client gets no first message");
                let decoder = Decoder::new(Role::Client, Limits::default());
                return Ok(Self { stream, decoder, arrived: VecDeque::new() });
            }
        }
    }

    fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.write_all(&crate::client::frames([text.to_owned()]))?)
    }

    /// Reads until the next message of a type, and drops others (broadcasts to everybody).
    fn await_type(&mut self, kind: &str) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            while let Some(arrived) = self.arrived.pop_front() {
                anyhow::ensure!(arrived != "error", "a request was refused");
                if arrived == kind {
                    return Ok(());
                }
            }
            let read =
                self.stream.read(&mut buffer).with_context(|| format!("no {kind} within {TIMEOUT:?}"))?;
            anyhow::ensure!(read > 0, "the connection ended without a close frame");
            let mut events = self.decoder.feed(&mut buffer[..read]);
            while let Some(event) = events.next()? {
                match event {
                    Event::Text(text) => {
                        let kind = text.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next());
                        self.arrived.push_back(kind.unwrap_or_default().to_owned());
                    }
                    Event::Close(close) => bail!("closed: {close:?}"),
                    _ => {}
                }
            }
        }
    }
}

const BYSTANDERS: u64 = 2;
const ALONE: u8 = 0;
const BESIDE: u8 = 1;
const OVER: u8 = 2;
/// Pause between two measurements.
const PAUSE: Duration = Duration::from_millis(5);
/// Maximum time that a bystander waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::p99;
    use std::time::Duration;

    #[test]
    fn p99_is_the_latency_of_the_slowest_hundredth() {
        let latencies: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(p99(&latencies), Duration::from_millis(199));
        assert_eq!(p99(&[]), Duration::ZERO);
    }
}
