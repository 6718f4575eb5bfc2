//! The signals that end `serve` and `bench` in an orderly way, and those that are kept from killing `serve`. What is
//! done about a signal is decided by whoever awaits it.

use rustix::process::Signal;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::Poll;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// Listens to the signals that end the program, from when it was made: none is missed between two.
#[derive(Debug)]
pub(crate) struct Signals {
    listeners: Vec<(Signal, Listener)>,
}

impl Signals {
    /// Starts to listen, within a runtime. A hang-up that was ignored at the start of the process (`nohup`) stays so.
    pub(crate) fn new() -> io::Result<Self> {
        let heeded =
            TERMINATION_SIGNALS.iter().filter(|signal| **signal != Signal::HUP || !is_ignored(Signal::HUP));
        let listeners = heeded.map(|signal| Ok((*signal, listen(*signal)?))).collect::<io::Result<_>>()?;
        Ok(Self { listeners })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut listeners = self.listeners.iter_mut();
            let came =
                listeners.find_map(|(signal, listener)| listener.poll_recv(cx).is_ready().then_some(*signal));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The exit code that a shell expects of a process that a signal has ended, such as 143 of SIGTERM.
pub(crate) fn exit_code(signal: Signal) -> i32 {
    128 + signal.as_raw()
}

/// Has those signals do nothing that would end the process by default and mean nothing here. Within a runtime.
pub(crate) fn ignore_meaningless() {
    for number in IGNORED_SIGNALS.iter().map(|signal| signal.as_raw()).chain(REAL_TIME) {
        // A handler stays when its listener is dropped. Where a system has no such signal, nobody can send it.
        let _ = signal(SignalKind::from_raw(number));
    }
}

fn listen(of: Signal) -> io::Result<Listener> {
    signal(SignalKind::from_raw(of.as_raw()))
}

/// Whether the process was started with this signal ignored. Known on Linux alone.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// A supervisor, Ctrl-C, Ctrl-\, a terminal that closes, a limit of processor time, a failing power supply.
const TERMINATION_SIGNALS: &[Signal] = &[
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::XCPU,
    #[cfg(target_os = "linux")]
    Signal::POWER,
];

/// For users, timers and descriptors, and the limit of a file's size, at which writing fails anyway.
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

/// Those of Linux that the C library leaves to programs.
const REAL_TIME: Range<i32> = if cfg!(target_os = "linux") { 34..65 } else { 0..0 };
