//! Earlier publications: one page of them, or all back to the oldest. `Channel::history` and `Channel::older`
//! make the requests.

use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::outbox::Draft;
use crate::publication::Publication;
use hauyna_protocol::received::{History, Received};
use hauyna_protocol::{Direction, Position};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request for earlier publications; see [`Channel::history`](crate::Channel::history).
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited"]
pub struct HistoryRequest<M>(Call<HistoryMessages<M>>);

impl<M: DeserializeOwned> HistoryRequest<M> {
    pub(crate) fn new(client: Client, channel: String) -> Self {
        let draft = Draft::History { channel, since: None, limit: None, direction: Direction::Forward };
        Self(Call::new(client, Ok(draft), HistoryMessages::read))
    }
}

impl<M> HistoryRequest<M> {
    /// Requests the publications after a position; with [`reverse`](Self::reverse) those before it.
    pub fn since(self, position: Position) -> Self {
        self.start_at(position)
    }

    /// Requests the publications before a position, newest first: the next page for a reader who scrolls
    /// back.
    pub fn before(self, position: Position) -> Self {
        self.start_at(position).reverse()
    }

    /// Starts at a position. The request fails if it starts at another one, too.
    fn start_at(mut self, position: Position) -> Self {
        let mut earlier = None;
        self = self.with(|since, _, _| earlier = since.replace(position));
        if earlier.is_some_and(|earlier| earlier != position) {
            self.0.refuse(Error::Unsendable("a page of the history starts at one position".to_owned()));
        }
        self
    }

    /// Limits the number of publications.
    pub fn limit(self, max_publications: u32) -> Self {
        self.with(|_, limit, _| *limit = Some(max_publications))
    }

    /// Requests the newest first.
    pub fn reverse(self) -> Self {
        self.with(|_, _, direction| *direction = Direction::Backward)
    }

    fn with(mut self, set: impl FnOnce(&mut Option<Position>, &mut Option<u32>, &mut Direction)) -> Self {
        if let Ok(Draft::History { since, limit, direction, .. }) = self.0.draft() {
            set(since, limit, direction);
        }
        self
    }
}

impl<M: 'static> IntoFuture for HistoryRequest<M> {
    type Output = Result<HistoryMessages<M>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        self.0.into_future()
    }
}

/// A page of earlier publications.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryMessages<M> {
    /// The publications in the requested order. Messages of the application that are not publications are
    /// left out.
    pub messages: Vec<Publication<M>>,
    /// The position of the end of the stream.
    pub position: Position,
    /// Offset of the oldest publication that the server keeps; the one after the end if it keeps none. If it
    /// is not 1, older ones are gone.
    pub oldest: u64,
    /// Position of the last message of the page, even if that is left out. The next page starts there.
    pub last: Option<Position>,
}

impl<M: DeserializeOwned> HistoryMessages<M> {
    fn read(data: Option<Box<RawValue>>) -> Result<Self, Error> {
        let Page { items, position, oldest, last } = Page::read(data)?;
        Ok(Self { messages: items.into_iter().collect::<Result<_, _>>()?, position, oldest, last })
    }
}

/// A page whose contents may each fail to be read as the requested type.
struct Page<M> {
    items: Vec<Result<Publication<M>, Error>>,
    position: Position,
    oldest: u64,
    last: Option<Position>,
}

impl<M: DeserializeOwned> Page<M> {
    fn read(data: Option<Box<RawValue>>) -> Result<Self, Error> {
        let unreadable = |error: String| Error::Unreadable(error);
        let data = data.ok_or_else(|| unreadable("no data".into()))?;
        let history: History =
            serde_json::from_str(data.get()).map_err(|error| unreadable(error.to_string()))?;
        let mut items = Vec::with_capacity(history.messages.len());
        let last = last_position(&history);
        for message in &history.messages {
            match Received::read(message.get()) {
                Ok(Received::Publication(publication)) => {
                    let read = Publication::read(&publication, Some(history.position));
                    items.push(read.map_err(|error| unreadable(error.to_string())));
                }
                Ok(_) => {}
                Err(fault) => items.push(Err(unreadable(fault.to_string()))),
            }
        }
        Ok(Self { items, position: history.position, oldest: history.oldest, last })
    }
}

