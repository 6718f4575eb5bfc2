//! Requests the presence lists of channels, page by page.

use super::ClientTask;
use super::requests::retry_delay;
use super::requests::{Answer, Purpose};
use super::subscribe_queue::RESTORE_TIMEOUT;
use super::subscriptions::{Reply, keep_waiter};
use crate::clock::{MAX_WAIT, after};
use crate::presence::PageResult;
use crate::shared::ChannelShared;
use hauyna_protocol::Request;
use hauyna_protocol::received::PresencePage;
use std::sync::Arc;
use tokio::time::Instant;

impl ClientTask {
    /// Requests the list of a channel again, if it has one.
    pub(super) fn refresh_list(&mut self, channel: &str) {
        if self.is_listed(channel) {
            self.request_list(channel);
        }
    }

    /// Requests the list of a channel, unless a request is open or was refused.
    pub(super) fn request_list(&mut self, channel: &str) {
        let Some(shared) = self.channel(channel) else { return };
        if shared.roster.lock().start_listing(Instant::now()) {
            // An answer to an earlier request is outdated.
            self.requests.remove_list(channel);
            self.request_list_page(channel, None);
        }
    }

    /// Requests the list again for the application, whose call waits until the list has come or has failed.
    pub(super) fn renew_list(&mut self, channel: &str, reply: Reply<()>) {
        let waiter = self.new_waiter(reply);
        if !self.is_listed(channel) {
            return waiter.answer(Ok(()));
        }
        keep_waiter(self.subscriptions.list_waiters.entry(channel.to_owned()).or_default(), waiter);
        if let Some(shared) = self.channel(channel) {
            shared.roster.lock().refuse_until(None);
        }
        self.request_list(channel);
    }

    fn is_listed(&self, channel: &str) -> bool {
        let is_listed = |shared: Arc<ChannelShared>| shared.roster.lock().presence().is_listed;
        self.subscriptions.session.is_live(channel) && self.channel(channel).is_some_and(is_listed)
    }

    fn request_list_page(&mut self, channel: &str, after_user: Option<&str>) {
        let request =
            Request::Presence { channel: channel.into(), after: after_user.map(Into::into), limit: None };
        let answer_by = after(Instant::now(), self.shared.timeout.max(RESTORE_TIMEOUT));
        self.send_request(Purpose::Presence { channel: channel.to_owned(), answer_by }, &request);
    }

    /// Handles the answer to a request for a page. After a refusal, the next change does not request the list
    /// at once: a server that receives a request for every change closes the connection because of its
    /// errors.
    pub(super) fn handle_list_answer(&mut self, channel: &str, answer: Answer) {
        let now = Instant::now();
        let (page, until) = match answer {
            Ok(data) => (data.and_then(|data| serde_json::from_str(data.get()).ok()), after(now, MAX_WAIT)),
            Err(refusal) if refusal.temporary => (None, now + retry_delay(&refusal)),
            Err(_) => (None, after(now, MAX_WAIT)),
        };
        if page.is_none() {
            return self.fail_list(channel, until);
        }
        self.take_list_page(channel, page);
    }

    fn fail_list(&mut self, channel: &str, until: Instant) {
        if let Some(shared) = self.channel(channel) {
            shared.roster.lock().refuse_until(Some(until));
        }
        self.take_list_page(channel, None);
    }

    /// Gives up the lists that were not answered in time, so that the buffered changes are applied.
    pub(super) fn expire_lists(&mut self, now: Instant) {
        for channel in self.requests.take_late_lists(now) {
            self.fail_list(&channel, after(now, self.shared.timeout.max(RESTORE_TIMEOUT)));
        }
    }

    /// Applies a page of a list, or `None` if the list has failed.
    fn take_list_page(&mut self, channel: &str, page: Option<PresencePage>) {
        let mut followed_by = PageResult::Whole;
        self.update_roster(channel, |roster| {
            let (updates, paged) = roster.take_page(page);
            followed_by = paged;
            updates
        });
        match followed_by {
            PageResult::Whole => self.subscriptions.end_list(channel),
            PageResult::Skipped => self.request_list(channel),
            PageResult::More(after) => self.request_list_page(channel, Some(&after)),
        }
    }
}
