//! The message to several users that `Connections::send_to_many` returns. The application sets its options
//! and awaits it.

use crate::channel::{self, PublishOptions};
use crate::error::Error;
use crate::hub::Hub;
use hauyna_broker::{BoxFuture, ChannelName, ConnectionId, Content, InvalidValue, PublicationKind, UserId};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A message to several users and its options, from
/// [`Connections::send_to_many`](super::Connections::send_to_many); await it to send it.
#[must_use = "nothing is sent before it is awaited"]
pub struct SendToManyBuilder {
    hub: Hub,
    users: Vec<Result<UserId, InvalidValue>>,
    content: Result<Content, Error>,
    except: Option<ConnectionId>,
    /// The messages on their way, from the first poll on.
    running: Option<BoxFuture<Result<(), Error>>>,
}

impl SendToManyBuilder {
    pub(super) fn new(
        hub: Hub,
        users: Vec<Result<UserId, InvalidValue>>,
        content: Result<Content, InvalidValue>,
    ) -> Self {
        let content = content.map_err(Error::from);
        Self { hub, users, content, except: None, running: None }
    }

    /// Leaves one connection out, for example the device that the message comes from. A second, different
    /// connection is an [`ErrorKind::Config`](crate::error::ErrorKind::Config) when the builder is awaited.
    pub fn except(mut self, connection: ConnectionId) -> Self {
        if self.except.replace(connection).is_some_and(|earlier| earlier != connection) {
            let fault = "`except` is called twice with different values: set one value";
            self.content = Err(Error::config(fault));
        }
        self
    }
}

impl Future for SendToManyBuilder {
    type Output = Result<(), Error>;

    /// Sends when it is polled for the first time.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let running = this.running.get_or_insert_with(|| {
            let polled_again = Err(Error::config("a message was polled after it was sent"));
            let content = std::mem::replace(&mut this.content, polled_again);
            let (users, except) = (std::mem::take(&mut this.users), this.except);
            Box::pin(send(this.hub.clone(), users, content, except))
        });
        let done = std::task::ready!(running.as_mut().poll(cx));
        this.running = None;
        Poll::Ready(done)
    }
}

async fn send(
    hub: Hub,
    users: Vec<Result<UserId, InvalidValue>>,
    content: Result<Content, Error>,
    except: Option<ConnectionId>,
) -> Result<(), Error> {
    let content = content?;
    for user in users {
        let channel = ChannelName::of_user(user?.as_str());
        let options = PublishOptions { except, ..PublishOptions::default() };
        channel::publish_paced(&hub.0, channel, PublicationKind::Private, content.clone(), options).await?;
    }
    Ok(())
}

impl fmt::Debug for SendToManyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendToManyBuilder").field("users", &self.users.len()).finish_non_exhaustive()
    }
}
