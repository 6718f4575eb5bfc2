//! A chat in the terminal, on the typed client: sends the user's lines into a channel and prints those of
//! others. Cut its connection, or stop the server and start it again, and see what it prints.
//!
//! `cargo run --package hauyna-example-rust-client -- ana` beside `cargo run`, whose page takes part.

use anyhow::{Context as _, Result};
use hauyna_client::{Client, Publication, State, Stream, StreamError};
use serde::de::IgnoredAny;
use std::collections::BTreeSet;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: hauyna-example-rust-client NAME [URL] [CHANNEL]")?;
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:8080/chat".to_owned());
    let channel = arguments.next().unwrap_or_else(|| "general".to_owned());
    let client = Client::builder(&format!("{url}?user_id={name}")).connect()?;
    let (lines, out) = (BufReader::new(tokio::io::stdin()), tokio::io::stdout());
    chat(&client, &channel, lines, out).await?;
    client.close().await;
    Ok(())
}

/// Chats until the input ends.
async fn chat(
    client: &Client,
    channel: &str,
    lines: impl AsyncBufRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
) -> Result<()> {
    let room = client.channel::<String>(channel);
    let (mut messages, mut states) = (room.messages(), client.states());
    // Others send an event with every key, which no history keeps. Print one line for it.
    let (mut typing, mut writers) = (room.client_events::<IgnoredAny>("typing"), BTreeSet::new());
    let mut lines = lines.lines();
    let _subscription = room.subscribe().await?;
    say(&mut out, &format!("* you are in {channel}; an empty line ends it")).await?;
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => {
                    if let Ok(Publication { user: Some(user), .. }) = &message {
                        writers.remove(user);
                    }
                    say(&mut out, &shown(message)).await?;
                }
                None => return Ok(()),
            },
            event = typing.next() => {
                if let Some(Ok(event)) = event
                    && writers.insert(event.user.clone())
                {
                    say(&mut out, &format!("* {} is typing", event.user)).await?;
                }
            }
            state = states.next() => {
                if let Some(Ok(state)) = state {
                    say(&mut out, &description(&state)).await?;
                    if let State::Closed(_) = state {
                        return Ok(());
                    }
                }
            }
            line = lines.next_line() => {
                let Some(line) = line?.filter(|line| !line.is_empty()) else {
                    return drain(&mut messages, &mut out).await;
                };
                // It waits for a connection, and is published once even if the connection is lost several
                // times.
                let publishing = room.publish(&line).into_future();
                let notice = client.state() != State::Connected;
                if notice {
                    say(&mut out, "* it will be sent when the connection is back").await?;
                }
                if let Err(error) = publishing.await {
                    say(&mut out, &format!("* not sent: {error}")).await?;
                }
            }
        }
    }
}

/// Prints what has already arrived.
async fn drain(
    messages: &mut Stream<Publication<String>>,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<()> {
    let moment = std::time::Duration::from_millis(200);
    while let Ok(Some(message)) = tokio::time::timeout(moment, messages.next()).await {
        say(out, &shown(message)).await?;
    }
    Ok(())
}

fn shown(message: Result<Publication<String>, StreamError>) -> String {
    match message {
        Ok(Publication { user, content, .. }) => {
            format!("{}: {content}", user.as_deref().unwrap_or("server"))
        }
        Err(StreamError::Gap(gap)) => format!("* something may be missing here ({})", gap.reason.as_str()),
        Err(error) => format!("* {error}"),
    }
}

fn description(state: &State) -> String {
    match state {
        State::Connected => "* connected".to_owned(),
        State::Reconnecting { attempt } => format!("* connection lost, attempt {attempt}"),
        State::Closed(reason) => format!("* closed: {reason}"),
        _ => "* connecting".to_owned(),
    }
}

async fn say(out: &mut (impl AsyncWrite + Unpin), line: &str) -> Result<()> {
    // Messages of others must not control the terminal.
    let line: String = line.chars().filter(|character| !character.is_control()).collect();
    out.write_all(format!("{line}\n").as_bytes()).await?;
    out.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests;
