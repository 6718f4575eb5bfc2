//! Everything that the program writes to stdout and stderr. Announcements, the log and complaints are best effort: a
//! bounded queue and one writer thread for each of the two, which drops and counts the lines that nobody takes. So no
//! other thread waits for a reader or fails with it. The result of a command (`types`, `bench`, `--help`) is written
//! whole, or the command fails.

mod stream;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::{Arc, LazyLock};
use std::thread;
use stream::{Stream, write_all};

/// Queues lines for stdout, best effort.
pub(crate) fn announce(lines: &str) {
    STDOUT.push(lines.as_bytes());
}

/// Queues a line for stderr, best effort: what is wrong and why, for people.
pub(crate) fn print_error(error: &anyhow::Error) {
    STDERR.push(format!("hauyna: {error:#}\n").as_bytes());
}

/// Lets the writer threads write what is queued, before the program ends. A reader that is stuck is not waited for.
pub(crate) fn finish() {
    STDOUT.flush();
    STDERR.flush();
}

/// Writes the result of a command to stdout, and waits for its reader. A reader that has gone has what it wanted.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let written = descriptor(&io::stdout()).and_then(|out| write_all(&out, text.as_bytes()));
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("the output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// Does the same from a thread of its own, so that the runtime heeds signals meanwhile.
pub(crate) async fn print_to_stderr(text: String) -> anyhow::Result<()> {
    let (done, printed) = tokio::sync::oneshot::channel();
    // After a signal nobody waits for it any more.
    let thread = thread::Builder::new().name("hauyna-print".to_owned());
    thread.spawn(move || drop(done.send(print(&text))))?;
    printed.await?
}

/// Where `tracing` writes the log to: one call of `write` for each line.
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

/// Hands panics to the writer thread, too: the hook of the standard library waits for the reader of stderr.
pub(crate) fn redirect_panics() {
    std::panic::set_hook(Box::new(|panic| {
        STDERR.push(panic_line(panic).as_bytes());
        // The program ends with its main thread.
        if thread::current().name() == Some("main") {
            STDERR.flush();
        }
    }));
}

fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    format!("thread '{name}' panicked at {place}: {}\n", message.escape_debug())
}

/// A descriptor for the same file without the buffer of the standard library, which is flushed at the end of the
/// program whether anybody reads or not.
fn descriptor(stream: &impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Reports through the log, of which the lines that were dropped may be a part.
fn report(stream: &'static str) -> impl Fn(u64) + Send {
    move |dropped| tracing::warn!(target: "hauyna::log", stream, dropped, "lines dropped: nobody took them in time")
}

static STDOUT: LazyLock<Arc<Stream>> =
    LazyLock::new(|| Stream::start("stdout", descriptor(&io::stdout()).ok(), report("stdout")));
static STDERR: LazyLock<Arc<Stream>> =
    LazyLock::new(|| Stream::start("stderr", descriptor(&io::stderr()).ok(), report("stderr")));
