//! Positions, duplicates and gaps, rule by rule.

use super::*;

const OLD: Epoch = Epoch::new(1);
const NEW: Epoch = Epoch::new(2);

fn at(epoch: Epoch, offset: u64) -> Position {
    Position { epoch, offset }
}

/// A `subscribed` message; `rest` holds further fields.
fn entry(position: Option<Position>, rest: &str) -> Subscribed {
    let state =
        position.map(|at| format!(r#""epoch":"{}","offset":{},"#, at.epoch, at.offset)).unwrap_or_default();
    serde_json::from_str(&format!(r#"{{"channel":"a",{state}{rest}}}"#)).unwrap()
}

fn live_at(offset: u64) -> Session {
    let mut session = Session::default();
    session.set_wanted("a", None);
    session.set_live(&entry(Some(at(OLD, offset)), r#""recoverable":true"#));
    session
}

#[test]
fn offsets_up_to_the_position_are_duplicates() {
    let mut session = live_at(5);
    let verdicts = [6, 9].map(|offset| session.admit("a", Some(offset), String::new));
    // Offsets 7 and 8 were publications for other subscribers, so they are no gap.
    assert_eq!(verdicts, [Verdict::Deliver; 2]);
    assert!(session.accept_replayed("a", Some(12)));
    let verdicts = [10, 12, 13].map(|offset| session.admit("a", Some(offset), String::new));
    use Verdict::{Deliver, Drop};
    assert_eq!(verdicts, [Drop, Drop, Deliver]);
    assert_eq!(session.admit("a", None, String::new), Deliver);
    assert_eq!(session.positions(), [("a".into(), at(OLD, 13))]);
}

#[test]
fn an_unechoed_publication_advances_the_position_if_it_is_next() {
    let mut session = live_at(5);
    assert!(!session.note_own_publication("a", at(OLD, 7)), "6 may be on its way");
    assert!(session.note_own_publication("a", at(OLD, 6)) && !session.note_own_publication("a", at(OLD, 6)));
    assert!(!session.note_own_publication("a", at(NEW, 7)) && !session.note_own_publication("b", at(OLD, 7)));
    assert_eq!(session.positions(), [("a".into(), at(OLD, 6))]);
    assert_eq!(session.admit("a", Some(7), String::new), Verdict::Deliver);
    let mut session = live_at(5);
    assert!(session.note_own_publication("a", at(OLD, 6)));
    assert_eq!(session.admit("a", Some(6), String::new), Verdict::NumberingRestarted, "it is no echo");
}

#[test]
fn a_recovered_subscription_keeps_its_own_position() {
    let mut session = live_at(5);
    session.connection_lost();
    assert_eq!(session.positions(), [("a".into(), at(OLD, 5))]);
    let missed = session.set_live(&entry(Some(at(OLD, 9)), r#""recoverable":true,"recovered":true"#));
    assert_eq!(missed, MissedMessages::Nothing);
    assert_eq!(session.admit("a", Some(6), String::new), Verdict::Deliver, "what was missed follows");
    assert!(session.has_same_epoch("a"));
}

#[test]
fn a_failed_recovery_is_a_gap_and_adopts_the_servers_position() {
    for (reason, epoch) in
        [("epoch_changed", NEW), ("too_old", OLD), ("too_many", OLD), ("unknown_position", OLD)]
    {
        let mut session = live_at(5);
        session.connection_lost();
        let rest = format!(r#""recoverable":true,"recovered":false,"reason":"{reason}""#);
        let MissedMessages::Gap(gap) = session.set_live(&entry(Some(at(epoch, 9)), &rest)) else {
            panic!("{reason}")
        };
        assert_eq!((gap.reason.as_str(), gap.from, gap.to), (reason, Some(at(OLD, 5)), Some(at(epoch, 9))));
        assert_eq!(session.admit("a", Some(10), String::new), Verdict::Deliver);
        assert_eq!(session.has_same_epoch("a"), epoch == OLD, "{reason}");
    }
}

#[test]
fn a_channel_without_history_has_a_gap_after_a_reconnect() {
    let mut session = Session::default();
    session.set_wanted("a", None);
    assert_eq!(session.set_live(&entry(None, r#""recoverable":false"#)), MissedMessages::Nothing);
    assert_eq!(session.positions(), []);
    session.connection_lost();
    let MissedMessages::Gap(gap) = session.set_live(&entry(None, r#""recoverable":false"#)) else {
        panic!("a gap")
    };
    assert_eq!(gap.reason, GapReason::NotRecoverable);
    assert!(!session.has_same_epoch("a"), "nothing proves that the server remembers");
}

#[test]
fn a_subscription_remade_by_the_server_catches_up_from_history() {
    let mut session = live_at(5);
    session.connection_lost();
    assert_eq!(
        session.set_live(&entry(Some(at(OLD, 9)), r#""recoverable":true"#)),
        MissedMessages::InHistory
    );
    assert_eq!(session.admit("a", Some(10), String::new), Verdict::Hold);
    assert!((6..=9).all(|offset| session.accept_replayed("a", Some(offset))));
    session.finish_catch_up("a");
    assert!(session.accept_replayed("a", Some(10)));
    assert_eq!(session.admit("a", Some(11), String::new), Verdict::Deliver);

    let mut session = live_at(5);
    session.connection_lost();
    let missed = session.set_live(&entry(Some(at(NEW, 0)), r#""recoverable":true"#));
    assert!(matches!(missed, MissedMessages::Gap(gap) if gap.reason.as_str() == "epoch_changed"));
}

#[test]
fn a_gap_is_recovered_from_the_clients_position() {
    let mut session = live_at(5);
    assert_eq!(session.note_gap("a", Some(at(OLD, 5)), 3), MissedMessages::InHistory);
    assert_eq!(session.channel("a").unwrap().position, Some(at(OLD, 5)));
    assert_eq!(session.admit("a", Some(9), String::new), Verdict::Hold);
    assert!(session.accept_replayed("a", Some(6)) && !session.accept_replayed("a", Some(6)));
}

#[test]
fn a_gap_without_history_is_reported() {
    let mut session = Session::default();
    session.set_wanted("a", None);
    session.set_live(&entry(None, r#""recoverable":false"#));
    let unknown = Some(at(Epoch::UNKNOWN, 0));
    let MissedMessages::Gap(told) = session.note_gap("a", unknown, 3) else { panic!("it is silent") };
    assert_eq!((told.reason, told.missed), (GapReason::Dropped, Some(3)));
    assert_eq!(session.admit("a", Some(9), String::new), Verdict::Deliver);
}

#[test]
fn a_gap_at_another_position_is_recovered_from_the_clients_position() {
    for before in [at(Epoch::UNKNOWN, 0), at(Epoch::UNKNOWN, 99), at(OLD, 99), at(OLD, 1)] {
        let mut session = live_at(5);
        assert_eq!(session.note_gap("a", Some(before), 3), MissedMessages::InHistory);
        assert_eq!(session.channel("a").unwrap().position, Some(at(OLD, 5)), "{before:?}");
    }
}

#[test]
fn a_gap_in_another_epoch_is_reported_and_recovered() {
    let mut session = live_at(5);
    let MissedMessages::GapThenHistory(told) = session.note_gap("a", Some(at(NEW, 2)), 3) else {
        panic!("it is silent")
    };
    assert_eq!(
        (told.reason, told.from, told.to),
        (GapReason::EpochChanged, Some(at(OLD, 5)), Some(at(NEW, 2)))
    );
    assert!(session.accept_replayed("a", Some(3)));
}

#[test]
fn a_gap_without_offsets_keeps_the_position() {
    let mut session = live_at(5);
    assert_eq!(session.note_gap("a", None, 0), MissedMessages::Nothing);
    assert_eq!(session.admit("a", Some(6), String::new), Verdict::Deliver);
}

#[test]
fn a_gap_of_an_ended_subscription_is_ignored() {
    let mut session = live_at(5);
    session.connection_lost();
    assert_eq!(session.note_gap("a", Some(at(OLD, 5)), 3), MissedMessages::Nothing);
    assert_eq!(session.channel("a").unwrap().position, Some(at(OLD, 5)));
}

#[test]
fn the_first_subscription_recovers_from_the_applications_position() {
    let mut session = Session::default();
    session.set_wanted("a", Some(at(OLD, 5)));
    let rest = r#""recoverable":true,"recovered":false,"reason":"too_old""#;
    assert!(matches!(session.set_live(&entry(Some(at(OLD, 90)), rest)), MissedMessages::Gap(_)));
}

#[test]
fn after_a_loss_only_wanted_channels_are_absent() {
    let mut session = live_at(5);
    let mut made = entry(None, r#""recoverable":false"#);
    made.channel = "made".into();
    session.set_live(&made);
    session.connection_lost();
    assert_eq!(session.absent_channels(), ["a"]);
}

#[test]
fn an_unknown_epoch_proves_nothing() {
    assert!(!same_epoch(Some(at(Epoch::UNKNOWN, 1)), Some(at(Epoch::UNKNOWN, 1))));
    assert!(!same_epoch(None, None));
}

#[test]
fn a_live_subscription_adopts_a_new_epoch_without_a_loss() {
    for offset in [0, 5, 150] {
        let mut session = live_at(5);
        let turned = entry(Some(at(NEW, offset)), r#""recoverable":true,"recovered":true"#);
        assert!(session.has_other_epoch(&turned));
        assert_eq!(session.set_live(&turned), MissedMessages::Nothing);
        assert_eq!(session.admit("a", Some(offset + 1), String::new), Verdict::Deliver);
        assert_eq!(session.positions(), [("a".into(), at(NEW, offset + 1))]);
    }
}

#[test]
fn a_live_subscription_reports_a_gap_if_the_epoch_change_lost_messages() {
    let mut session = live_at(5);
    let rest = r#""recoverable":true,"recovered":false,"reason":"epoch_changed""#;
    let MissedMessages::Gap(gap) = session.set_live(&entry(Some(at(NEW, 0)), rest)) else {
        panic!("it is silent")
    };
    assert_eq!((gap.reason, gap.from, gap.to), (GapReason::EpochChanged, Some(at(OLD, 5)), Some(at(NEW, 0))));
    assert_eq!(session.admit("a", Some(1), String::new), Verdict::Deliver);
}

#[test]
fn a_repeated_confirmation_moves_no_position_back() {
    let mut session = live_at(5);
    assert_eq!(session.admit("a", Some(9), String::new), Verdict::Deliver);
    for rest in [
        r#""recoverable":true,"recovered":true"#,
        r#""recoverable":true,"recovered":false,"reason":"epoch_changed""#,
        r#""recoverable":true"#,
    ] {
        assert_eq!(session.set_live(&entry(Some(at(OLD, 7)), rest)), MissedMessages::Nothing);
        assert_eq!(session.positions(), [("a".into(), at(OLD, 9))], "{rest}");
    }
}

#[test]
fn a_recovery_in_another_epoch_keeps_the_offset_up_to_the_end() {
    for (end, expected) in [(9, 5), (5, 5), (3, 3)] {
        let mut session = live_at(5);
        session.connection_lost();
        assert_eq!(session.positions(), [("a".into(), at(OLD, 5))]);
        let answer = entry(Some(at(NEW, end)), r#""recoverable":true,"recovered":true"#);
        assert_eq!(session.set_live(&answer), MissedMessages::Nothing);
        assert_eq!(session.positions(), [("a".into(), at(NEW, expected))]);
        assert!(!session.has_same_epoch("a"), "keys may be forgotten with the epoch");
    }
}

#[test]
fn a_numbering_that_goes_back_is_detected() {
    let mut session = live_at(41);
    assert_eq!(session.admit("a", Some(1), String::new), Verdict::NumberingRestarted);
    assert_eq!(session.admit("a", Some(2), String::new), Verdict::Hold, "until the history has answered");
    assert!(session.adopt_page_end("a", at(OLD, 41)));
    assert_eq!(session.admit("a", Some(3), String::new), Verdict::Drop, "it is the same numbering still");
    let mut session = live_at(5);
    assert_eq!(session.admit("a", Some(6), String::new), Verdict::Deliver);
    assert_eq!(session.admit("a", Some(6), String::new), Verdict::NumberingRestarted);
    session.forget_position("a");
    session.finish_catch_up("a");
    assert_eq!(session.admit("a", Some(2), String::new), Verdict::Deliver, "offsets say nothing any more");
}

#[test]
fn live_messages_that_the_history_had_are_duplicates() {
    let mut session = live_at(5);
    assert_eq!(session.note_gap("a", Some(at(OLD, 5)), 2), MissedMessages::InHistory);
    assert!((6..=20).all(|offset| session.accept_replayed("a", Some(offset))));
    session.finish_catch_up("a");
    assert_eq!([8, 9, 20, 21].map(|offset| session.admit("a", Some(offset), String::new)), {
        use Verdict::{Deliver, Drop};
        [Drop, Drop, Drop, Deliver]
    });
}

#[test]
fn a_page_of_another_epoch_must_continue_the_numbering() {
    let mut session = live_at(5);
    assert!(session.adopt_page_end("a", at(NEW, 9)));
    assert_eq!(session.positions(), [("a".into(), at(NEW, 5))]);
    assert!(!session.adopt_page_end("a", at(NEW, 4)));
}
