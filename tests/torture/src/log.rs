//! What a client logs: one JSON object a line, the same from every language. Drivers write it, the checker reads it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// `LANGUAGE-NUMBER`, which is its user's name, too.
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// What a client's application did or was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Subscribed, before anything was published.
    Subscribed { channel: String },
    /// Gave a publication to the client; `id` is `CLIENT:NUMBER`, and its content.
    Sent { channel: String, id: String },
    /// The publication was acknowledged.
    Acked { channel: String, id: String, epoch: String, offset: u64 },
    /// The publication failed, and the application was told why.
    Failed { channel: String, id: String, error: String },
    /// A message was delivered to the application.
    Got { channel: String, id: String, offset: u64 },
    /// The application was told that messages may be missing here.
    Gap { channel: String, reason: String, from: Option<Place>, to: Option<Place> },
    /// The client is in another state; `resumed` with `connected`.
    State {
        state: String,
        #[serde(default)]
        resumed: bool,
        #[serde(default)]
        reason: String,
    },
    /// The application was told that a user joined, left or changed.
    Presence { channel: String, change: String, user: String },
    /// The run is over; nothing is logged after it.
    Closing,
}

/// A position in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// Reads a log.
///
/// # Errors
///
/// It cannot be read, or a line is none.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    lines
        .map(|(number, line)| {
            serde_json::from_str(&line?).with_context(|| format!("{}:{}", path.display(), number + 1))
        })
        .collect()
}
