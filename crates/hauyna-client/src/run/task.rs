//! The task itself: it waits for a command, bytes or a deadline, and calls the file that handles it. Nothing
//! else touches the sockets.

use super::deadlines::Deadlines;
use super::requests::{BackgroundResult, Requests};
use super::sockets::{NextSocketEvent, Sockets, Target};
use super::subscriptions::{Reply, SubscribeRequest, Subscriptions};
use super::wake_up::WakeUp;
use crate::builder::Options;
use crate::client::State;
use crate::clock::{MAX_WAIT, after};
use crate::error::{Closed, Error};
use crate::gap::{Gap, GapReason};
use crate::logger;
use crate::outbox::{Entry, Outbox};
use crate::random::Random;
use crate::shared::{ChannelShared, Shared};
use crate::stream::Notification;
use crate::subscription::LiveSubscription;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// A command of a handle for the task.
pub(crate) enum Command {
    Request(Entry),
    Subscribe { request: SubscribeRequest, share: u64, reply: Reply<LiveSubscription> },
    Unsubscribe { channel: String, reply: Reply<()> },
    RenewList { channel: String, reply: Reply<()> },
    Reconnect(oneshot::Sender<()>),
    Offline(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// The task of one client.
pub(crate) struct ClientTask {
    pub(super) options: Options,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) sockets: Sockets,
    pub(super) requests: Requests,
    pub(super) subscriptions: Subscriptions,
    pub(super) deadlines: Deadlines,
    /// The source that is polled first.
    first_source: usize,
}

/// What the task has waited for.
enum Input {
    Command(Option<Command>),
    WakeUp(WakeUp),
    /// The current socket has received something, or has ended.
    Current,
    /// The former socket has received something, or has ended.
    Former,
    Next(NextSocketEvent),
    Background(BackgroundResult),
    Deadline,
}

impl ClientTask {
    pub(crate) fn new(
        options: Options,
        target: Target,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        random: Random,
    ) -> Self {
        let outbox = Outbox::new(options.max_requests, options.max_outbox_bytes);
        let sockets = Sockets::new(target, options.retry, random);
        Self {
            options,
            shared,
            commands,
            sockets,
            requests: Requests::new(outbox),
            subscriptions: Subscriptions::default(),
            deadlines: Deadlines::default(),
            first_source: 0,
        }
    }

    /// Runs until the client is closed, or nobody holds a handle on it.
    pub(crate) async fn run(self) {
        let shared = self.shared.clone();
        let task = pin!(self.run_until_closed());
        // It is dropped before the task, whose drop wakes waiting callers: they find the state with the
        // reason.
        let _ended = EndGuard(shared);
        task.await;
    }

    async fn run_until_closed(mut self) {
        self.start_attempt();
        loop {
            self.read_before_deadlines().await;
            self.process_deadlines(Instant::now());
            self.send_pending();
            match self.wait().await {
                Input::Command(None) => return self.shut_down(None).await,
                Input::Command(Some(Command::Close(reply))) => return self.shut_down(Some(reply)).await,
                Input::Command(Some(command)) => self.handle_command(command),
                Input::WakeUp(wake_up) => self.handle_wake_up(wake_up),
                Input::Current => self.read_current(),
                Input::Former => self.read_former(),
                Input::Next(NextSocketEvent::Readable) => self.read_next(),
                Input::Next(NextSocketEvent::Opened(result)) => self.handle_opened(result),
                Input::Background(result) => self.handle_background_result(result),
                Input::Deadline => {}
            }
        }
    }

