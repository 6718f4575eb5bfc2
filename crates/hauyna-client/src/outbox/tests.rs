//! The rules of the outbox, on a clock that the tests advance.

use super::*;
use serde_json::value::to_raw_value;

type Answer = oneshot::Receiver<Result<Option<Box<RawValue>>, Error>>;

fn publication(channel: &str, text: &str) -> Draft {
    let content = to_raw_value(text).unwrap();
    Draft::Publish { channel: channel.into(), content, key: format!("k-{text}"), echo: true }
}

fn event(repeat: Repeat) -> Draft {
    Draft::Event { name: "buy".into(), body: to_raw_value(&serde_json::json!({})).unwrap(), repeat }
}

fn push(outbox: &mut Outbox, id: u64, draft: Draft) -> Answer {
    push_for(outbox, id, draft, Duration::from_secs(30))
}

fn push_for(outbox: &mut Outbox, id: u64, draft: Draft, ttl: Duration) -> Answer {
    let (reply, answer) = oneshot::channel();
    let (expires, timeout) = (after(Instant::now(), ttl), Duration::from_secs(10));
    outbox.push(id, Entry { number: id, draft, reply, expires, timeout, is_volatile: false });
    answer
}

fn sent(outbox: &mut Outbox) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next(Moment::now(), |_| false).map(|(id, _)| id)).collect()
}

fn memory_of(kept: &str, channel: Option<&str>) -> ServerMemory {
    if channel == Some(kept) { ServerMemory::Kept } else { ServerMemory::Lost }
}

fn outcome(answer: &mut Answer) -> Option<Error> {
    answer.try_recv().ok().and_then(Result::err)
}

