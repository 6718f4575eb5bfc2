//! The client's one task: it waits for whatever happens next – a command, bytes, a moment – and hands it to
//! `travel` (coming and going), `hear` (what the server says) or `ask` (what goes out). Nothing else touches
//! the sockets.

use super::requests::{BackgroundResult, Requests};
use super::sockets::{NextSocket, Sockets, Target};
use super::subscriptions::{Reply, SubscribeRequest, Subscriptions};
use super::wake_up::WakeUp;
use crate::builder::Options;
use crate::client::State;
use crate::clock::{MAX_AHEAD, after};
use crate::error::Closed;
use crate::gap::{Gap, GapReason};
use crate::logger;
use crate::outbox::{Entry, Outbox};
use crate::random::Random;
use crate::shared::{ChannelShared, Shared};
use crate::socket::{AttemptFailure, Socket};
use crate::stream::Notification;
use crate::subscription::LiveSubscription;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// What the handles ask of the task.
pub(crate) enum Command {
    Request(Entry),
    Subscribe { wish: SubscribeRequest, share: u64, reply: Reply<LiveSubscription> },
    Unsubscribe { channel: String, reply: Reply<()> },
    RenewList { channel: String, reply: Reply<()> },
    Reconnect(oneshot::Sender<()>),
    Offline(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// The state of the task.
pub(crate) struct ClientTask {
    pub(super) options: Options,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) sockets: Sockets,
    pub(super) requests: Requests,
    pub(super) subscriptions: Subscriptions,
    pub(super) restore_by: Option<Instant>,
    /// When subscriptions of the server's that have not come back are given up.
    pub(super) restored_lapse_at: Option<Instant>,
    pub(super) refresh_at: Option<Instant>,
    pub(super) drain_at: Option<Instant>,
    /// Which source is looked at first, in turns: none starves the others.
    pub(super) turn: usize,
}

/// What happened.
enum Input {
    Command(Option<Command>),
    WakeUp(WakeUp),
    Current,
    Former,
    Greeting,
    Opened(Result<Socket, AttemptFailure>),
    Work(BackgroundResult),
    Time,
}

impl ClientTask {
    pub(crate) fn new(
        options: Options,
        target: Target,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        random: Random,
    ) -> Self {
        let (max_requests, max_bytes) = options.outbox;
        let sockets = Sockets::new(target, options.retry, random);
        Self {
            options,
            shared,
            commands,
            sockets,
            requests: Requests::new(Outbox::new(max_requests, max_bytes)),
            subscriptions: Subscriptions::default(),
            restore_by: None,
            restored_lapse_at: None,
            refresh_at: None,
            drain_at: None,
            turn: 0,
        }
    }

    /// Runs until the client is closed, or nobody holds a handle on it.
    pub(crate) async fn run(self) {
        let shared = self.shared.clone();
        let task = pin!(self.continue_at_once());
        // Dropped before the task, which drops what others wait for: they find the state that says why.
        let _ended = EndGuard(shared);
        task.await;
    }

    async fn continue_at_once(mut self) {
        self.attempt();
        loop {
            self.read_what_came_in_time().await;
            self.due(Instant::now());
            self.pump();
            match self.wait().await {
                Input::Command(None) => return self.shut_down(None).await,
                Input::Command(Some(Command::Close(reply))) => return self.shut_down(Some(reply)).await,
                Input::Command(Some(command)) => self.handle_command(command),
                Input::WakeUp(wake_up) => self.woken_up(wake_up),
                Input::Current => self.read_current(),
                Input::Former => self.read_former(),
                Input::Greeting => self.read_greeting(),
                Input::Opened(result) => self.socket_opened(result),
                Input::Work(done) => self.background_done(done),
                Input::Time => {}
            }
        }
    }

