//! The host of a client: it subscribes, publishes at random moments, and records everything that the client
//! reports.

use crate::plan::{Plan, Random};
use crate::server::ROOM;
use crate::wire::Wire;
use hauyna_client::protocol::PresenceKind;
use hauyna_client::{Channel, Client, State, StreamError};
use hauyna_protocol::{Position, RetryTerms};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client has reported, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// The position at which its subscription started.
    Subscribed(Option<Position>),
    Message {
        content: String,
        offset: Option<u64>,
    },
    /// Messages may be missing here.
    Gap(String),
    Left(String),
}

/// The outcomes of a client's publications.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) told: Vec<Told>,
    pub(crate) acknowledged: Vec<(String, Option<Position>)>,
    pub(crate) failed: Vec<(String, String)>,
    /// Content of the last publication, once it was acknowledged.
    pub(crate) mark: Option<String>,
    /// Number of connections that resumed the session.
    pub(crate) resumed: u64,
    pub(crate) is_closed: bool,
}

/// The state that the test and the host of one client share.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) number: usize,
    pub(crate) record: Arc<Mutex<Record>>,
    pub(crate) is_calm: Arc<AtomicBool>,
    pub(crate) is_over: Arc<AtomicBool>,
}

impl Record {
    fn answered(&self) -> u64 {
        (self.acknowledged.len() + self.failed.len()) as u64
    }
}

impl Desk {
    fn note(&self, told: Told) {
        self.record.lock().unwrap().told.push(told);
    }
}

pub(crate) async fn run(plan: Plan, desk: Desk) -> turmoil::Result {
    let own = plan.seed.wrapping_mul(31).wrapping_add(desk.number as u64);
    let mut random = Random(own);
    let wire = Wire::new(!own, plan.cut_after, desk.is_calm.clone());
    // In an outage, the delays are the default ones.
    let (base_delay, max_delay) = if plan.outage.is_some() { (1_000, 30_000) } else { (10, 100) };
    let terms =
        RetryTerms { max_attempts: None, base_delay, max_delay, backoff_multiplier: 2.0, jitter: 1.0 };
    let client = Client::builder(&format!("ws://server:80/?user=u{}", desk.number))
        .seed(own)
        .retry(terms)
        .connect_timeout(Duration::from_millis(250))
        .connector(move |endpoint| wire.clone().connect(endpoint))
        .connect()?;
    let channel: Channel<String> = client.channel(ROOM);
    listen(&channel, &desk);
    count_resumes(&client, &desk);
    loop {
        if let Ok(subscription) = channel.subscribe().await {
            desk.note(Told::Subscribed(subscription.position().copied()));
            subscription.keep();
            break;
        }
    }
    for number in 0..plan.messages {
        passed(random.between(0, plan.pause)).await;
        publish(&channel, &desk, format!("u{} {number}", desk.number));
    }
    until(|| desk.is_calm.load(Ordering::Relaxed)).await;
    until(|| desk.record.lock().unwrap().answered() >= plan.messages).await;
    // By then every client is back, so what is published now must arrive.
    passed(QUIET + Duration::from_millis(terms.max_delay)).await;
    for try_number in 0.. {
        let mark = format!("u{} mark {try_number}", desk.number);
        if acknowledged(&channel, &desk, mark.clone()).await {
            desk.record.lock().unwrap().mark = Some(mark);
            break;
        }
    }
    until(|| desk.is_over.load(Ordering::Relaxed)).await;
    client.close().await;
    desk.record.lock().unwrap().is_closed = true;
    Ok(())
}

fn listen(channel: &Channel<String>, desk: &Desk) {
    let (mut messages, own) = (channel.messages(), desk.clone());
    tokio::spawn(async move {
        while let Some(item) = messages.next().await {
            own.note(match item {
                Ok(message) => Told::Message { content: message.content, offset: message.offset },
                Err(StreamError::Gap(gap)) => Told::Gap(format!("{gap:?}")),
                Err(other) => Told::Gap(other.to_string()),
            });
        }
    });
    let (mut updates, own) = (channel.presence_updates(), desk.clone());
    tokio::spawn(async move {
        while let Some(item) = updates.next().await {
            if let Ok(update) = item
                && update.kind == PresenceKind::Leave
                && !own.is_over.load(Ordering::Relaxed)
            {
                own.note(Told::Left(update.user));
            }
        }
    });
}

fn count_resumes(client: &Client, desk: &Desk) {
    let (client, mut states, own) = (client.clone(), client.states(), desk.clone());
    tokio::spawn(async move {
        while let Some(item) = states.next().await {
            let is_connected = matches!(item, Ok(State::Connected));
            if is_connected && client.session().is_some_and(|session| session.resumed) {
                own.record.lock().unwrap().resumed += 1;
            }
        }
    });
}

/// Publishes without waiting, as applications do.
fn publish(channel: &Channel<String>, desk: &Desk, content: String) {
    let (channel, desk) = (channel.clone(), desk.clone());
    let call = channel.publish(&content);
    tokio::spawn(async move { note(&desk, content, call.await) });
}

async fn acknowledged(channel: &Channel<String>, desk: &Desk, content: String) -> bool {
    let answer = channel.publish(&content).await;
    let is_acknowledged = answer.is_ok();
    note(desk, content, answer);
    is_acknowledged
}

fn note(desk: &Desk, content: String, answer: Result<Option<Position>, hauyna_client::Error>) {
    let mut record = desk.record.lock().unwrap();
    match answer {
        Ok(position) => record.acknowledged.push((content, position)),
        Err(error) => record.failed.push((content, error.to_string())),
    }
}

async fn passed(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

async fn until(is_so: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while !is_so() {
        looks.tick().await;
    }
}

/// Longer than a client needs to notice a dead connection and to reconnect, or to obey an order to move,
/// which may wait for a second after the move before it.
const QUIET: Duration = Duration::from_millis(1600);
