//! The server process: a hub whose channel names stand for their options, and an application that follows
//! orders. It ends with its standard input. `child` starts it.

use crate::broker::SlowBroker;
use crate::order::{Order, Verb, raw_content};
use crate::streams;
use anyhow::Result;
use clap::ValueEnum;
use hauyna::channel::ClientEvents;
use hauyna::connection::ConnectionState;
use hauyna::groups::Roles;
use hauyna::{
    ChannelOptions, Context, Handler, Hub, HubBuilder, Presence, Router, SlowConsumer, Value, json,
};
use serde_json::value::RawValue;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::runtime::Builder;

/// Options of the server of one scenario.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_enum)]
    pub(crate) runtime: Runtime,
    #[arg(long, value_enum)]
    pub(crate) policy: Policy,
}

/// The runtime of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// One runtime with several threads
    Multi,
    /// `Server::serve_per_core`
    PerCore,
    /// Like `multi`, over streams that only their own tasks can write to, like those of TLS
    Streams,
}

/// The slow-consumer policy of every channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    Disconnect,
    DropOldest,
    DropNewest,
    Conflate,
}

impl Policy {
    fn of_channels(self) -> SlowConsumer {
        match self {
            Self::Disconnect => SlowConsumer::Disconnect,
            Self::DropOldest => SlowConsumer::DropOldest,
            Self::DropNewest => SlowConsumer::DropNewest,
            Self::Conflate => SlowConsumer::Conflate,
        }
    }
}

/// Serves on a free port, which it prints, and follows orders until its standard input ends.
///
/// # Errors
///
/// Returns an error if no port is free, or no runtime can be built.
pub(crate) fn serve(options: &Options) -> Result<()> {
    let hub = hub(options.policy).build();
    let server = Router::new(hub.clone()).websocket("/", handler()).into_server();
    match options.runtime {
        Runtime::Multi => Builder::new_multi_thread().enable_all().build()?.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            println!("listening {}", listener.local_addr()?);
            tokio::spawn(server.serve_listener(listener));
            follow_orders(hub).await
        }),
        Runtime::Streams => Builder::new_multi_thread().enable_all().build()?.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            println!("listening {}", listener.local_addr()?);
            tokio::spawn(streams::accept(hub.clone(), handler().share(), listener));
            follow_orders(hub).await
        }),
        Runtime::PerCore => {
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            // The thread ends with the process, which ends with its input.
            std::thread::spawn(move || {
                server.serve_per_core(address, workers, |address| println!("listening {address}"))
            });
            Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(follow_orders(hub))
        }
    }
}

fn hub(policy: Policy) -> HubBuilder {
    let channels = || ChannelOptions::new().slow_consumer(policy.of_channels());
    let long = || channels().history(HISTORY, Duration::from_secs(600));
    Hub::builder()
        .channels("live:{n}", channels().history(64, Duration::from_secs(60)))
        .channels("plain:{n}", channels().no_history())
        .channels("long:{n}", long())
        .channels("slow:{n}", long())
        .channels("hang:{n}", channels())
        .channels("room:{n}", channels().presence(Presence::each()))
        .channels("own:{n}", channels())
        .channels("event:{n}", channels().client_events(ClientEvents::new().event("cursor", 1000)))
        .channels("{user}", channels().no_history())
        .roles("{*any}", Roles::new().define("speaker", ["send"]))
        .allow_transition(ConnectionState::Connected, BUSY)
        .allow_transition(BUSY, ConnectionState::Connected)
        .broker(SlowBroker::new())
}

fn handler() -> Handler {
    Handler::new()
        .identify(|request| Ok(request.query("user")))
        .authorize_broadcast(|_, _| true)
        .on("mixed", mixed_callback)
        .on("flood", flood_callback)
        .on("track", async |cx: Context, _: Value| cx.presence().track(json!({})).await)
        .write_timeout(Duration::from_secs(60)) // longer than a scenario, so that only the policy closes slow readers
}

