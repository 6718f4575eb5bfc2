//! What is written best effort: announcements, error messages, log lines and panics. Each of stdout and
//! stderr has a bounded queue and a writer thread, which drops and counts lines that are not read in time. So
//! no other thread waits for a reader or fails with it.

use super::print::descriptor;
use super::stream::Stream;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, LazyLock};
use std::thread;

/// Queues lines for stdout, best effort.
pub(crate) fn announce(lines: &str) {
    STDOUT.push(lines.as_bytes());
}

/// Queues an error for stderr as one line, best effort.
pub(crate) fn print_error(error: &anyhow::Error) {
    STDERR.push(format!("hauyna: {error:#}\n").as_bytes());
}

/// Waits until the writer threads have written what is queued, before the program ends. Does not wait for a
/// reader that is stuck.
pub(crate) fn finish() {
    STDOUT.flush();
    STDERR.flush();
}

/// The writer for `tracing`, which calls `write` once per line.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends panic messages to the writer thread, too: the hook of the standard library waits for the reader of
/// stderr.
pub(crate) fn redirect_panics() {
    std::panic::set_hook(Box::new(|panic| {
        STDERR.push(panic_line(panic).as_bytes());
        // A panic of the main thread ends the program.
        if thread::current().name() == Some("main") {
            STDERR.flush();
        }
    }));
}

fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let location = panic.location().map_or_else(|| "an unknown location".to_owned(), ToString::to_string);
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    format!("thread '{name}' panicked at {location}: {}\n", message.escape_debug())
}

/// Returns a function that logs how many lines were dropped. Those may be log lines themselves.
fn report(stream: &'static str) -> impl Fn(u64) + Send {
    move |dropped| tracing::warn!(target: "hauyna::log", stream, dropped, "lines dropped: they were not read in time")
}

static STDOUT: LazyLock<Arc<Stream>> =
    LazyLock::new(|| Stream::start("stdout", descriptor(&io::stdout()).ok(), report("stdout")));
static STDERR: LazyLock<Arc<Stream>> =
    LazyLock::new(|| Stream::start("stderr", descriptor(&io::stderr()).ok(), report("stderr")));
