//! What the process needs before it serves: its log, and enough descriptors.

use crate::output;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts the log. No thread waits for its lines to be written.
pub(super) fn start_log(filter: EnvFilter) {
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(|| output::Log)
        // These would go through `eprintln!`, which panics when stderr cannot be written to.
        .log_internal_errors(false)
        .init();
    output::redirect_panics();
}

/// Raises the soft limit of descriptors: each connection needs one, and the usual limit of 1,024 is soon
/// reached. Where raising it is not allowed, the accept loop handles the lack of descriptors.
pub(super) fn raise_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limits.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(target: "hauyna::server", %error, "the limit of open files cannot be raised");
        }
    }
}

/// Number of descriptors to ask for where there is no hard limit.
const DESCRIPTORS: u64 = 1 << 20;
