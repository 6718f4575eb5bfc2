//! A TCP proxy that injects network faults: it cuts, stalls, slices and delays connections, refuses new ones
//! and changes its target. Tests put it between client and server. It does not parse what it forwards.

mod behaviour;
mod pump;
mod schedule;

pub use behaviour::{Behaviour, Cut, Direction};
pub use schedule::{Fault, Schedule};

use crate::located::Located;
use crate::random::Random;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A proxy on a free loopback port. Dropping it drops its connections.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna::{Handler, Hub};
/// use hauyna_test::{Behaviour, Client, Cut, FaultProxy, TestServer};
///
/// let server = TestServer::start(Hub::new(), Handler::echo());
/// let proxy = FaultProxy::start(server.address()).await;
/// proxy.set_all(Behaviour::new().slice(1)); // one byte per segment
/// let mut client = Client::connect(&proxy.url("/")).await;
/// client.send_text("hello").await;
/// assert_eq!(client.next_text().await, "hello");
///
/// proxy.cut_all(Cut::Reset);
/// assert_eq!(client.expect_close().await.0, 1006);
/// # }
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
    schedule: Mutex<Option<JoinHandle<()>>>,
}

/// One connection through a [`FaultProxy`], from [`FaultProxy::links`]. Calls on an ended connection do
/// nothing.
#[derive(Debug, Clone)]
pub struct Link {
    client: SocketAddr,
    orders: Arc<watch::Sender<Orders>>,
}

/// Counters of a [`FaultProxy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Number of connections that were forwarded.
    pub links: u64,
    /// Number of connections that were reset on arrival, because the proxy refused or its target was
    /// unreachable.
    pub refused: u64,
    /// Number of connections that were cut, by a call or by the schedule.
    pub cuts: u64,
    /// How often the schedule changed the behaviour of a connection for a while.
    pub disturbed: u64,
}

/// Orders for the task of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Orders {
    behaviour: Behaviour,
    cut: Option<Cut>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    accept_policy: AcceptPolicy,
    behaviour: Behaviour,
    links: BTreeMap<u64, Link>,
    faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcceptPolicy {
    Open,
    Refusing,
}

impl FaultProxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    #[track_caller]
    pub fn start(target: SocketAddr) -> impl Future<Output = Self> + Send {
        let bound = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            Ok((listener.local_addr()?, listener))
        };
        Located::new(async move {
            let bound: std::io::Result<_> = bound.await;
            let (address, listener) = bound.map_err(|error| format!("no free port: {error}"))?;
            Ok(Self::forward(listener, address, target))
        })
    }

    fn forward(listener: TcpListener, address: SocketAddr, target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                accept_policy: AcceptPolicy::Open,
                behaviour: Behaviour::new(),
                links: BTreeMap::new(),
                faults: Faults::default(),
            }),
        });
        let listener = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, listener, schedule: Mutex::new(None) }
    }

    /// Returns the address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a path with its query, through the proxy.
    #[must_use]
    pub fn url(&self, target: &str) -> String {
        format!("ws://{}{target}", self.address)
    }

    /// Forwards new connections to another address. Existing connections stay.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.state.lock().target = target;
    }

    /// Resets new connections from now on.
    pub fn refuse(&self) {
        self.shared.state.lock().accept_policy = AcceptPolicy::Refusing;
    }

    /// Forwards new connections from now on, which is the default.
    pub fn admit(&self) {
        self.shared.state.lock().accept_policy = AcceptPolicy::Open;
    }

    /// Sets the behaviour of new connections.
    pub fn set_next(&self, behaviour: Behaviour) {
        self.shared.state.lock().behaviour = behaviour;
    }

    /// Sets the behaviour of all connections, existing and new ones.
    pub fn set_all(&self, behaviour: Behaviour) {
        self.set_next(behaviour);
        for link in self.links() {
            link.set(behaviour);
        }
    }

    /// Cuts all existing connections.
    pub fn cut_all(&self, cut: Cut) {
        for link in self.links() {
            link.cut(cut);
        }
    }

    /// Returns the existing connections, oldest first.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.shared.state.lock().links.values().cloned().collect()
    }

    /// Returns the connection whose client has this address.
    #[must_use]
    pub fn link_of(&self, client: SocketAddr) -> Option<Link> {
        self.shared.state.lock().links.values().find(|link| link.client == client).cloned()
    }

    /// Runs a schedule, which replaces an earlier one, until [`FaultProxy::undisturbed`].
    pub fn follow(&self, schedule: Schedule) {
        let task = tokio::spawn(schedule.run(Arc::clone(&self.shared)));
        if let Some(previous) = self.schedule.lock().replace(task) {
            previous.abort();
        }
    }

    /// Ends the schedule and resets the behaviour of all connections to the default.
    pub fn undisturbed(&self) {
        if let Some(schedule) = self.schedule.lock().take() {
            schedule.abort();
        }
        self.set_all(Behaviour::new());
    }

    /// Returns the counters.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.state.lock().faults
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listener.abort();
        if let Some(schedule) = self.schedule.get_mut().take() {
            schedule.abort();
        }
    }
}

impl Link {
    /// Returns the client's address.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Sets the behaviour of this connection. Bytes that are already delayed keep their delay.
    pub fn set(&self, behaviour: Behaviour) {
        self.orders.send_modify(|orders| orders.behaviour = behaviour);
    }

    /// Cuts this connection on both sides. Bytes in transit are lost.
    pub fn cut(&self, cut: Cut) {
        self.orders.send_modify(|orders| orders.cut = Some(cut));
    }
}

/// Accepts connections. Dropping it ends the tasks of the links.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    for id in 0.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = links.join_next() => continue,
        };
        let Ok((near, client)) = accepted else {
            // Most likely there are too many descriptors; some close soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        links.spawn(forward(Arc::clone(&shared), near, id, client));
    }
}

async fn forward(shared: Arc<Shared>, near: TcpStream, id: u64, client: SocketAddr) {
    let (target, policy) = {
        let state = shared.state.lock();
        (state.target, state.accept_policy)
    };
    let far = match policy {
        AcceptPolicy::Open => TcpStream::connect(target).await.ok(),
        AcceptPolicy::Refusing => None,
    };
    let Some(far) = far else {
        shared.state.lock().faults.refused += 1;
        return pump::reset(near);
    };
    let orders = {
        let mut state = shared.state.lock();
        let (sender, orders) = watch::channel(Orders { behaviour: state.behaviour, cut: None });
        state.links.insert(id, Link { client, orders: Arc::new(sender) });
        state.faults.links += 1;
        orders
    };
    let registered = Registered { shared, id };
    let end = pump::carry([&near, &far], orders, Random(id)).await;
    if matches!(end, pump::End::Cut(_)) {
        registered.shared.state.lock().faults.cuts += 1;
    }
    drop(registered);
    pump::close(near, far, end).await;
}

/// A link's entry in the list. Dropping it removes the entry.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.state.lock().links.remove(&self.id);
    }
}