fn last_position(history: &History) -> Option<Position> {
    #[derive(serde::Deserialize)]
    struct NumberedMessage {
        offset: u64,
    }
    let last: NumberedMessage = serde_json::from_str(history.messages.last()?.get()).ok()?;
    Some(Position { offset: last.offset, ..history.position })
}

/// Whether a page that was requested before a position ends further back. Otherwise the stream would never
/// end.
fn has_older(before: Option<Position>, last: Option<Position>) -> bool {
    before.zip(last).is_none_or(|(before, last)| last.offset < before.offset)
}

/// Earlier publications, newest first; see [`Channel::older`](crate::Channel::older).
///
/// It is a [`futures_core::Stream`]; [`next`](Self::next) needs no further crate. A content of another type
/// is [`Error::Unreadable`] in its place, and the stream continues. It ends with the oldest publication that
/// the server keeps, or with another error. After an error, a new one that starts [`before`](Self::before)
/// the last publication continues.
#[must_use = "nothing is asked before it is read"]
pub struct OlderPages<M> {
    client: Client,
    channel: String,
    before: Option<Position>,
    limit: Option<u32>,
    /// The request for the next page.
    pending_page: Option<PendingPage<M>>,
    /// The rest of the last page.
    page: VecDeque<Result<Publication<M>, Error>>,
    is_over: bool,
}

type PendingPage<M> = Pin<Box<dyn Future<Output = Result<Page<M>, Error>> + Send>>;

impl<M> OlderPages<M> {
    pub(crate) fn new(client: Client, channel: String) -> Self {
        let (asked, page) = (None, VecDeque::new());
        Self { client, channel, before: None, limit: None, pending_page: asked, page, is_over: false }
    }

    /// Starts before a position, such as that of the oldest publication that is shown. Default: at the newest
    /// one.
    pub fn before(mut self, position: Position) -> Self {
        self.before = Some(position);
        self
    }

    /// Sets the number of publications per request. Default: as many as the server returns.
    pub fn limit(mut self, page: u32) -> Self {
        self.limit = Some(page);
        self
    }
}

impl<M: DeserializeOwned + 'static> OlderPages<M> {
    /// Waits for the next publication; `None` after the oldest one and after an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Publication<M>, Error>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Publication<M>, Error>>> {
        loop {
            if let Some(item) = self.page.pop_front() {
                return Poll::Ready(Some(item));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let asked = self.pending_page.get_or_insert_with(|| {
                let (channel, since, limit) = (self.channel.clone(), self.before, self.limit);
                let draft = Draft::History { channel, since, limit, direction: Direction::Backward };
                Call::new(self.client.clone(), Ok(draft), Page::read).into_future()
            });
            let answer = ready!(asked.as_mut().poll(cx));
            self.pending_page = None;
            match answer {
                Ok(page) if !has_older(self.before, page.last) => {
                    self.is_over = true;
                    let text = "a page of the past does not end before the last one".to_owned();
                    return Poll::Ready(Some(Err(Error::Unreadable(text))));
                }
                Ok(page) => {
                    // A page without publications still has a position after it.
                    self.is_over = page.last.is_none_or(|last| last.offset <= page.oldest);
                    (self.before, self.page) = (page.last, page.items.into());
                }
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl<M> Unpin for OlderPages<M> {}

impl<M: DeserializeOwned + 'static> futures_core::Stream for OlderPages<M> {
    type Item = Result<Publication<M>, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

impl<M> fmt::Debug for OlderPages<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Older").field("channel", &self.channel).finish_non_exhaustive()
    }
}
