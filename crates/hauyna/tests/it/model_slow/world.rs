//! The hub of a sequence: its channels with their policies, its handlers, and the two kinds of sockets. On a
//! wide socket the kernel accepts every burst; on a narrow one it accepts little, so that a client that does
//! not read soon is a slow consumer.

use crate::support::{now, user_handler};
use crate::turning::{Engine, Latency};
use hauyna::connection::RetryPolicy;
use hauyna::handler::RateLimit;
use hauyna::{ChannelOptions, Handler, Hub, Rate, Router, SessionOptions, SlowConsumer};
use hauyna_test::{Client, Connect, MemoryServer, TestServer};
use socket2::SockRef;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Channels with a history come first.
pub(super) const CHANNELS: [(&str, SlowConsumer); 9] = [
    ("disconnect", SlowConsumer::Disconnect),
    ("oldest", SlowConsumer::DropOldest),
    ("newest", SlowConsumer::DropNewest),
    ("latest", SlowConsumer::Conflate),
    (CALM, SlowConsumer::DropOldest),
    ("brief-disconnect", SlowConsumer::Disconnect),
    ("brief-oldest", SlowConsumer::DropOldest),
    ("brief-newest", SlowConsumer::DropNewest),
    ("brief-latest", SlowConsumer::Conflate),
];
pub(super) const NUMBERED: usize = 5;
/// A channel in which clients may publish little.
pub(super) const CALM: &str = "calm";
pub(super) const CALM_RATE: u64 = 5;
pub(super) const GROUP: &str = "team";

/// The device whose requests are limited.
pub(super) const RATED: u64 = 0;
pub(super) const REQUESTS: u64 = 60;
pub(super) const SUBSCRIPTIONS: u64 = 12;
pub(super) const RECOVERY_LIMIT: u64 = 300;

/// Maximum bytes of an outbox.
pub(super) const ROOM_BYTES: usize = 32 * 1024;
pub(super) const ROOM_FRAMES: usize = 40;

pub(super) fn is_numbered(channel: &str) -> bool {
    CHANNELS[..NUMBERED].iter().any(|(name, _)| *name == channel)
}

pub(super) fn disconnects(channel: &str) -> bool {
    CHANNELS.contains(&(channel, SlowConsumer::Disconnect))
}

pub(super) fn conflates(channel: &str) -> bool {
    CHANNELS.contains(&(channel, SlowConsumer::Conflate))
}

pub(super) fn is_member(device: u64) -> bool {
    device.is_multiple_of(2)
}

pub(super) fn user(device: u64) -> String {
    format!("user-{device}")
}

/// Returns the policy that a session message has.
pub(super) fn policy_of(device: u64) -> RetryPolicy {
    if device == RATED { RetryPolicy::aggressive() } else { RetryPolicy::conservative() }
}

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Wide,
    Narrow,
}

impl Line {
    pub(super) fn of(device: u64) -> Self {
        if device < 2 { Self::Wide } else { Self::Narrow }
    }
}

pub(super) struct World {
    hub: Hub,
    engine: Engine,
    transport: Transport,
}

enum Transport {
    Sockets { wide: TestServer, narrow: SocketAddr, serving: JoinHandle<()> },
    Memory(MemoryServer),
}

impl Drop for Transport {
    fn drop(&mut self) {
        if let Self::Sockets { serving, .. } = self {
            serving.abort();
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let latency = if seed % 4 < 2 { Latency::AtOnce } else { Latency::Later };
        let engine = Engine::new(latency);
        let mut hub = Hub::builder()
            .sessions(SessionOptions::none())
            .broker(engine.clone())
            .shards(1 << (seed % 2))
            .outbox(ROOM_BYTES, ROOM_FRAMES)
            .recovery_limit(RECOVERY_LIMIT as u32)
            .retry_policy(policy_of(RATED + 1));
        for (number, (name, policy)) in CHANNELS.into_iter().enumerate() {
            let channels = ChannelOptions::new().slow_consumer(policy);
            let channels = match number < NUMBERED {
                true => channels.history(100_000, Duration::from_secs(600)),
                false => channels.no_history(),
            };
            hub = hub
                .channels(name, if name == CALM { channels.rate_limit(only(CALM_RATE)) } else { channels });
        }
        let hub = hub.build();
        for device in (0..super::DEVICES).filter(|device| is_member(*device)) {
            now(hub.groups().add(&user(device), GROUP)).unwrap();
        }
        let transport = if seed % 3 == 2 { Transport::memory(&hub) } else { Transport::sockets(&hub) };
        Self { hub, engine, transport }
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether only the task of a connection may write to its stream.
    pub(super) fn is_memory(&self) -> bool {
        matches!(self.transport, Transport::Memory(_))
    }

    pub(super) fn client(&self, device: u64) -> Connect {
        let route = if device == RATED { "rated" } else { "" };
        let target = format!("/{route}?user={}", user(device));
        let connect = match (&self.transport, Line::of(device)) {
            (Transport::Memory(server), Line::Wide) => server.client(&target).receive_buffer(1 << 20),
            (Transport::Memory(server), Line::Narrow) => server.client(&target).receive_buffer(NARROW),
            (Transport::Sockets { wide, .. }, Line::Wide) => wide.client(&target),
            (Transport::Sockets { narrow, .. }, Line::Narrow) => {
                Client::to(&format!("ws://{narrow}{target}")).receive_buffer(NARROW)
            }
        };
        connect.timeout(Duration::from_secs(20))
    }
}

impl Transport {
    fn memory(hub: &Hub) -> Self {
        Self::Memory(MemoryServer::route(hub.clone(), routes))
    }

    fn sockets(hub: &Hub) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Accepted sockets inherit this.
        SockRef::from(&listener).set_send_buffer_size(NARROW).unwrap();
        let narrow = listener.local_addr().unwrap();
        let server = routes(Router::new(hub.clone())).into_server();
        let serving = tokio::spawn(async move { server.serve_listener(listener).await.unwrap() });
        Self::Sockets { wide: TestServer::route(hub.clone(), routes), narrow, serving }
    }
}

fn routes(router: Router) -> Router {
    let limit = |limit| handler().rate_limit(limit);
    let rated = limit(RateLimit::new().messages(only(REQUESTS))).retry_policy(policy_of(RATED));
    let others = limit(RateLimit::new().subscriptions(only(SUBSCRIPTIONS)));
    router.websocket("/rated", rated).websocket("/", others)
}

fn handler() -> Handler {
    user_handler().no_heartbeat().no_error_budget().write_timeout(Duration::from_secs(600))
}

/// Returns a rate that allows `count` and then nothing more during a test.
fn only(count: u64) -> Rate {
    Rate::new(1, Duration::from_secs(3600)).burst(u32::try_from(count).unwrap())
}

/// Approximate bytes of a buffer on a narrow socket.
const NARROW: usize = 4096;
