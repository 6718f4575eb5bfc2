//! A listener whose connections are opaque streams to the hub, like those of TLS: the connection's own task
//! writes to them, since the shard cannot. It answers the handshake itself. `server` uses it.

use anyhow::{Context, Result};
use hauyna::Hub;
use hauyna::handler::SharedHandler;
use hauyna_websocket::handshake::{HeadReader, check};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Accepts until the process ends.
pub(crate) async fn accept(hub: Hub, handler: SharedHandler, listener: std::net::TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let (listener, handler) = (TcpListener::from_std(listener)?, Arc::new(handler));
    loop {
        let (stream, _) = listener.accept().await?;
        let (hub, handler) = (hub.clone(), handler.clone());
        // The client sees any failure.
        tokio::spawn(async move { register(&hub, &handler, stream).await });
    }
}

async fn register(hub: &Hub, handler: &SharedHandler, mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut buffer) = (HeadReader::new(), [0; 4096]);
    let head = loop {
        let read = stream.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the connection ended within the handshake");
        if let Some(head) = reader.push(&buffer[..read]).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))? {
            break head;
        }
    };
    let (parts, ()) = head.request.into_parts();
    let user = parts
        .uri
        .query()
        .and_then(|query| query.strip_prefix("user="))
        .context("the query has no user")?
        .to_owned();
    let mut answer = Vec::new();
    let upgrade = check(&parts).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    upgrade.write_response(None, None, &mut answer);
    stream.write_all(&answer).await?;
    let (read, write) = stream.into_split();
    hub.connections().register(tokio::io::join(read, write), user, handler)?;
    Ok(())
}
