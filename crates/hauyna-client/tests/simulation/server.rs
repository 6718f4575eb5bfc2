//! The server's host: the real router behind hyper on a simulated listener, over a broker that notes what it
//! has published. Each life of it begins with nothing.

use crate::plan::{History, Plan};
use hauyna::broker::{Answer, Broker, BrokerError, HistoryPage, LocalBroker, Publish, Published, Relay};
use hauyna::connection::RetryPolicy;
use hauyna::{
    ChannelName, ChannelOptions, Handler, Heartbeat, HistoryRange, Hub, Position, Presence, Reject, Router,
    SessionOptions,
};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// One publication, as the broker numbered it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: Option<Position>,
    pub(crate) content: String,
}

/// What all lives of the server share with the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chronicle(Arc<Mutex<Lives>>);

#[derive(Debug, Default)]
struct Lives {
    hub: Option<Hub>,
    broker: Option<Noting>,
    published: Vec<Entry>,
}

impl Chronicle {
    fn begin(&self, hub: &Hub, broker: Noting) {
        let mut lives = self.0.lock().unwrap();
        (lives.hub, lives.broker) = (Some(hub.clone()), Some(broker));
    }

    /// The streams begin again under another epoch, while the server lives and its clients are connected.
    pub(crate) fn turn(&self) {
        if let Some(Noting(broker)) = &self.0.lock().unwrap().broker {
            broker.is_turning.store(true, Ordering::Relaxed);
        }
    }

    /// The server is gone, and with it all that is known of its hub.
    pub(crate) fn end_life(&self) {
        let mut lives = self.0.lock().unwrap();
        (lives.hub, lives.broker) = (None, None);
    }

    pub(crate) fn hub(&self) -> Option<Hub> {
        self.0.lock().unwrap().hub.clone()
    }

    pub(crate) fn last(&self) -> Option<String> {
        self.0.lock().unwrap().published.last().map(|entry| entry.content.clone())
    }

    pub(crate) fn published(&self) -> Vec<Entry> {
        self.0.lock().unwrap().published.clone()
    }

    fn note(&self, publication: &hauyna::channel::Publication) {
        let Ok(content) = serde_json::from_slice(publication.content().bytes()) else { return };
        if publication.channel().as_str() == ROOM
            && publication.kind() == hauyna::channel::PublicationKind::Message
        {
            let mut lives = self.0.lock().unwrap();
            lives.published.push(Entry { position: publication.position(), content });
        }
    }
}

/// The broker of one life of the server. Its streams may begin again under another epoch while the server
/// lives; keys are remembered longer, to refuse what might be published twice.
#[derive(Debug, Clone)]
struct Noting(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: Mutex<Arc<LocalBroker>>,
    is_turning: AtomicBool,
    relay: OnceLock<Relay>,
    keys: Mutex<HashMap<Box<str>, usize>>,
    chronicle: Chronicle,
}

impl Noting {
    fn new(chronicle: Chronicle) -> Self {
        Self(Arc::new(Inner {
            local: Mutex::new(Arc::new(LocalBroker::default())),
            is_turning: AtomicBool::new(false),
            relay: OnceLock::new(),
            keys: Mutex::default(),
            chronicle,
        }))
    }

    /// The streams of the moment; in the server's own time, so that ages are of its clock.
    fn local(&self) -> Arc<LocalBroker> {
        let mut local = self.0.local.lock().unwrap();
        if self.0.is_turning.swap(false, Ordering::Relaxed) {
            *local = Arc::new(LocalBroker::default());
            self.begin(&local);
        }
        local.clone()
    }

    fn begin(&self, local: &LocalBroker) {
        let (chronicle, relay) = (self.0.chronicle.clone(), self.0.relay.get().cloned());
        local.start(Relay::to(move |publication| {
            chronicle.note(publication);
            if let Some(relay) = &relay {
                relay.relay(publication);
            }
        }));
    }

    /// Whether a key was first used in streams that are gone.
    fn is_forgotten(&self, key: &str, local: &Arc<LocalBroker>) -> bool {
        let life = Arc::as_ptr(local) as usize;
        *self.0.keys.lock().unwrap().entry(key.into()).or_insert(life) != life
    }
}

impl Broker for Noting {
    fn start(&self, relay: Relay) {
        let _ = self.0.relay.set(relay);
        self.begin(&self.local());
    }

    fn publish(&self, publish: Publish) -> Answer<Result<Published, BrokerError>> {
        let local = self.local();
        if publish.key.as_ref().is_some_and(|key| self.is_forgotten(key, &local)) {
            return Answer::now(Err(BrokerError::unknown("it may have been published before")));
        }
        local.publish(publish)
    }

    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), BrokerError>> {
        self.local().subscribe(channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.local().unsubscribe(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Answer<Result<HistoryPage, BrokerError>> {
        self.local().history(channel, range)
    }

    fn sweep(&self) {
        self.local().sweep();
    }
}

/// Runs until the host is crashed.
pub(crate) async fn serve(plan: Plan, chronicle: Chronicle) -> turmoil::Result {
    let room = match plan.history {
        History::Long => ChannelOptions::new().history(10_000, Duration::from_secs(600)),
        History::Short => ChannelOptions::new().history(4, Duration::from_secs(600)),
        History::None => ChannelOptions::new().no_history(),
    };
    let broker = Noting::new(chronicle.clone());
    // Longer than any fault, and shorter than what the end of a schedule waits for.
    let sessions = SessionOptions::new().window(Duration::from_secs(6));
    let hub = Hub::builder()
        .channels(ROOM, room.presence(Presence::each()))
        .broker(broker.clone())
        .sessions(sessions)
        .presence_grace(Duration::ZERO)
        .shards(1)
        .build();
    chronicle.begin(&hub, broker);
    let retry =
        RetryPolicy::default().base_delay(Duration::from_millis(10)).max_delay(Duration::from_millis(100));
    let handler = Handler::new()
        .identify(|request| request.query("user").ok_or(Reject::unauthorized("who?")))
        .heartbeat(Heartbeat::every(Duration::from_millis(150)).timeout(Duration::from_millis(150)))
        .retry_policy(retry);
    let service = Router::new(hub).websocket("/", handler).into_service();
    let listener = turmoil::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            // A client that goes within its handshake is no fault of the server's.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await);
        });
    }
}

pub(crate) const ROOM: &str = "room";
pub(crate) const PORT: u16 = 80;