#[tokio::test(start_paused = true)]
async fn requests_are_sent_once_and_in_order() {
    let mut outbox = Outbox::new(10, 10_000);
    let _answers = [1, 2, 3].map(|id| push(&mut outbox, id, publication("a", &id.to_string())));
    assert_eq!(sent(&mut outbox), [1, 2, 3]);
    assert!(sent(&mut outbox).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_next_request_is_found_fast_after_many_in_flight() {
    // It would take minutes if each request were searched after all others.
    const MANY: u64 = 100_000;
    let mut outbox = Outbox::new(usize::MAX, usize::MAX);
    let mut answers: Vec<_> = (0..MANY).map(|id| push(&mut outbox, id, publication("a", "x"))).collect();
    drop(answers.split_off(MANY as usize - 2));
    let began = std::time::Instant::now();
    assert!(sent(&mut outbox).into_iter().eq(0..MANY - 2), "but those that nobody waits for");
    assert!(outbox.take_answered(0).is_some());
    answers.push(push(&mut outbox, MANY, publication("a", "x")));
    assert_eq!(sent(&mut outbox), [MANY]);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn unsent_requests_are_sent_after_a_reconnect() {
    let mut outbox = Outbox::new(10, 10_000);
    let _answer = push(&mut outbox, 1, event(Repeat::Never));
    outbox.connection_lost();
    outbox.session_restored(|_| ServerMemory::Lost);
    assert_eq!(sent(&mut outbox), [1]);
}

#[tokio::test(start_paused = true)]
async fn interrupted_publications_are_repeated_before_newer_requests() {
    let mut outbox = Outbox::new(10, 10_000);
    let _old = [1, 2].map(|id| push(&mut outbox, id, publication("a", &id.to_string())));
    assert_eq!(sent(&mut outbox), [1, 2]);
    outbox.connection_lost();
    let _new = push(&mut outbox, 3, publication("a", "3"));
    outbox.session_restored(|channel| memory_of("a", channel));
    assert_eq!(sent(&mut outbox), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn interrupted_publications_fail_if_the_server_lost_their_keys() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut kept = push(&mut outbox, 1, publication("kept", "1"));
    let mut gone = push(&mut outbox, 2, publication("gone", "2"));
    sent(&mut outbox);
    outbox.connection_lost();
    outbox.session_restored(|channel| memory_of("kept", channel));
    assert!(outcome(&mut kept).is_none());
    assert!(matches!(outcome(&mut gone), Some(Error::OutcomeUnknown)));
    assert_eq!(sent(&mut outbox), [1]);
}

#[tokio::test(start_paused = true)]
async fn interrupted_events_are_repeated_only_if_that_is_harmless() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut once = push(&mut outbox, 1, event(Repeat::Never));
    let mut again = push(&mut outbox, 2, event(Repeat::Harmless));
    sent(&mut outbox);
    outbox.connection_lost();
    assert!(matches!(outcome(&mut once), Some(Error::OutcomeUnknown)));
    outbox.session_restored(|_| ServerMemory::Lost);
    assert!(outcome(&mut again).is_none());
    assert_eq!(sent(&mut outbox), [2]);
}

#[tokio::test(start_paused = true)]
async fn each_phase_expires_with_its_own_error() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut sent_one = push(&mut outbox, 1, publication("a", "1"));
    sent(&mut outbox);
    let mut waiting = push(&mut outbox, 2, publication("a", "2"));
    assert_eq!(outbox.deadline(), Some(Instant::now() + Duration::from_secs(10)));
    tokio::time::advance(Duration::from_secs(10)).await;
    outbox.expire(Moment::now());
    assert!(matches!(outcome(&mut sent_one), Some(Error::Timeout)));
    tokio::time::advance(Duration::from_secs(20)).await;
    outbox.expire(Moment::now());
    assert!(matches!(outcome(&mut waiting), Some(Error::Expired)));
    assert_eq!((outbox.deadline(), outbox.bytes), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn interrupted_requests_expire_with_an_unknown_outcome() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut cut = push(&mut outbox, 1, publication("a", "1"));
    sent(&mut outbox);
    outbox.connection_lost();
    tokio::time::advance(Duration::from_secs(30)).await;
    outbox.expire(Moment::now());
    assert!(matches!(outcome(&mut cut), Some(Error::OutcomeUnknown)));
}

#[tokio::test(start_paused = true)]
async fn the_outbox_is_bounded_in_number_and_bytes() {
    let mut outbox = Outbox::new(2, 10_000);
    let _kept = [1, 2].map(|id| push(&mut outbox, id, publication("a", "x")));
    let mut third = push(&mut outbox, 3, publication("a", "x"));
    assert!(matches!(outcome(&mut third), Some(Error::OutboxFull)));
    let mut outbox = Outbox::new(10, 1_000);
    let _kept = push(&mut outbox, 1, publication("a", "x"));
    let mut large = push(&mut outbox, 2, publication("a", &"x".repeat(800)));
    assert!(matches!(outcome(&mut large), Some(Error::OutboxFull)));
}

#[tokio::test(start_paused = true)]
async fn a_request_larger_than_the_outbox_is_unsendable() {
    let mut outbox = Outbox::new(10, 1_000);
    let mut large = push(&mut outbox, 1, publication("a", &"x".repeat(1_000)));
    let error = outcome(&mut large).unwrap();
    assert!(matches!(error, Error::Unsendable(_)) && !error.is_temporary(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn requests_with_dropped_futures_are_not_sent_and_make_room() {
    let mut outbox = Outbox::new(1, 10_000);
    drop(push(&mut outbox, 1, publication("a", "1")));
    let _second = push(&mut outbox, 2, publication("a", "2"));
    assert_eq!(sent(&mut outbox), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_matched_to_its_request_once() {
    let mut outbox = Outbox::new(10, 10_000);
    let _answer = push(&mut outbox, 7, publication("a", "1"));
    sent(&mut outbox);
    assert!(outbox.take_answered(7).is_some() && outbox.take_answered(7).is_none());
    assert_eq!(outbox.bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_not_repeated_once_its_key_may_have_expired() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut late = push_for(&mut outbox, 1, publication("a", "1"), Duration::from_secs(3_600));
    let mut again = push_for(&mut outbox, 2, event(Repeat::Harmless), Duration::from_secs(3_600));
    sent(&mut outbox);
    outbox.connection_lost();
    tokio::time::advance(Duration::from_secs(269)).await;
    outbox.session_restored(|_| ServerMemory::Kept);
    assert_eq!(sent(&mut outbox), [1, 2], "the server remembers the key");
    outbox.connection_lost();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(sent(&mut outbox), [2], "the first time counts, not the last");
    assert!(matches!(outcome(&mut late), Some(Error::OutcomeUnknown)));
    assert!(outcome(&mut again).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_publication_fails_when_its_key_may_have_expired() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut late = push_for(&mut outbox, 1, publication("a", "1"), Duration::MAX);
    sent(&mut outbox);
    outbox.connection_lost();
    assert_eq!(outbox.deadline(), Some(Instant::now() + Duration::from_secs(270)));
    tokio::time::advance(Duration::from_secs(270)).await;
    outbox.expire(Moment::now());
    assert!(matches!(outcome(&mut late), Some(Error::OutcomeUnknown)));
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_not_repeated_after_an_epoch_change() {
    let mut outbox = Outbox::new(10, 10_000);
    let mut before = push(&mut outbox, 1, publication("a", "1"));
    let mut elsewhere = push(&mut outbox, 2, publication("b", "2"));
    sent(&mut outbox);
    outbox.forget_keys("a");
    let mut after = push(&mut outbox, 3, publication("a", "3"));
    sent(&mut outbox);
    outbox.connection_lost();
    outbox.session_restored(|_| ServerMemory::Kept);
    assert_eq!(sent(&mut outbox), [2, 3]);
    assert!(matches!(outcome(&mut before), Some(Error::OutcomeUnknown)));
    assert!(outcome(&mut elsewhere).is_none() && outcome(&mut after).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_endless_timeout_never_expires() {
    let mut outbox = Outbox::new(10, 10_000);
    let (reply, mut answer) = oneshot::channel();
    let expires = after(Instant::now(), Duration::MAX);
    outbox.push(
        1,
        Entry {
            number: 1,
            draft: event(Repeat::Never),
            reply,
            expires,
            timeout: Duration::MAX,
            is_volatile: false,
        },
    );
    assert_eq!(sent(&mut outbox), [1]);
    outbox.expire(Moment::now());
    assert!(outcome(&mut answer).is_none());
}

#[tokio::test(start_paused = true)]
async fn held_requests_keep_their_place_and_block_no_others() {
    let mut outbox = Outbox::new(10, 10_000);
    let channel = |id: u64| if id % 2 == 1 { "held" } else { "a" };
    let _answers: Vec<_> =
        (1..=6).map(|id| push(&mut outbox, id, publication(channel(id), &id.to_string()))).collect();
    let is_held = |channel: &str| channel == "held";
    let others: Vec<_> =
        std::iter::from_fn(|| outbox.next(Moment::now(), is_held).map(|(id, _)| id)).collect();
    assert_eq!(others, [2, 4, 6]);
    assert!(outbox.take_answered(4).is_some());
    assert_eq!(sent(&mut outbox), [1, 3, 5]);
    let last = outbox.take_back().unwrap();
    assert!(matches!(&last.draft, Draft::Publish { key, .. } if key == "k-5"));
    assert!(sent(&mut outbox).is_empty());
    outbox.connection_lost();
    assert_eq!(sent(&mut outbox), [1, 2, 3, 6], "after a loss in their order");
}
