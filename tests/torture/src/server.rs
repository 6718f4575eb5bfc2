//! The server of the torture run: rooms with history and presence on a local broker. `drain` on its standard
//! input drains it, and the end of that input ends it.

use crate::child::{self, orders};
use anyhow::Result;
use hauyna::connection::RetryPolicy;
use hauyna::{ChannelOptions, Drain, Handler, Heartbeat, Hub, Presence, Router};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

/// How long absent users are shown as present.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// Length of a drain.
pub(crate) const WINDOW: Duration = Duration::from_secs(4);

/// Serves on a free port, which it prints.
///
/// # Errors
///
/// Returns an error if no port is free.
pub(crate) async fn serve() -> Result<()> {
    let rooms = ChannelOptions::new().history(20_000, Duration::from_secs(300)).presence(Presence::each());
    let (base_delay, max_delay) = (Duration::from_millis(100), Duration::from_secs(2));
    let retry = RetryPolicy::default().base_delay(base_delay).max_delay(max_delay).jitter(1.0);
    let hub =
        Hub::builder().channels("room:{number}", rooms).presence_grace(GRACE).retry_policy(retry).build();
    // A dead connection is noticed within five seconds.
    let heartbeat = Heartbeat::every(Duration::from_secs(2)).timeout(Duration::from_secs(3));
    let handler = Handler::new().identify(|request| Ok(request.query("user"))).heartbeat(heartbeat);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening {}", listener.local_addr()?);
    let server = Router::new(hub.clone()).websocket("/", handler).into_server();
    let serving = tokio::spawn(server.serve_listener(listener));
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        if order == "drain" {
            let _ = hub.drain(Drain::over(WINDOW)).await;
            serving.await??;
            println!("cpu {:.2}", child::cpu_seconds());
            return Ok(());
        }
        println!("cpu {:.2}", child::cpu_seconds());
    }
    Ok(())
}
