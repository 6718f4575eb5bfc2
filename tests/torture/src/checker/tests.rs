//! The checker must find all violations and nothing else: each test feeds it a log with one fault.

use super::{Circumstances, Figures, check};
use crate::log::{Event, Line, Place};

/// A log in which each line is a millisecond later.
#[derive(Default)]
struct Log(Vec<Line>);

impl Log {
    fn add(&mut self, client: &str, event: Event) -> &mut Self {
        let at = 1000 + self.0.len() as u64;
        self.0.push(Line { at, client: client.to_owned(), event });
        self
    }

    /// Returns a log of two subscribers, and five publications of the first.
    fn usual() -> Self {
        let mut log = Self::default();
        for client in ["ts-1", "ts-2"] {
            log.state(client, "connected", false).add(client, Event::Subscribed { channel: "c".into() });
        }
        for number in 1..=5 {
            log.publish(number);
        }
        log
    }

    fn publish(&mut self, number: u64) -> &mut Self {
        let id = format!("ts-1:{number}");
        self.add("ts-1", Event::Sent { channel: "c".into(), id: id.clone() });
        self.add("ts-1", Event::Acked { channel: "c".into(), id, epoch: "e".into(), offset: number })
    }

    fn got(&mut self, client: &str, numbers: &[u64]) -> &mut Self {
        for number in numbers {
            let id = format!("ts-1:{number}");
            self.add(client, Event::Got { channel: "c".into(), id, offset: *number });
        }
        self
    }

    fn gap(&mut self, client: &str, range: Option<(u64, u64)>) -> &mut Self {
        let position = |offset| Place { epoch: "e".into(), offset };
        let (from, to) = range.map(|(from, to)| (position(from), position(to))).unzip();
        self.add(client, Event::Gap { channel: "c".into(), reason: "too_old".into(), from, to })
    }

    fn state(&mut self, client: &str, state: &str, resumed: bool) -> &mut Self {
        let (state, reason) = (state.to_owned(), String::new());
        self.add(client, Event::State { state, resumed, reason })
    }

    fn leave(&mut self, client: &str, user: &str) -> &mut Self {
        let presence = Event::Presence { channel: "c".into(), change: "leave".into(), user: user.into() };
        self.add(client, presence)
    }

    fn figures(&self) -> Figures {
        self.under(Circumstances { restart: None, grace: 5000 })
    }

    fn under(&self, circumstances: Circumstances) -> Figures {
        check(std::slice::from_ref(&self.0), circumstances).together()
    }
}

#[test]
fn a_run_in_which_all_is_well_has_no_violation() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2, 3, 4, 5]);
    let figures = log.figures();
    assert!(!figures.is_violated(), "{figures:?}");
    assert_eq!((figures.clients, figures.sent, figures.acked, figures.got), (2, 5, 5, 10));
}

#[test]
fn a_publication_that_one_subscriber_did_not_get_is_a_loss_in_the_middle_and_at_either_end() {
    for missing in 1..=5 {
        let mut log = Log::usual();
        let others: Vec<u64> = (1..=5).filter(|number| *number != missing).collect();
        log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &others);
        assert_eq!(log.figures().losses, 1, "without {missing}");
    }
    let mut nothing = Log::usual();
    nothing.got("ts-1", &[1, 2, 3, 4, 5]);
    assert_eq!(nothing.figures().losses, 5);
}

#[test]
fn what_a_gap_was_told_over_is_not_a_silent_loss_but_what_lies_beside_it_is() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1]).gap("ts-2", None).got("ts-2", &[4, 5]);
    assert_eq!((log.figures().losses, log.figures().gaps["too_old"]), (0, 1));
    // The gap was reported before the first message, but the loss was after it.
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).gap("ts-2", None).got("ts-2", &[1, 4, 5]);
    assert_eq!(log.figures().losses, 2);
    let mut tail = Log::usual();
    tail.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2]).gap("ts-2", None);
    assert_eq!(tail.figures().losses, 0);
}

#[test]
fn a_gap_with_positions_covers_exactly_these_wherever_it_is_told() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 5]).gap("ts-2", Some((1, 3)));
    assert_eq!(log.figures().losses, 1);
}

#[test]
fn a_gap_told_to_one_excuses_nobody_else() {
    let mut log = Log::usual();
    log.gap("ts-1", None).got("ts-1", &[5]).got("ts-2", &[5]);
    assert_eq!(log.figures().losses, 4);
}

#[test]
fn a_message_that_comes_twice_is_a_duplicate() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2, 3, 3, 4, 5, 1]);
    let figures = log.figures();
    assert_eq!((figures.duplicates, figures.losses, figures.reorderings), (2, 0, 0));
}

#[test]
fn a_publication_that_was_published_twice_is_a_duplicate_though_it_failed() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2, 3, 4, 5]);
    log.add("ts-1", Event::Sent { channel: "c".into(), id: "ts-1:6".into() });
    let failed = Event::Failed { channel: "c".into(), id: "ts-1:6".into(), error: "outcome_unknown".into() };
    log.add("ts-1", failed).got("ts-2", &[6, 6]);
    let figures = log.figures();
    assert_eq!((figures.duplicates, figures.losses, figures.failed["outcome_unknown"]), (1, 0, 1));
}

