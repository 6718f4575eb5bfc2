//! The host of a client: it subscribes, publishes at random moments, and records everything that the client
//! reports.

use crate::network::Network;
use crate::plan::{Plan, Random};
use crate::server::ROOM;
use hauyna_client::protocol::PresenceKind;
use hauyna_client::{Channel, Client, State, StreamError};
use hauyna_protocol::{Position, RetryTerms};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client has reported, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Report {
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
    pub(crate) reports: Vec<Report>,
    pub(crate) acknowledged: Vec<(String, Option<Position>)>,
    pub(crate) failed: Vec<(String, String)>,
    /// Content of the last publication, once it was acknowledged.
    pub(crate) final_publication: Option<String>,
    /// Number of connections that resumed the session.
    pub(crate) resumed: u64,
    pub(crate) is_closed: bool,
}

/// The state that the test and the host of one client share.
#[derive(Clone)]
pub(crate) struct ClientShared {
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

impl ClientShared {
    fn add_report(&self, report: Report) {
        self.record.lock().unwrap().reports.push(report);
    }
}

pub(crate) async fn run(plan: Plan, shared: ClientShared) -> turmoil::Result {
    let client_seed = plan.seed.wrapping_mul(31).wrapping_add(shared.number as u64);
    let mut random = Random(client_seed);
    let network = Network::new(!client_seed, plan.cut_after, shared.is_calm.clone());
    // In an outage, the delays are the default ones.
    let (base_delay, max_delay) = if plan.outage.is_some() { (1_000, 30_000) } else { (10, 100) };
    let terms =
        RetryTerms { max_attempts: None, base_delay, max_delay, backoff_multiplier: 2.0, jitter: 1.0 };
    let client = Client::builder(&format!("ws://server:80/?user=u{}", shared.number))
        .seed(client_seed)
        .retry(terms)
        .connect_timeout(Duration::from_millis(250))
        .connector(move |endpoint| network.clone().connect(endpoint))
        .connect()?;
    let channel: Channel<String> = client.channel(ROOM);
    listen(&channel, &shared);
    count_resumes(&client, &shared);
    loop {
        if let Ok(subscription) = channel.subscribe().await {
            shared.add_report(Report::Subscribed(subscription.position().copied()));
            subscription.keep();
            break;
        }
    }
    for number in 0..plan.messages {
        pass_time(random.between(0, plan.pause)).await;
        publish(&channel, &shared, format!("u{} {number}", shared.number));
    }
    wait_until(|| shared.is_calm.load(Ordering::Relaxed)).await;
    wait_until(|| shared.record.lock().unwrap().answered() >= plan.messages).await;
    // By then every client is back, so what is published now must arrive.
    pass_time(SETTLE_TIME + Duration::from_millis(terms.max_delay)).await;
    for try_number in 0.. {
        let final_publication = format!("u{} mark {try_number}", shared.number);
        if acknowledged(&channel, &shared, final_publication.clone()).await {
            shared.record.lock().unwrap().final_publication = Some(final_publication);
            break;
        }
    }
    wait_until(|| shared.is_over.load(Ordering::Relaxed)).await;
    client.close().await;
    shared.record.lock().unwrap().is_closed = true;
    Ok(())
}

fn listen(channel: &Channel<String>, shared: &ClientShared) {
    let (mut messages, shared_clone) = (channel.messages(), shared.clone());
    tokio::spawn(async move {
        while let Some(item) = messages.next().await {
            shared_clone.add_report(match item {
                Ok(message) => Report::Message { content: message.content, offset: message.offset },
                Err(StreamError::Gap(gap)) => Report::Gap(format!("{gap:?}")),
                Err(other) => Report::Gap(other.to_string()),
            });
        }
    });
    let (mut updates, shared_clone) = (channel.presence_updates(), shared.clone());
    tokio::spawn(async move {
        while let Some(item) = updates.next().await {
            if let Ok(update) = item
                && update.kind == PresenceKind::Leave
                && !shared_clone.is_over.load(Ordering::Relaxed)
            {
                shared_clone.add_report(Report::Left(update.user));
            }
        }
    });
}

fn count_resumes(client: &Client, shared: &ClientShared) {
    let (client, mut states, shared_clone) = (client.clone(), client.states(), shared.clone());
    tokio::spawn(async move {
        while let Some(item) = states.next().await {
            let is_connected = matches!(item, Ok(State::Connected));
            if is_connected && client.session().is_some_and(|session| session.resumed) {
                shared_clone.record.lock().unwrap().resumed += 1;
            }
        }
    });
}

/// Publishes without waiting, as applications do.
fn publish(channel: &Channel<String>, shared: &ClientShared, content: String) {
    let (channel, shared) = (channel.clone(), shared.clone());
    let call = channel.publish(&content);
    tokio::spawn(async move { record_answer(&shared, content, call.await) });
}

async fn acknowledged(channel: &Channel<String>, shared: &ClientShared, content: String) -> bool {
    let answer = channel.publish(&content).await;
    let is_acknowledged = answer.is_ok();
    record_answer(shared, content, answer);
    is_acknowledged
}

fn record_answer(
    shared: &ClientShared,
    content: String,
    answer: Result<Option<Position>, hauyna_client::Error>,
) {
    let mut record = shared.record.lock().unwrap();
    match answer {
        Ok(position) => record.acknowledged.push((content, position)),
        Err(error) => record.failed.push((content, error.to_string())),
    }
}

async fn pass_time(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while !is_so() {
        looks.tick().await;
    }
}

/// Longer than a client needs to notice a dead connection and to reconnect, or to obey an order to move,
/// which may wait for a second after the move before it.
const SETTLE_TIME: Duration = Duration::from_millis(1600);
