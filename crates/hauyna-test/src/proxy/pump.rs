//! Forwards the bytes of one connection, with one pump per direction, and ends both sockets as ordered. Bytes
//! that were read wait in a bounded queue until they are due. `FaultProxy` runs it for each connection.

use super::{Behaviour, Cut, Direction, Orders};
use crate::clock::after;
use crate::random::Random;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides ended their streams.
    Finished,
    /// One of the sockets broke.
    Broken,
    /// It was cut by order.
    Cut(Cut),
}

/// Forwards between client and server until the connection ends.
pub(super) async fn carry(
    [near, far]: [&TcpStream; 2],
    mut orders: watch::Receiver<Orders>,
    random: Random,
) -> End {
    for stream in [near, far] {
        // Each slice becomes a segment, and only ordered delays apply.
        let _ = stream.set_nodelay(true);
    }
    let up = Pump::new(Direction::Up, [near, far], orders.clone(), random.clone());
    let down = Pump::new(Direction::Down, [far, near], orders.clone(), random);
    let cut = orders.wait_for(|orders| orders.cut.is_some());
    tokio::select! {
        ordered = cut => ordered.ok().and_then(|orders| orders.cut).map_or(End::Broken, End::Cut),
        ended = async { tokio::try_join!(up.run(), down.run()) } => ended.err().unwrap_or(End::Finished),
    }
}

/// Closes both sockets in the way that belongs to the end.
pub(super) async fn close(near: TcpStream, far: TcpStream, end: End) {
    match end {
        End::Finished => {}
        End::Broken | End::Cut(Cut::Reset) => {
            reset(near);
            reset(far);
        }
        End::Cut(Cut::Fin) => {
            // A socket that is closed with unread bytes sends a reset, so read and drop them first.
            let both = async { tokio::join!(finish(near), finish(far)) };
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, both).await;
        }
    }
}

/// Closes with a reset. Unsent bytes are lost.
pub(super) fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn finish(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut dropped = [0; 4096];
    while let Ok(1..) = stream.read(&mut dropped).await {}
}

/// One direction of a connection.
struct Pump<'a> {
    direction: Direction,
    from: &'a TcpStream,
    to: &'a TcpStream,
    orders: watch::Receiver<Orders>,
    random: Random,
    /// Chunks that were read, with the time when each is due.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    waiting_bytes: usize,
    forwarded: u64,
    has_ended: bool,
}

impl<'a> Pump<'a> {
    fn new(
        direction: Direction,
        [from, to]: [&'a TcpStream; 2],
        orders: watch::Receiver<Orders>,
        random: Random,
    ) -> Self {
        let waiting = VecDeque::new();
        Self {
            direction,
            from,
            to,
            orders,
            random,
            waiting,
            waiting_bytes: 0,
            forwarded: 0,
            has_ended: false,
        }
    }

    /// Runs until the end of the stream. An error is any other end.
    async fn run(mut self) -> Result<(), End> {
        loop {
            let behaviour = self.orders.borrow_and_update().behaviour;
            let is_moving = !behaviour.stalls(self.direction);
            let due = self.waiting.front().map(|(due, _)| *due);
            if is_moving && self.has_ended && due.is_none() {
                return socket2::SockRef::from(self.to)
                    .shutdown(std::net::Shutdown::Write)
                    .or(Err(End::Broken));
            }
            let may_read = is_moving && !self.has_ended && self.waiting_bytes < MAX_WAITING_BYTES;
            tokio::select! {
                changed = self.orders.changed() => changed.or(Err(End::Broken))?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if is_moving && due.is_some() => {
                    self.forward(behaviour).await?;
                }
                readable = self.from.readable(), if may_read => {
                    readable.or(Err(End::Broken))?;
                    self.read(behaviour)?;
                }
            }
        }
    }

    fn read(&mut self, behaviour: Behaviour) -> Result<(), End> {
        let mut bytes = vec![0; READ];
        let read = match self.from.try_read(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            read => read.or(Err(End::Broken))?,
        };
        bytes.truncate(read);
        self.has_ended = read == 0;
        if read > 0 {
            let jitter = self.random.below(micros(behaviour.jitter).saturating_add(1));
            let due = after(behaviour.latency.saturating_add(Duration::from_micros(jitter)));
            let last = self.waiting.back().map_or(due, |(last, _)| *last);
            self.waiting_bytes += read;
            self.waiting.push_back((due.max(last), bytes));
        }
        Ok(())
    }

    /// Forwards the due chunk, or its first slice, up to the byte where the connection is to be cut.
    async fn forward(&mut self, behaviour: Behaviour) -> Result<(), End> {
        let Some((due, mut bytes)) = self.waiting.pop_front() else { return Ok(()) };
        let allowance = behaviour.allowance(self.direction, self.forwarded);
        let max =
            allowance.map_or(bytes.len(), |(allowed, _)| usize::try_from(allowed).unwrap_or(bytes.len()));
        let rest = bytes.split_off(bytes.len().min(behaviour.slice.unwrap_or(bytes.len())).min(max));
        self.waiting_bytes -= bytes.len();
        self.forwarded += bytes.len() as u64;
        let mut unsent = bytes.as_slice();
        while !unsent.is_empty() {
            self.to.writable().await.or(Err(End::Broken))?;
            match self.to.try_write(unsent) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                written => unsent = &unsent[written.or(Err(End::Broken))?..],
            }
        }
        if let Some((0, cut)) = behaviour.allowance(self.direction, self.forwarded) {
            return Err(End::Cut(cut));
        }
        if !rest.is_empty() {
            self.waiting.push_front((due, rest));
            // Let the reader run between two slices.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Maximum of bytes of one read.
const READ: usize = 16 * 1024;
/// Maximum of bytes that wait in one direction.
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// Maximum time for a side to close after a FIN.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
