//! The result of a command, which is written completely, or the command fails.

use super::stream::write_all;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::thread;

/// Writes the result of a command to stdout and waits for its reader. A reader that closed the pipe is not an
/// error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let written = descriptor(&io::stdout()).and_then(|out| write_all(&out, text.as_bytes()));
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("the output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// Calls [`print()`] on a thread of its own, so that the runtime handles signals meanwhile.
pub(crate) async fn print_on_thread(text: String) -> anyhow::Result<()> {
    let (done, printed) = tokio::sync::oneshot::channel();
    // After a signal the receiver is gone.
    let thread = thread::Builder::new().name("hauyna-print".to_owned());
    thread.spawn(move || drop(done.send(print(&text))))?;
    printed.await?
}

/// Returns a descriptor for the same file without the buffer of the standard library, whose flush at the end
/// of the program would wait for a reader.
pub(super) fn descriptor(stream: &impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}
