//! The flags of `hauyna bench`, and the checks of their values.

use clap::{Args, Parser, Subcommand};
use std::time::Duration;

/// The flags of `hauyna bench`.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(super) workload: Workload,
}

const EXAMPLES: &str = "Examples:
  hauyna bench fanout --conns 1000                  one channel, one message outstanding, latency and throughput
  hauyna bench fanout --conns 1000 --rate 500       500 messages/s, latency from when each was due
  hauyna bench echo --raw --url ws://127.0.0.1:8080/echo --conns 100 --pipeline 4
  hauyna bench idle --conns 5000 --pid $(pidof hauyna)
  hauyna bench join --conns 5000 --over 5 --pid $(pidof hauyna)
  hauyna bench drain --conns 10000 --window 10s     starts its own server, and ends it
  hauyna bench storm --conns 10000                  starts its own server, too
  hauyna bench slow --conns 200 --stalled 20 --json

`hauyna bench WORKLOAD --help` lists the flags of a workload. The exit status is 0 only if every message
arrived once and in order and no connection was refused or lost. Ctrl-C ends the measurement early.

With --json, every workload has: workload url conns size seconds throughput_per_s samples p50_us p90_us p99_us
p999_us max_us lost duplicated reordered errors first_error closed connect_s connects_per_s client_cpu_share
interrupted. What was not measured is null. Latency runs from the moment of sending, or with --rate from the
moment a message was due, to the read that returned it; losses are counted in the warm-up, too.";

/// The workloads.
#[derive(Debug, Subcommand)]
pub(super) enum Workload {
    /// Subscribers on channels; each publication is delivered to all subscribers of its channel
    Fanout(Fanout),
    /// Requests and their answers: the protocol's ping, or a plain echo with --raw
    Echo(Echo),
    /// Connections that subscribe and stay idle: connect rate, and memory of each
    Idle(Idle),
    /// Connections join the presence of one channel: cost of a join, and the messages that it causes
    Join(Join),
    /// Connections that connect, subscribe, publish once, receive it and close, over and over
    Churn(Churn),
    /// A server full of subscribers gets SIGTERM: how evenly it closes them, what is lost, how it ends
    Drain(Drain),
    /// All subscribers are cut at once and reconnect by the server's retry policy, with full jitter
    Storm(Storm),
    /// A fan-out in which some subscribers stop reading: how it affects the others
    Slow(Slow),
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Where to connect; `user_id=bench-N` is added to the query unless it has one
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/chat")]
    pub(super) url: String,
    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) conns: u32,
    /// Bytes of content in a message, its envelope not counted [default: 128; slow: 16384]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(super) size: Option<usize>,
    /// Length of the measurement [default: 5, or with --msgs until they are sent, at most 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) secs: Option<Duration>,
    /// End after this many messages (echo: requests; churn: cycles), or after --secs if that is sooner
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) msgs: Option<u64>,
    /// Traffic before the measured part
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub(super) warmup: Duration,
    /// Handshakes under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) burst: u32,
    /// Give up when the whole run takes longer [default: --secs and two minutes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,
    /// Print one line of JSON instead of the table, and no progress
    #[arg(long)]
    pub(super) json: bool,
    /// Allow a target that is not this machine
    #[arg(long)]
    pub(super) allow_remote: bool,
}

impl Common {
    /// Returns the maximum length of the measured part.
    pub(super) fn limit(&self) -> Duration {
        self.secs.unwrap_or(if self.msgs.is_some() { MESSAGES_LIMIT } else { MEASURED })
    }

    /// Returns the maximum length of the whole run.
    pub(super) fn deadline(&self) -> Duration {
        self.timeout.unwrap_or(self.limit() + self.warmup + OVERHEAD)
    }
}

#[derive(Debug, Args)]
pub(super) struct Channels {
    /// Channels; the subscribers are spread over them, and the first of each publishes
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) channels: u32,
    /// Publications per second over all channels, whatever the server does (open loop)
    #[arg(long, value_name = "R", conflicts_with = "window", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Publications that are not yet delivered to everybody (closed loop) [default: 1, or slow: --rate 100]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) window: Option<u32>,
    /// Channels are called NAME:0, NAME:1, …
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = name)]
    pub(super) channel: String,
}

#[derive(Debug, Args)]
pub(super) struct Fanout {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) channels: Channels,
}

#[derive(Debug, Args)]
pub(super) struct Slow {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) channels: Channels,
    /// Subscribers that stop reading after the warm-up [default: a tenth]
    #[arg(long, value_name = "M")]
    pub(super) stalled: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Echo {
    #[command(flatten)]
    pub(super) common: Common,
    /// Requests outstanding on each connection
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) pipeline: u32,
    /// The endpoint sends back every message, and does not speak hauyna.v1
    #[arg(long)]
    pub(super) raw: bool,
}

#[derive(Debug, Args)]
pub(super) struct Idle {
    #[command(flatten)]
    pub(super) common: Common,
    /// Open bare connections, without a subscription
    #[arg(long)]
    pub(super) no_subscribe: bool,
    /// The server's process, to read its memory from (Linux)
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
    /// Channels are called NAME:0, NAME:1, … and have a hundred subscribers each
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = name)]
    pub(super) channel: String,
}

#[derive(Debug, Args)]
pub(super) struct Join {
    #[command(flatten)]
    pub(super) common: Common,
    /// All connections join within this time, evenly
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) over: Duration,
    /// The server's process, to read its processor time from (Linux)
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
    /// The channel is called NAME:… and shows presence
    #[arg(long, value_name = "NAME", default_value = "presence", value_parser = name)]
    pub(super) channel: String,
}

#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    pub(super) common: Common,
    /// The server's `--drain`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::serve::drain_window)]
    pub(super) window: Duration,
    /// End this server, at --url, instead of starting one; its exit code cannot be known
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Storm {
    #[command(flatten)]
    pub(super) common: Common,
    /// The process of the server at --url, to read its processor time from (Linux); without it the tool
    /// starts a server
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
    /// Channels are called NAME-…:0, NAME-…:1, … and have a hundred subscribers each
    #[arg(long, value_name = "NAME", default_value = "storm", value_parser = name)]
    pub(super) channel: String,
}

#[derive(Debug, Args)]
pub(super) struct Churn {
    #[command(flatten)]
    pub(super) common: Common,
    /// Channels are called NAME:0, NAME:1, …, one for each connection
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = name)]
    pub(super) channel: String,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds from 0 to 86400, such as 5 or 0.5".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1e7).contains(&rate) => Ok(rate),
        _ => Err("messages per second, from 0.1 to 10000000".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(size) if (super::mark::LEN..=MAX_SIZE).contains(&size) => Ok(size),
        _ => Err(format!("bytes from {} (number and time of sending) to {MAX_SIZE}", super::mark::LEN)),
    }
}

/// Parses a name that needs no escaping in JSON.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if (1..=200).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("1 to 200 visible ASCII characters without quotes and backslashes".to_owned())
    }
}

const MEASURED: Duration = Duration::from_secs(5);
const MESSAGES_LIMIT: Duration = Duration::from_secs(60);
/// Maximum time for connecting, draining and closing.
const OVERHEAD: Duration = Duration::from_secs(120);
const MAX_SIZE: usize = 16 << 20;
