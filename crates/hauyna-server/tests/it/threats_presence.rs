//! Attacks through presence: more members than one message can list, each with the largest status allowed,
//! and all leaving at once.

use crate::common::{Client, Server, TIMEOUT, descriptor_limit, eventually, measured};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CROWD: &str = "presence:crowd";

fn enter(client: &mut Client, metadata: &Value) -> Value {
    client.ask(json!({ "type": "subscribe_channel", "id": 1, "channel": CROWD, "metadata": metadata }))
}

/// Returns all members by the pages of the request `presence`, and the bytes of the longest page.
fn pages(asker: &mut Client) -> (BTreeSet<String>, usize) {
    let (mut users, mut longest, mut after) = (BTreeSet::new(), 0, Value::Null);
    loop {
        let request =
            json!({ "type": "presence", "id": "p", "channel": CROWD, "after": after, "limit": 1_000_000 });
        let page = asker.ask(request)["data"].clone();
        let listed = page["users"].as_object().unwrap();
        assert!(listed.len() <= 1000 && !listed.is_empty());
        let before = users.len();
        users.extend(listed.keys().cloned());
        assert_eq!(users.len(), before + listed.len(), "no member is on two pages");
        longest = longest.max(page.to_string().len());
        match page.get("next") {
            Some(next) => after = next.clone(),
            None => return (users, longest),
        }
    }
}

/// Follows the members as a client does by the protocol, from a time when they were too many to be listed
/// until these members are present.
fn follow(watcher: &mut Client, until: &BTreeSet<String>) {
    let mut known: Option<BTreeSet<String>> = None;
    let mut was_counted = false;
    let keys = |users: &Value| users.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    while !was_counted || known.as_ref() != Some(until) {
        let message = watcher.frame().json();
        match (message["type"].as_str(), &mut known) {
            (Some("occupancy"), _) => (known, was_counted) = (None, true),
            (Some("presence_state"), _) => known = Some(keys(&message["users"]).into_iter().collect()),
            (Some("presence_diff"), Some(users)) => {
                let joins = keys(&message["joins"]);
                assert!(
                    joins.iter().all(|user| users.insert(user.clone())),
                    "a member that joins was not present"
                );
                for user in message["leaves"].as_array().unwrap() {
                    assert!(users.remove(user.as_str().unwrap()), "{user} leaves once");
                }
                assert_eq!(message["count"], users.len());
            }
            (Some("presence_change"), Some(users)) => {
                let user = message["user"].as_str().unwrap();
                match message["event"].as_str() {
                    Some("join") => assert!(users.insert(user.to_owned())),
                    Some("leave") => assert!(users.remove(user), "{user} leaves once"),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[test]
fn row_37_giant_member_info_is_refused_and_costs_nobody_a_place() {
    let server = Server::start();
    let mut eve = server.chat("eve");
    let refused = enter(&mut eve, &json!({ "bio": "x".repeat(4096) }));
    assert_eq!(
        (&refused["error_type"], &refused["details"]["limit"]),
        (&json!("limit_exceeded"), &json!(4096))
    );
    assert_eq!(enter(&mut eve, &json!({ "bio": "x".repeat(4000) }))["type"], "ack");
    let status =
        |bytes| json!({ "type": "update_status", "id": 2, "status": "away", "bio": "x".repeat(bytes) });
    assert_eq!(eve.verdict(status(4096)), "limit_exceeded");
    assert_eq!(eve.verdict(status(4000)), "ack");
    assert_eq!(pages(&mut eve).0, BTreeSet::from(["eve".to_owned()]));
}

#[test]
fn row_37_thousands_of_members_are_listed_in_bounded_pages_and_all_leave_once() {
    let server = Server::start();
    // The test and the server need some more descriptors.
    let count = (descriptor_limit() / 2 - 100).min(4000);
    let (mut watcher, mut asker) = (server.chat("watcher"), server.chat("asker"));
    let mut here = BTreeSet::from(["asker".to_owned(), "watcher".to_owned()]);
    assert_eq!(enter(&mut watcher, &json!({}))["type"], "ack");
    assert_eq!(enter(&mut asker, &json!({}))["type"], "ack");
    let info = json!({ "bio": "x".repeat(4000) });
    let mut crowd = Vec::new();
    let staying = here.clone();
    for number in 0..count {
        let user = format!("member-{number}");
        let mut client = server.chat(&user);
        assert_eq!(enter(&mut client, &info)["type"], "ack");
        crowd.push(client);
        here.insert(user);
    }
    let (listed, longest) = pages(&mut asker);
    assert_eq!(listed, here);
    assert!(longest <= 300 * 1024, "a page of {longest} bytes");
    measured("members in pages of at most, bytes", format_args!("{count}, {longest}"));
    drop(crowd);
    eventually("the crowd has left", TIMEOUT * 3, || pages(&mut asker).0 == staying);
    follow(&mut watcher, &staying);
    assert!(watcher.is_silent(std::time::Duration::from_millis(600)), "and nobody leaves again");
}
