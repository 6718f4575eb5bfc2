//! A bounded queue of lines and the thread that writes them to one descriptor. `push` never waits for the
//! descriptor's reader; lines that do not fit or cannot be written are dropped and counted.

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// One of the program's output streams.
#[derive(Debug)]
pub(super) struct Stream {
    /// The descriptor, or `None` if it could not be duplicated.
    out: Option<File>,
    queue: Mutex<Queue>,
    /// Id of the writer thread, once it runs.
    writer: OnceLock<ThreadId>,
    /// Notified when the queue is no longer empty.
    filled: Condvar,
    /// Notified when the writer has written a batch.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines that the writer has not taken yet.
    bytes: Vec<u8>,
    /// Number of lines that were dropped and not yet reported.
    dropped: u64,
    is_writing: bool,
}

impl Stream {
    /// Starts the writer thread, which calls `report` with the number of dropped lines once lines can be
    /// written again.
    pub(super) fn start(name: &str, out: Option<File>, report: impl Fn(u64) + Send + 'static) -> Arc<Self> {
        let (queue, writer) = (Mutex::default(), OnceLock::new());
        let stream = Arc::new(Self { out, queue, writer, filled: Condvar::new(), written: Condvar::new() });
        let writer = stream.clone();
        let thread = thread::Builder::new().name(format!("hauyna-{name}"));
        // If the thread cannot be started, the queue fills and lines are dropped.
        let _ = thread.spawn(move || writer.write_queued(&report));
        stream
    }

    /// Queues whole lines, or drops and counts them if there is no room.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut queue = self.queue.lock();
        // There is always room for the writer's own reports: one line for each of its writes.
        let is_full = queue.bytes.len() + lines.len() > CAPACITY;
        if is_full && self.writer.get() != Some(&thread::current().id()) {
            queue.dropped += count(lines);
            return;
        }
        let was_empty = queue.bytes.is_empty();
        queue.bytes.extend_from_slice(lines);
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits until everything queued is written, or the descriptor accepts nothing more.
    pub(super) fn flush(&self) {
        let start = Instant::now();
        let mut queue = self.queue.lock();
        while queue.is_writing || !queue.bytes.is_empty() {
            let is_stuck =
                self.written.wait_for(&mut queue, POLL_INTERVAL).timed_out() && !self.is_writable();
            if is_stuck || start.elapsed() > MAX_WAIT {
                return;
            }
        }
    }

    fn is_writable(&self) -> bool {
        self.out.as_ref().is_some_and(|out| wait_writable(out, Some(Duration::ZERO)).unwrap_or(false))
    }

    /// Runs the writer thread: takes everything queued and writes it, in a loop.
    fn write_queued(&self, report: &impl Fn(u64)) {
        let _ = self.writer.set(thread::current().id());
        let mut batch = Vec::new();
        let mut is_line_open = false;
        loop {
            self.take(&mut batch);
            let is_at_start = !is_line_open || self.write_part(b"\n") == 1;
            let written = if is_at_start { self.write_part(&batch) } else { 0 };
            is_line_open = if written > 0 { batch[written - 1] != b'\n' } else { !is_at_start };
            let lost = count(&batch[written..]);
            let mut queue = self.queue.lock();
            queue.is_writing = false;
            queue.dropped += lost;
            let dropped = if lost == 0 { std::mem::take(&mut queue.dropped) } else { 0 };
            drop(queue);
            if dropped > 0 {
                report(dropped);
            }
            self.written.notify_all();
        }
    }

    /// Waits for lines and takes them all.
    fn take(&self, batch: &mut Vec<u8>) {
        batch.clear();
        batch.shrink_to(MAX_QUEUED_BYTES);
        let mut queue = self.queue.lock();
        while queue.bytes.is_empty() {
            self.filled.wait(&mut queue);
        }
        std::mem::swap(batch, &mut queue.bytes);
        queue.is_writing = true;
    }

    /// Writes as much as possible and returns the number of bytes written.
    fn write_part(&self, bytes: &[u8]) -> usize {
        self.out.as_ref().map_or(0, |out| written(out, bytes).0)
    }
}

/// Writes all bytes and waits for the reader.
pub(super) fn write_all(out: &File, bytes: &[u8]) -> io::Result<()> {
    written(out, bytes).1
}

/// Writes up to the first error and returns how many bytes were written. Also waits for a non-blocking
/// descriptor, which a parent process may have left.
fn written(mut out: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut count = 0;
    while count < bytes.len() {
        let part = match out.write(&bytes[count..]) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_writable(out, None).map(|_| 0),
            part => part,
        };
        match part {
            Ok(part) => count += part,
            Err(error) => return (count, Err(error)),
        }
    }
    (count, Ok(()))
}

/// Whether the descriptor becomes writable, or fails, within the given time.
fn wait_writable(out: &File, time: Option<Duration>) -> io::Result<bool> {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut [PollFd::new(out, PollFlags::OUT)], time.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// Maximum of bytes in the queue; the writer may hold as many again.
const CAPACITY: usize = 1 << 20;
/// Bytes of the buffer that stay allocated.
const MAX_QUEUED_BYTES: usize = 64 << 10;
/// Interval at which `flush` checks whether the descriptor is writable.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time that `flush` waits for a descriptor that does make progress.
const MAX_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, pipe};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::{Receiver, sync_channel};

    /// Returns a stream that writes to a descriptor, and its reports.
    fn stream(out: impl Into<OwnedFd>) -> (Arc<Stream>, Receiver<u64>) {
        let (reports, reported) = sync_channel(8);
        let out: OwnedFd = out.into();
        (Stream::start("test", Some(out.into()), move |dropped| reports.send(dropped).unwrap()), reported)
    }

    #[test]
    fn a_stuck_reader_costs_lines_that_are_counted_and_nobody_waits() {
        let (reader, writer) = pipe().unwrap();
        let (stream, reported) = stream(writer);
        // A pipe holds 64 KiB, the writer and the queue 1 MiB each.
        let line = [vec![b'x'; 1023], b"\n".to_vec()].concat();
        for _ in 0..10_000 {
            stream.push(&line);
        }
        stream.flush();
        assert!(stream.queue.lock().bytes.len() <= CAPACITY);
        let (mut received, mut dropped) = (0, 0);
        for line in BufReader::new(reader).lines() {
            assert_eq!(line.unwrap().len(), 1023);
            received += 1;
            // The writer reports before it writes the next lines.
            dropped += reported.try_recv().unwrap_or(0);
            if received + dropped == 10_000 {
                break;
            }
        }
        assert!(dropped > 7_000, "{dropped}");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_no_reason_to_wait() {
        let (reader, writer) = pipe().unwrap();
        let (stream, reported) = stream(writer);
        drop(reader);
        stream.push(b"one\ntwo\n");
        stream.flush();
        stream.push(b"three\n");
        stream.flush();
        assert_eq!(stream.queue.lock().dropped, 3);
        assert!(reported.try_recv().is_err(), "nobody could read a report");
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_thread_lives_on() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (stream, _) = stream(full);
        for number in 1..=3 {
            stream.push(b"line\n");
            stream.flush();
            assert_eq!(stream.queue.lock().dropped, number);
        }
    }

    #[test]
    fn a_descriptor_that_does_not_block_gets_everything() {
        let (mut reader, writer) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let text = vec![b'x'; 1 << 20];
        let expected = text.clone();
        let out = File::from(OwnedFd::from(writer));
        let writing = std::thread::spawn(move || write_all(&out, &text));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        writing.join().unwrap().unwrap();
        assert!(all == expected);
    }
}
