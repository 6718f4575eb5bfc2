//! A TCP proxy that does to connections what networks do: it cuts, stalls, slices and delays them, refuses new ones
//! and changes its target. Tests of anything that speaks over TCP put it between client and server. It knows
//! nothing of what it forwards.

mod behaviour;
mod pump;
mod schedule;

pub use behaviour::{Behaviour, Cut, Direction};
pub use schedule::{Fault, Schedule};

use crate::random::Random;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A proxy on a free loopback port. Dropping it ends its connections without a word.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use hauyna::{Handler, Hub};
/// use hauyna_test::{Client, Conduct, Cut, FaultProxy, TestServer};
///
/// let server = TestServer::start(Hub::new(), Handler::echo());
/// let proxy = FaultProxy::start(server.address()).await;
/// proxy.set_all(Conduct::new().slice(1)); // every byte in a segment of its own
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

/// One connection through a [`FaultProxy`], from [`FaultProxy::links`]. What is ordered of one that has ended
/// is done to nobody.
#[derive(Debug, Clone)]
pub struct Link {
    client: SocketAddr,
    orders: Arc<watch::Sender<Orders>>,
}

/// What a [`FaultProxy`] has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Connections that were forwarded.
    pub links: u64,
    /// Connections that were reset as soon as they came: it refused, or its target could not be reached.
    pub refused: u64,
    /// Connections that were cut, by order or by schedule.
    pub cuts: u64,
    /// How often the schedule changed the conduct of a connection for a while.
    pub disturbed: u64,
}

/// What a link's task is told.
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
    conduct: Behaviour,
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
    /// Where no port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                accept_policy: AcceptPolicy::Open,
                conduct: Behaviour::new(),
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

    /// Forwards to another address from now on; connections that are there stay where they are.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.state.lock().target = target;
    }

    /// Resets whoever connects from now on.
    pub fn refuse(&self) {
        self.shared.state.lock().accept_policy = AcceptPolicy::Refusing;
    }

    /// Forwards whoever connects from now on, which is how it begins.
    pub fn admit(&self) {
        self.shared.state.lock().accept_policy = AcceptPolicy::Open;
    }

    /// Treats connections that come from now on like this.
    pub fn set_next(&self, conduct: Behaviour) {
        self.shared.state.lock().conduct = conduct;
    }

    /// Treats every connection like this, those that are there and those that come.
    pub fn set_all(&self, conduct: Behaviour) {
        self.set_next(conduct);
        for link in self.links() {
            link.set(conduct);
        }
    }

    /// Cuts every connection that is there.
    pub fn cut_all(&self, cut: Cut) {
        for link in self.links() {
            link.cut(cut);
        }
    }

    /// Returns the connections that are there, oldest first.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.shared.state.lock().links.values().cloned().collect()
    }

    /// Returns the connection whose client has this address.
    #[must_use]
    pub fn link_of(&self, client: SocketAddr) -> Option<Link> {
        self.shared.state.lock().links.values().find(|link| link.client == client).cloned()
    }

    /// Does what a schedule says, instead of an earlier one, until [`FaultProxy::undisturbed`].
    pub fn follow(&self, schedule: Schedule) {
        let task = tokio::spawn(schedule.run(Arc::clone(&self.shared)));
        if let Some(former) = self.schedule.lock().replace(task) {
            former.abort();
        }
    }

    /// Ends the schedule, and lets every connection go on undisturbed.
    pub fn undisturbed(&self) {
        if let Some(schedule) = self.schedule.lock().take() {
            schedule.abort();
        }
        self.set_all(Behaviour::new());
    }

    /// Returns what it has done so far.
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
    /// Returns the client's own address.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Treats this connection like this from now on; bytes that are on their way keep their delay.
    pub fn set(&self, conduct: Behaviour) {
        self.orders.send_modify(|orders| orders.behaviour = conduct);
    }

    /// Cuts this connection, on both sides; what is on its way is lost.
    pub fn cut(&self, cut: Cut) {
        self.orders.send_modify(|orders| orders.cut = Some(cut));
    }
}

/// Takes connections in. The tasks of the links end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    for id in 0.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = links.join_next() => continue,
        };
        let Ok((near, client)) = accepted else {
            // Too many descriptors, most likely: some of them are closed in a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        links.spawn(forward(Arc::clone(&shared), near, (id, client)));
    }
}

async fn forward(shared: Arc<Shared>, near: TcpStream, (id, client): (u64, SocketAddr)) {
    let (target, entrance) = {
        let state = shared.state.lock();
        (state.target, state.accept_policy)
    };
    let far = match entrance {
        AcceptPolicy::Open => TcpStream::connect(target).await.ok(),
        AcceptPolicy::Refusing => None,
    };
    let Some(far) = far else {
        shared.state.lock().faults.refused += 1;
        return pump::reset(near);
    };
    let orders = {
        let mut state = shared.state.lock();
        let (sender, orders) = watch::channel(Orders { behaviour: state.conduct, cut: None });
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

/// A link's place in the list, until its end.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.state.lock().links.remove(&self.id);
    }
}