/// Sends by every verb to the callback's own client, then answers with the next number.
async fn mixed_callback(cx: Context, message: Value) -> hauyna::Result<Box<RawValue>> {
    let (source, number) = (message["source"].as_u64().unwrap_or(0), message["number"].as_u64().unwrap_or(0));
    let user = cx.user().to_string();
    for step in 0..MIXED {
        send_mixed(&cx.hub(), &user, source, number + step).await?;
    }
    Ok(raw_content(source, number + MIXED, 64))
}

/// Publishes in a loop, as the client asks.
async fn flood_callback(cx: Context, message: Value) -> hauyna::Result {
    let (source, count) = (message["source"].as_u64().unwrap_or(0), message["count"].as_u64().unwrap_or(0));
    let channel = cx.channel("plain:1");
    for number in 1..=count {
        channel.broadcast(raw_content(source, number, 500)).await?;
    }
    Ok(())
}

/// Sends a message by the next verb in turn.
async fn send_mixed(hub: &Hub, name: &str, source: u64, number: u64) -> hauyna::Result {
    let message = raw_content(source, number, 64);
    match number % MIXED {
        0 => drop(hub.channel(name).broadcast(message).await?),
        1 => hub.connections().of_user(name).iter().try_for_each(|connection| connection.send(&message))?,
        2 => drop(hub.groups().send(name, message).await?),
        3 => drop(hub.connections().broadcast(message).await?),
        _ => drop(hub.user(name).send(message).await?),
    }
    Ok(())
}

async fn follow_orders(hub: Hub) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let order: Order = serde_json::from_str(&line)?;
        let hub = hub.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = match execute(&hub, &order).await {
                Ok(()) => "ok".to_owned(),
                Err(error) => format!("error {error}"),
            };
            println!("done {} {} {answer}", order.source, began.elapsed().as_millis());
        });
    }
    Ok(())
}

async fn execute(hub: &Hub, order: &Order) -> hauyna::Result {
    let Order { target, source, count, bytes, .. } = order;
    match order.verb {
        Verb::Join => drop(hub.groups().add_with_role(target, target, "speaker").await?),
        Verb::Stats => println!("stats {}", serde_json::to_string(&hub.stats())?),
        Verb::State => change_states(hub, target, *count),
        Verb::Subscribe => {
            for connection in hub.connections().of_user(target) {
                hub.channel("hang:1").subscribe(&connection, ()).await?;
            }
        }
        Verb::Channel if order.channels > 0 => {
            for number in 1..=*count {
                for channel in 0..order.channels {
                    let message = raw_content(source + channel, number, *bytes);
                    hub.channel(format!("{target}{channel}")).broadcast(message).await?;
                }
            }
        }
        Verb::Mixed => {
            for number in 1..=*count {
                send_mixed(hub, target, *source, number).await?;
            }
        }
        verb => {
            for number in 1..=*count {
                let message = raw_content(*source, number, *bytes);
                publish(hub, verb, target, &message).await?;
            }
        }
    }
    Ok(())
}

async fn publish(hub: &Hub, verb: Verb, target: &str, message: &RawValue) -> hauyna::Result {
    match verb {
        Verb::Channel => drop(hub.channel(target).broadcast(message).await?),
        Verb::Everybody => drop(hub.connections().broadcast(message).await?),
        Verb::User => drop(hub.user(target).send(message).await?),
        Verb::Group => drop(hub.groups().send(target, message).await?),
        _ => hub.connections().of_user(target).iter().try_for_each(|connection| connection.send(message))?,
    }
    Ok(())
}

/// Changes states until the connection ends; a failure because it has ended is not measured here.
fn change_states(hub: &Hub, user: &str, count: u64) {
    for number in 0..count {
        let state = if number % 2 == 0 { BUSY } else { ConnectionState::Connected };
        for connection in hub.connections().of_user(user) {
            if connection.set_state(state).is_err() {
                return;
            }
        }
    }
}

const BUSY: ConnectionState = ConnectionState::custom("busy");
/// Number of publications that `long:…` and `slow:…` keep.
pub(crate) const HISTORY: u32 = 1000;
/// Number of verbs that alternate in [`Verb::Mixed`].
pub(crate) const MIXED: u64 = 5;