    /// Waits for the next input. The sources are polled in turns, so that none starves the others.
    async fn wait(&mut self) -> Input {
        let deadline = self.next_deadline();
        let mut timer = pin!(sleep_until(deadline.unwrap_or_else(|| after(Instant::now(), MAX_WAIT))));
        self.first_source = (self.first_source + 1) % INPUT_SOURCES;
        poll_fn(|cx| {
            for step in 0..INPUT_SOURCES {
                let polled = match (self.first_source + step) % INPUT_SOURCES {
                    0 => self.commands.poll_recv(cx).map(Input::Command),
                    1 => self.sockets.poll_current(cx).map(|()| Input::Current),
                    2 => self.sockets.poll_former(cx).map(|()| Input::Former),
                    3 => self.sockets.poll_next(cx).map(Input::Next),
                    4 => self.requests.poll_background(cx).map(Input::Background),
                    5 => self.shared.wake_ups.poll(cx).map(Input::WakeUp),
                    _ => timer.as_mut().poll(cx).map(|()| Input::Deadline),
                };
                if polled.is_ready() {
                    return polled;
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads what has arrived before deadlines count. In a process that slept, both are ready at once.
    async fn read_before_deadlines(&mut self) {
        let now = Instant::now();
        let Some(at) = self.next_deadline().filter(|at| *at <= now) else { return };
        if now - at >= LONG_SLEEP {
            // Timers may be all that the runtime has polled since the process woke up.
            tokio::task::yield_now().await;
        }
        for _ in 0..MAX_READS {
            let sockets = &mut self.sockets;
            if !poll_fn(|cx| Poll::Ready(sockets.poll_current(cx).is_ready())).await {
                return;
            }
            self.read_current();
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Request(entry) if self.is_closed() => entry.fail(self.closed()),
            Command::Request(entry) if entry.number < self.requests.first_of_user => {
                entry.fail(Error::Expired);
            }
            Command::Request(entry) if entry.is_volatile && !self.sockets.is_connected() => {
                entry.fail(Error::NotConnected);
            }
            Command::Request(entry) => {
                let id = self.requests.next_id();
                self.requests.outbox.push(id, entry);
            }
            Command::Subscribe { request, share, reply } => self.request_subscription(request, share, reply),
            Command::Unsubscribe { channel, reply } => self.unsubscribe(&channel, reply),
            Command::RenewList { channel, reply } => self.renew_list(&channel, reply),
            Command::Reconnect(done) => {
                self.handle_reconnect();
                // The caller may have dropped its future.
                let _ = done.send(());
            }
            Command::Offline(done) => {
                self.handle_offline();
                let _ = done.send(());
            }
            Command::Close(reply) => {
                // The first of several calls closes the client; the others are answered once it is closed.
                let _ = reply.send(());
            }
        }
    }

    pub(super) fn closed(&self) -> Error {
        match &*self.shared.state.borrow() {
            State::Closed(closed) => Error::from(closed.clone()),
            _ => Error::NotConnected,
        }
    }

    fn handle_wake_up(&mut self, wake_up: WakeUp) {
        match wake_up {
            WakeUp::Events(channel) => self.schedule_events(&channel),
            WakeUp::Ended { channel, share, reply } => self.end_share(&channel, share, reply),
            WakeUp::Kept { channel, share } => self.subscriptions.keep_share(&channel, share),
        }
    }

    pub(super) fn set_state(&self, state: State) {
        if *self.shared.state.borrow() != state {
            self.shared.state.send_replace(state.clone());
            self.shared.broadcaster.push(&Notification::State(state));
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Closed(_))
    }

    pub(super) fn channel(&self, name: &str) -> Option<Arc<ChannelShared>> {
        self.shared.channels.find(name)
    }

    /// Reports that messages may be missing to the readers of the channel and of the client.
    pub(super) fn report_gap(&mut self, gap: Gap) {
        logger::log_gap(&gap);
        if gap.reason == GapReason::EpochChanged {
            self.requests.outbox.forget_keys(&gap.channel);
        }
        let channel = self.channel(&gap.channel);
        let notification = Notification::Gap(Arc::new(gap));
        if let Some(channel) = channel {
            channel.broadcaster.push(&notification);
        }
        self.shared.broadcaster.push(&notification);
    }

    async fn shut_down(mut self, reply: Option<oneshot::Sender<()>>) {
        self.requests.background.abort_all();
        while let Some(wake_up) = self.shared.wake_ups.next() {
            self.handle_wake_up(wake_up);
        }
        self.send_pending();
        self.sockets.close().await;
        self.close(Closed::ByUs);
        self.shared.broadcaster.close();
        self.shared.channels.close();
        self.shared.wake_ups.close();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            // No attempt starts any more.
            if !matches!(command, Command::Reconnect(_) | Command::Offline(_)) {
                self.handle_command(command);
            }
        }
        if let Some(reply) = reply {
            // The caller may have dropped its future.
            let _ = reply.send(());
        }
    }
}

/// Closes the state and the streams when the task ends, even if its runtime has dropped it.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let Self(shared) = self;
        if !matches!(*shared.state.borrow(), State::Closed(_)) {
            let closed = State::Closed(Closed::TaskEnded);
            shared.state.send_replace(closed.clone());
            shared.broadcaster.push(&Notification::State(closed));
        }
        shared.wake_ups.close();
        shared.broadcaster.close();
        shared.channels.close();
    }
}

/// Number of sources that [`ClientTask::wait`] polls.
const INPUT_SOURCES: usize = 7;
/// A timer that is this late shows that the process slept.
const LONG_SLEEP: Duration = Duration::from_millis(100);
/// Reads of the socket before deadlines count: enough for 1 MiB, and few enough that deadlines are met.
const MAX_READS: usize = 64;
