//! Work on sets that are behind a lock, a bounded number of items at a time: what fails, or is dropped on the
//! way, is in the set again. `fields` and `members` call this.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::Pin;
use std::task::Poll;

/// How far a turn has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    More,
    Failed,
}

impl Progress {
    /// Returns how far two parts of a turn have come.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::More, _) | (_, Self::More) => Self::More,
            (Self::Done, Self::Done) => Self::Done,
        }
    }
}

/// Items taken from a set that is behind a lock. Those that are not settled are put back.
pub(super) struct Taken<'a, S, T: Eq + Hash> {
    set: &'a Mutex<S>,
    of: fn(&mut S) -> &mut HashSet<T>,
    pub(super) items: Vec<T>,
}

impl<'a, S, T: Eq + Hash + Clone> Taken<'a, S, T> {
    pub(super) fn from(set: &'a Mutex<S>, of: fn(&mut S) -> &mut HashSet<T>) -> Self {
        let mut locked = set.lock();
        let items: Vec<T> = of(&mut locked).iter().take(MAX_AT_ONCE).cloned().collect();
        for item in &items {
            of(&mut locked).remove(item);
        }
        drop(locked);
        Self { set, of, items }
    }

    /// Settles each item, given with its index; `settle` returns whether it is done.
    pub(super) fn settle(&mut self, settle: impl Fn(&T, usize) -> bool) -> Progress {
        let is_full = self.items.len() == MAX_AT_ONCE;
        let items = std::mem::take(&mut self.items);
        let failed = items.into_iter().enumerate().filter(|(index, item)| !settle(item, *index));
        self.items = failed.map(|(_, item)| item).collect();
        match (self.items.is_empty(), is_full) {
            (false, _) => Progress::Failed,
            (true, true) => Progress::More,
            (true, false) => Progress::Done,
        }
    }
}

impl<S, T: Eq + Hash> Drop for Taken<'_, S, T> {
    fn drop(&mut self) {
        let mut locked = self.set.lock();
        (self.of)(&mut locked).extend(self.items.drain(..));
    }
}

/// Waits for all futures, which run concurrently.
pub(super) async fn join<F: Future + ?Sized>(futures: Vec<Pin<&mut F>>) -> Vec<F::Output> {
    let mut waiting: Vec<(Pin<&mut F>, Option<F::Output>)> =
        futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|cx| {
        let mut is_done = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

/// Number of calls that wait for the broker at one time.
const MAX_AT_ONCE: usize = 128;