#[test]
fn a_message_behind_a_later_one_is_a_reordering_also_where_it_was_never_acknowledged() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 3, 2, 4, 5]);
    let figures = log.figures();
    assert_eq!((figures.reorderings, figures.losses, figures.duplicates), (1, 0, 0));
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2, 3, 4, 5, 7, 6]);
    assert_eq!(log.figures().reorderings, 1);
}

#[test]
fn two_publishers_have_one_order_that_of_the_channel() {
    let mut log = Log::usual();
    log.add("ts-2", Event::Sent { channel: "c".into(), id: "ts-2:1".into() });
    let (id, epoch) = ("ts-2:1".to_owned(), "e".to_owned());
    log.add("ts-2", Event::Acked { channel: "c".into(), id: id.clone(), epoch, offset: 6 });
    log.got("ts-1", &[1, 2, 3, 4]).add("ts-1", Event::Got { channel: "c".into(), id, offset: 6 });
    log.got("ts-1", &[5]).got("ts-2", &[1, 2, 3, 4, 5]);
    let figures = log.figures();
    assert_eq!((figures.reorderings, figures.losses), (1, 1));
}

#[test]
fn epochs_follow_each_other_and_a_gap_reaches_across() {
    let mut log = Log::usual();
    for number in 6..=8 {
        let id = format!("ts-1:{number}");
        log.add("ts-1", Event::Sent { channel: "c".into(), id: id.clone() });
        let (channel, epoch) = ("c".to_owned(), "second".to_owned());
        log.add("ts-1", Event::Acked { channel, id, epoch, offset: number - 5 });
    }
    log.got("ts-1", &[1, 2, 3, 4, 5, 6, 7, 8]).got("ts-2", &[1, 2, 3]).gap("ts-2", None).got("ts-2", &[7, 8]);
    let figures = log.figures();
    assert_eq!((figures.losses, figures.reorderings), (0, 0));
    let mut silent =
        Log(log.0.iter().filter(|line| !matches!(line.event, Event::Gap { .. })).cloned().collect());
    assert_eq!(silent.got("ts-2", &[]).figures().losses, 3);
}

#[test]
fn a_publication_without_an_outcome_is_a_violation() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2, 3, 4, 5]);
    log.add("ts-1", Event::Sent { channel: "c".into(), id: "ts-1:6".into() });
    assert_eq!(log.figures().unanswered, 1);
    assert!(log.figures().is_violated());
}

#[test]
fn a_leave_is_a_flap_unless_the_user_was_away_for_the_grace_time_or_the_server_restarted() {
    let mut here = Log::default();
    here.state("ts-1", "connected", false).state("ts-2", "connected", false).leave("ts-1", "ts-2");
    assert_eq!(here.figures().flaps, 1);
    let mut blip = Log::default();
    blip.state("ts-1", "connected", false).state("ts-2", "connected", false);
    blip.state("ts-2", "reconnecting", false).leave("ts-1", "ts-2").state("ts-2", "connected", true);
    assert_eq!(blip.figures().flaps, 1);
    assert_eq!(blip.under(Circumstances { restart: Some((0, 9000)), grace: 5000 }).flaps, 0);
    assert_eq!(blip.under(Circumstances { restart: None, grace: 1 }).flaps, 0);
    let mut over = Log::default();
    over.state("ts-1", "connected", false).state("ts-2", "connected", false);
    over.add("ts-2", Event::Closing).leave("ts-1", "ts-2");
    assert_eq!(over.figures().flaps, 0);
}

#[test]
fn recoveries_and_resumed_sessions_are_counted_from_the_states() {
    let mut log = Log::default();
    log.state("ts-1", "connecting", false).state("ts-1", "connected", false);
    log.state("ts-1", "reconnecting", false).state("ts-1", "reconnecting", false).state(
        "ts-1",
        "connected",
        true,
    );
    // The socket was replaced without an absence, as a drain may do.
    log.state("ts-1", "connected", true).state("ts-1", "reconnecting", false);
    log.state("ts-1", "connected", false).state("ts-1", "closed", false);
    let figures = log.figures();
    assert_eq!((figures.reconnects, figures.resumed, figures.closed), (3, 2, 1));
    assert_eq!(figures.recoveries, [1, 2]);
}

#[test]
fn each_language_has_its_own_figures() {
    let mut log = Log::usual();
    log.got("ts-1", &[1, 2, 3, 4, 5]).got("ts-2", &[1, 2, 3, 4]);
    log.state("rust-1", "connected", false).add("rust-1", Event::Subscribed { channel: "c".into() });
    log.got("rust-1", &[1, 2, 3, 4, 5]);
    let verdict = check(&[log.0], Circumstances::default());
    assert_eq!((verdict.languages["ts"].losses, verdict.languages["rust"].losses), (1, 0));
    assert_eq!(verdict.examples.len(), 1);
}
