//! The log of the clients: one JSON object per line, the same in every language. Drivers write it, the
//! checker reads it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Time in milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// Name of the client and its user, `LANGUAGE-NUMBER`.
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// What a client's application did or received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The application subscribed, before anything was published.
    Subscribed { channel: String },
    /// The application passed a publication to the client. `id` is `CLIENT:NUMBER`, and also part of its
    /// content.
    Sent { channel: String, id: String },
    /// The publication was acknowledged.
    Acked { channel: String, id: String, epoch: String, offset: u64 },
    /// The publication failed, and the application learned why.
    Failed { channel: String, id: String, error: String },
    /// A message was delivered to the application.
    Got { channel: String, id: String, offset: u64 },
    /// The client reported a gap: messages may be missing.
    Gap { channel: String, reason: String, from: Option<Place>, to: Option<Place> },
    /// The client changed its state. `resumed` belongs to `connected`.
    State {
        state: String,
        #[serde(default)]
        resumed: bool,
        #[serde(default)]
        reason: String,
    },
    /// A user joined, left or changed.
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
/// Returns an error if it cannot be read, or a line is invalid.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    lines
        .map(|(number, line)| {
            serde_json::from_str(&line?).with_context(|| format!("{}:{}", path.display(), number + 1))
        })
        .collect()
}