    async fn wait(&mut self) -> Input {
        let deadline = self.deadline();
        let mut timer = pin!(sleep_until(deadline.unwrap_or_else(|| after(Instant::now(), MAX_AHEAD))));
        self.turn = (self.turn + 1) % INPUT_SOURCES;
        poll_fn(|cx| {
            for step in 0..INPUT_SOURCES {
                let random = &mut self.sockets.random;
                match (self.turn + step) % INPUT_SOURCES {
                    0 => {
                        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
                            return Poll::Ready(Input::Command(command));
                        }
                    }
                    1 => {
                        if self
                            .sockets
                            .current
                            .as_mut()
                            .is_some_and(|socket| socket.poll(cx, random).is_ready())
                        {
                            return Poll::Ready(Input::Current);
                        }
                    }
                    2 => {
                        if self
                            .sockets
                            .former
                            .as_mut()
                            .is_some_and(|old| old.socket.poll(cx, random).is_ready())
                        {
                            return Poll::Ready(Input::Former);
                        }
                    }
                    3 => {
                        if let Poll::Ready(happened) = poll_next(&mut self.sockets.next, cx, random) {
                            return Poll::Ready(happened);
                        }
                    }
                    4 => {
                        if let Poll::Ready(Some(Ok(done))) = self.requests.background.poll_join_next(cx) {
                            return Poll::Ready(Input::Work(done));
                        }
                    }
                    5 => {
                        if let Poll::Ready(wake_up) = self.shared.wake_ups.poll(cx) {
                            return Poll::Ready(Input::WakeUp(wake_up));
                        }
                    }
                    _ => {
                        if timer.as_mut().poll(cx).is_ready() {
                            return Poll::Ready(Input::Time);
                        }
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads what has arrived before a time-out counts: where the process slept, both wait for it at once.
    async fn read_what_came_in_time(&mut self) {
        let now = Instant::now();
        let Some(at) = self.deadline().filter(|at| *at <= now) else { return };
        if now - at >= LONG_SLEEP {
            // The runtime may have seen its timers alone so far.
            tokio::task::yield_now().await;
        }
        for _ in 0..MAX_READS {
            let (current, random) = (&mut self.sockets.current, &mut self.sockets.random);
            let mut has_arrived = |cx: &mut Context<'_>| {
                Poll::Ready(current.as_mut().is_some_and(|socket| socket.poll(cx, random).is_ready()))
            };
            if !poll_fn(&mut has_arrived).await {
                return;
            }
            self.read_current();
        }
    }

    fn woken_up(&mut self, wake_up: WakeUp) {
        match wake_up {
            WakeUp::Events(channel) => self.note_events(&channel),
            WakeUp::Ended { channel, share, reply } => self.end_share(&channel, share, reply),
            WakeUp::Kept { channel, share } => self.keep_share(&channel, share),
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

    /// Tells that messages may be missing, to the channel's readers and to the client's.
    pub(super) fn notify(&mut self, gap: Gap) {
        logger::log_gap(&gap);
        if gap.reason == GapReason::EpochChanged {
            self.requests.outbox.forget_keys(&gap.channel);
        }
        let channel = self.channel(&gap.channel);
        let note = Notification::Gap(Arc::new(gap));
        if let Some(channel) = channel {
            channel.feed.push(&note);
        }
        self.shared.broadcaster.push(&note);
    }

    async fn shut_down(mut self, reply: Option<oneshot::Sender<()>>) {
        self.requests.background.abort_all();
        while let Some(wake_up) = self.shared.wake_ups.next() {
            self.woken_up(wake_up);
        }
        self.pump();
        self.leave().await;
        self.close(Closed::ByUs);
        self.shared.broadcaster.close();
        self.shared.channels.close();
        self.shared.wake_ups.close();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            // No attempt begins any more.
            if !matches!(command, Command::Reconnect(_) | Command::Offline(_)) {
                self.handle_command(command);
            }
        }
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }
}

/// Tells the handles that nobody works for them any more, however the task ends: its runtime may have.
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

fn poll_next(next: &mut NextSocket, cx: &mut Context<'_>, random: &mut Random) -> Poll<Input> {
    match next {
        NextSocket::Greeting(socket, _) => socket.poll(cx, random).map(|()| Input::Greeting),
        NextSocket::Opening(attempt) => {
            // The application's sources of tokens and streams run in it: their panic is a failed attempt.
            let polled = catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(cx)));
            polled.unwrap_or(Poll::Ready(Err(AttemptFailure::Panic))).map(Input::Opened)
        }
        _ => Poll::Pending,
    }
}

/// How many sources `wait` has.
const INPUT_SOURCES: usize = 7;
/// How late a timer is of a process that slept.
const LONG_SLEEP: Duration = Duration::from_millis(100);
/// How often the socket is read before a time-out counts: enough for 1 MiB, and not so often that time-outs
/// never do.
const MAX_READS: usize = 64;
