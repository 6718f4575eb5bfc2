//! The signals that end `serve` and `bench` in an orderly way, and the signals that `serve` ignores.
//! `serve::signals` and `bench` await them and decide what to do.

use rustix::process::Signal;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::Poll;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// Listeners for the signals that end the program. No signal is lost between two calls of `next`.
#[derive(Debug)]
pub(crate) struct Signals {
    listeners: Vec<(Signal, Listener)>,
}

impl Signals {
    /// Starts to listen; needs a Tokio runtime. A SIGHUP that was ignored when the process started (`nohup`)
    /// stays ignored.
    pub(crate) fn new() -> io::Result<Self> {
        let handled =
            TERMINATION_SIGNALS.iter().filter(|signal| **signal != Signal::HUP || !is_ignored(Signal::HUP));
        let listeners = handled.map(|signal| Ok((*signal, listen(*signal)?))).collect::<io::Result<_>>()?;
        Ok(Self { listeners })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut listeners = self.listeners.iter_mut();
            let received =
                listeners.find_map(|(signal, listener)| listener.poll_recv(cx).is_ready().then_some(*signal));
            received.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Returns the exit code that shells expect of a process that a signal ended, such as 143 for SIGTERM.
pub(crate) fn exit_code(signal: Signal) -> i32 {
    128 + signal.as_raw()
}

/// Ignores the signals that would end the process by default and have no meaning here. Needs a Tokio runtime.
pub(crate) fn ignore_meaningless() {
    for number in IGNORED_SIGNALS.iter().map(|signal| signal.as_raw()).chain(REAL_TIME) {
        // The handler stays installed after its listener is dropped. Where a system lacks the signal, nobody
        // can send it.
        let _ = signal(SignalKind::from_raw(number));
    }
}

fn listen(to: Signal) -> io::Result<Listener> {
    signal(SignalKind::from_raw(to.as_raw()))
}

/// Whether the process was started with this signal ignored. Always `false` where there is no `/proc`.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Signals that end the program: from a supervisor, Ctrl-C, Ctrl-\, a closing terminal, a limit of processor
/// time, a failing power supply.
const TERMINATION_SIGNALS: &[Signal] = &[
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::XCPU,
    #[cfg(target_os = "linux")]
    Signal::POWER,
];

/// Signals for users, timers and descriptors, and for the limit of a file's size, at which writing fails
/// anyway.
const IGNORED_SIGNALS: &[Signal] = &[
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::XFSZ,
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    Signal::STKFLT,
];

/// Real-time signals of Linux that the C library leaves to programs.
const REAL_TIME: Range<i32> = if cfg!(target_os = "linux") { 34..65 } else { 0..0 };
