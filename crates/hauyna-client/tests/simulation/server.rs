//! The host of the server: the real router behind hyper on a simulated listener, with a broker that records
//! what it has published. Each life of the server starts empty.

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

/// One publication, as the broker has numbered it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: Option<Position>,
    pub(crate) content: String,
}

/// The state that all lives of the server share with the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerShared(Arc<Mutex<ServerState>>);

#[derive(Debug, Default)]
struct ServerState {
    hub: Option<Hub>,
    broker: Option<RecordingBroker>,
    published: Vec<Entry>,
}

impl ServerShared {
    fn begin(&self, hub: &Hub, broker: RecordingBroker) {
        let mut server = self.0.lock().unwrap();
        (server.hub, server.broker) = (Some(hub.clone()), Some(broker));
    }

    /// Restarts the streams under another epoch, while the server and its connections live.
    pub(crate) fn change_epoch(&self) {
        if let Some(RecordingBroker(broker)) = &self.0.lock().unwrap().broker {
            broker.is_epoch_changing.store(true, Ordering::Relaxed);
        }
    }

    /// Forgets the hub, because the server has ended.
    pub(crate) fn end_life(&self) {
        let mut server = self.0.lock().unwrap();
        (server.hub, server.broker) = (None, None);
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
            let mut server = self.0.lock().unwrap();
            server.published.push(Entry { position: publication.position(), content });
        }
    }
}

/// The broker of one life of the server. Its streams may restart under another epoch while the server lives.
/// It remembers keys for longer, to refuse what might be published twice.
#[derive(Debug, Clone)]
struct RecordingBroker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: Mutex<Arc<LocalBroker>>,
    is_epoch_changing: AtomicBool,
    relay: OnceLock<Relay>,
    keys: Mutex<HashMap<Box<str>, usize>>,
    shared: ServerShared,
}

impl RecordingBroker {
    fn new(shared: ServerShared) -> Self {
        Self(Arc::new(Inner {
            local: Mutex::new(Arc::new(LocalBroker::default())),
            is_epoch_changing: AtomicBool::new(false),
            relay: OnceLock::new(),
            keys: Mutex::default(),
            shared,
        }))
    }

    /// Returns the current streams. They are created in the server's runtime, so that ages are measured by
    /// its clock.
    fn local(&self) -> Arc<LocalBroker> {
        let mut local = self.0.local.lock().unwrap();
        if self.0.is_epoch_changing.swap(false, Ordering::Relaxed) {
            *local = Arc::new(LocalBroker::default());
            self.begin(&local);
        }
        local.clone()
    }

    fn begin(&self, local: &LocalBroker) {
        let (shared, relay) = (self.0.shared.clone(), self.0.relay.get().cloned());
        local.start(Relay::to(move |publication| {
            shared.note(publication);
            if let Some(relay) = &relay {
                relay.relay(publication);
            }
        }));
    }

    /// Whether a key was first used in streams that do not exist any more.
    fn is_forgotten(&self, key: &str, local: &Arc<LocalBroker>) -> bool {
        let life = Arc::as_ptr(local) as usize;
        *self.0.keys.lock().unwrap().entry(key.into()).or_insert(life) != life
    }
}

impl Broker for RecordingBroker {
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

/// Serves until the host crashes.
pub(crate) async fn serve(plan: Plan, shared: ServerShared) -> turmoil::Result {
    let room = match plan.history {
        History::Long => ChannelOptions::new().history(10_000, Duration::from_secs(600)),
        History::Short => ChannelOptions::new().history(4, Duration::from_secs(600)),
        History::None => ChannelOptions::new().no_history(),
    };
    let broker = RecordingBroker::new(shared.clone());
    // Longer than any fault, and shorter than the time that the end of a schedule waits.
    let sessions = SessionOptions::new().window(Duration::from_secs(6));
    let hub = Hub::builder()
        .channels(ROOM, room.presence(Presence::each()))
        .broker(broker.clone())
        .sessions(sessions)
        .presence_grace(Duration::ZERO)
        .shards(1)
        .build();
    shared.begin(&hub, broker);
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
            // A client that disconnects during the handshake is no fault of the server.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await);
        });
    }
}

pub(crate) const ROOM: &str = "room";
pub(crate) const PORT: u16 = 80;
