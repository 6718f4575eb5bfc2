//! The presence list against every order in which its messages may come.

use super::*;
use hauyna_protocol::received::Received;
use serde_json::json;
use tokio::time::Instant;

fn entry(status: &str) -> Value {
    json!({ "status": status, "metadata": {}, "joined_at": 1, "updated_at": 1, "connections": [
        { "connection_id": "c", "metadata": {}, "joined_at": 1 }] })
}

fn state(users: &[(&str, &str)], offset: u64) -> PresenceState {
    let users: BTreeMap<_, _> = users.iter().map(|(user, status)| (*user, entry(status))).collect();
    let text = json!({ "type": "presence_state", "channel": "a", "count": users.len(), "users": users, "offset": offset });
    match Received::read(&text.to_string()).unwrap() {
        Received::PresenceState(state) => state,
        other => panic!("{other:?}"),
    }
}

fn change(event: &str, user: &str, offset: u64) -> PresenceChange {
    let text = json!({ "type": "presence_change", "event": event, "user": user, "channel": "a", "metadata": {},
        "status": "online", "connections": 1, "timestamp": 1, "offset": offset });
    match Received::read(&text.to_string()).unwrap() {
        Received::PresenceChange(change) => change,
        other => panic!("{other:?}"),
    }
}

fn page(offset: u64, users: &[&str], next: Option<&str>) -> Option<PresencePage> {
    let users: BTreeMap<_, _> = users.iter().map(|user| (*user, entry("online"))).collect();
    let page = json!({ "channel": "a", "count": 3, "users": users, "offset": offset, "next": next });
    Some(serde_json::from_str(&page.to_string()).unwrap())
}

fn members(roster: &Roster) -> Vec<String> {
    roster.presence().users.keys().cloned().collect()
}

fn names(updates: &[PresenceUpdate]) -> Vec<(PresenceKind, &str)> {
    updates.iter().map(|update| (update.kind, update.user.as_str())).collect()
}

fn applied(applied: &ApplyResult) -> Vec<(PresenceKind, &str)> {
    match applied {
        ApplyResult::Updates(updates) => names(updates),
        ApplyResult::Skipped => panic!("nothing was skipped"),
    }
}

use PresenceKind::{Join, Leave, Update};

#[test]
fn a_new_list_reports_only_the_differences() {
    let mut roster = Roster::default();
    assert_eq!(names(&roster.apply_state(state(&[("alice", "online"), ("bob", "online")], 4))).len(), 2);
    assert_eq!(roster.apply_state(state(&[("alice", "online"), ("bob", "online")], 9)), []);
    let updates = roster.apply_state(state(&[("alice", "away"), ("carol", "online")], 12));
    assert_eq!(names(&updates), [(Leave, "bob"), (Update, "alice"), (Join, "carol")]);
}

#[test]
fn changes_are_applied_by_offset_and_old_ones_are_dropped() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 4));
    assert_eq!(applied(&roster.apply_change(change("join", "bob", 4))), []);
    assert_eq!(applied(&roster.apply_change(change("join", "bob", 5))), [(Join, "bob")]);
    assert_eq!(applied(&roster.apply_change(change("leave", "alice", 6))), [(Leave, "alice")]);
    assert_eq!(roster.presence().count, Some(1));
}

#[test]
fn a_skipped_offset_requests_the_list_and_reports_the_differences() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online"), ("bob", "online")], 4));
    assert_eq!(roster.apply_change(change("join", "dora", 7)), ApplyResult::Skipped);
    assert!(roster.start_listing(Instant::now()) && !roster.start_listing(Instant::now()), "once");
    let first = roster.take_page(page(7, &["alice", "carol"], Some("carol")));
    assert_eq!(first, (Vec::new(), PageResult::More("carol".into())));
    let (updates, PageResult::Whole) = roster.take_page(page(7, &["dora"], None)) else {
        panic!("the last page")
    };
    assert_eq!(names(&updates), [(Leave, "bob"), (Join, "carol"), (Join, "dora")]);
    assert_eq!(applied(&roster.apply_change(change("leave", "dora", 8))), [(Leave, "dora")]);
}

#[test]
fn an_occupancy_count_replaces_the_list() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 4));
    roster.apply_occupancy(5_000);
    let presence = roster.presence();
    assert_eq!((presence.count, presence.users.len(), presence.is_listed), (Some(5_000), 0, false));
    assert_eq!(applied(&roster.apply_change(change("join", "bob", 9))), [], "of a list that nobody keeps");
    roster.apply_state(state(&[("bob", "online")], 20));
    assert!(roster.presence().is_listed);
}

#[test]
fn a_member_that_joins_between_two_pages_is_listed() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 3));
    assert_eq!(roster.apply_change(change("join", "zoe", 5)), ApplyResult::Skipped);
    assert!(roster.start_listing(Instant::now()));
    roster.take_page(page(5, &["alice", "bob"], Some("bob")));
    // Aaron belongs to the first page, which has come, and the second page knows the change already.
    assert_eq!(applied(&roster.apply_change(change("join", "aaron", 6))), []);
    let (updates, paged) = roster.take_page(page(6, &["zoe"], None));
    assert_eq!(
        (names(&updates), paged),
        (vec![(Join, "bob"), (Join, "zoe"), (Join, "aaron")], PageResult::Whole)
    );
    assert_eq!(applied(&roster.apply_change(change("leave", "bob", 7))), [(Leave, "bob")]);
}

#[test]
fn a_page_that_comes_after_a_newer_list_is_dropped() {
    for newer in [
        |roster: &mut Roster| drop(roster.apply_state(state(&[("bob", "online")], 9))),
        |roster: &mut Roster| {
            roster.apply_occupancy(5_000);
        },
    ] {
        let mut roster = Roster::default();
        roster.apply_state(state(&[("alice", "online")], 3));
        assert!(roster.start_listing(Instant::now()));
        roster.take_page(page(5, &["alice"], Some("alice")));
        newer(&mut roster);
        let told = roster.presence();
        assert_eq!(roster.take_page(page(9, &["zoe"], None)), (Vec::new(), PageResult::Whole));
        assert_eq!(roster.presence(), told);
    }
}

#[test]
fn pages_of_a_refused_list_are_forgotten() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 3));
    assert!(roster.start_listing(Instant::now()));
    roster.take_page(page(5, &["alice", "ghost"], Some("ghost")));
    assert_eq!(roster.take_page(None), (Vec::new(), PageResult::Whole));
    assert!(roster.start_listing(Instant::now()));
    roster.take_page(page(8, &["alice", "bob"], None));
    assert_eq!(members(&roster), ["alice", "bob"]);
}

#[test]
fn a_list_with_endless_pages_ends_without_new_members() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 3));
    assert!(roster.start_listing(Instant::now()));
    assert_eq!(roster.take_page(page(5, &["alice"], Some("alice"))).1, PageResult::More("alice".into()));
    assert_eq!(roster.take_page(page(5, &["alice"], Some("alice"))).1, PageResult::Whole);
    assert_eq!(members(&roster), ["alice"]);
}

#[test]
fn an_offset_skipped_during_a_request_requests_the_list_again() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 3));
    assert!(roster.start_listing(Instant::now()));
    assert_eq!(applied(&roster.apply_change(change("join", "bob", 9))), []);
    assert_eq!(roster.take_page(page(5, &["alice"], None)).1, PageResult::Skipped);
    assert!(roster.start_listing(Instant::now()));
    let (updates, paged) = roster.take_page(page(9, &["alice", "bob"], None));
    assert_eq!((names(&updates), paged), (vec![(Join, "bob")], PageResult::Whole));
}

fn change_of(user: &str, offset: u64, connections: u64, connection: Option<&str>) -> PresenceChange {
    let mut text = json!({ "type": "presence_change", "event": "update", "user": user, "channel": "a", "metadata": {},
        "status": "online", "connections": connections, "timestamp": 1, "offset": offset });
    if let Some(id) = connection {
        text["connection"] = json!({ "connection_id": id, "metadata": { "of": id }, "joined_at": 7 });
    }
    match Received::read(&text.to_string()).unwrap() {
        Received::PresenceChange(change) => change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn devices_are_known_until_one_of_several_leaves() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online")], 1));
    let devices = |roster: &Roster| roster.presence().users["alice"].devices.clone();
    assert_eq!(devices(&roster).keys().collect::<Vec<_>>(), ["c"]);
    roster.apply_change(change_of("alice", 2, 2, Some("d")));
    assert_eq!(devices(&roster).keys().collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(devices(&roster)["d"], Device { metadata: json!({ "of": "d" }), joined_at: 7 });
    roster.apply_change(change_of("alice", 3, 2, None));
    assert_eq!(devices(&roster).len(), 2, "what is the user's changes no device");
    roster.apply_change(change_of("alice", 4, 1, None));
    assert_eq!(devices(&roster).len(), 0, "one of the two went");
    assert_eq!(roster.presence().users["alice"].connections, 1);
    roster.apply_change(change_of("alice", 5, 1, Some("d")));
    assert_eq!(devices(&roster).keys().collect::<Vec<_>>(), ["d"]);
}

#[test]
fn a_snapshot_is_immutable_and_shared_until_a_change() {
    let mut roster = Roster::default();
    roster.apply_state(state(&[("alice", "online"), ("bob", "online")], 1));
    let before = roster.presence();
    assert!(Arc::ptr_eq(&before.users, &roster.presence().users));
    roster.apply_change(change("leave", "bob", 2));
    assert_eq!((before.users.len(), roster.presence().users.len()), (2, 1));
    assert!(Arc::ptr_eq(&before.users["alice"], &roster.presence().users["alice"]));
}
