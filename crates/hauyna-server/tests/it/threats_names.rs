//! Names, keys and who may reach whom: what a client of `/chat` tries with channel names, users and
//! idempotency keys that are not its own.

use crate::common::{Client, Server, TIMEOUT, measured};
use serde_json::{Value, json};
use std::time::Duration;

fn publish(channel: &str, content: impl Into<Value>, key: &str) -> Value {
    let content = content.into();
    json!({ "type": "channel_message", "id": "p", "channel": channel, "content": content, "key": key })
}

#[test]
fn reserved_names_are_out_of_reach_of_every_request() {
    let server = Server::start();
    let (mut eve, mut bob) = (server.chat("eve"), server.chat("bob"));
    for name in ["@all", "@user:bob", "@user:eve", "@group:x", "@group:", "@", "@x", "@user:"] {
        let subscribe = json!({ "type": "subscribe_channel", "id": 1, "channel": name });
        assert_eq!(eve.verdict(subscribe), "permission_denied", "{name}");
        assert_eq!(eve.verdict(publish(name, json!(1), "k")), "not_subscribed", "{name}");
        let history = json!({ "type": "history", "id": 1, "channel": name });
        assert_eq!(eve.verdict(history), "not_subscribed", "{name}");
        let leave = json!({ "type": "unsubscribe_channel", "id": 1, "channel": name });
        assert_eq!(eve.verdict(leave), "not_subscribed", "{name}");
        let who = json!({ "type": "subscribers", "id": 1, "channel": name });
        assert_eq!(eve.verdict(who), "permission_denied", "{name}");
        // The name means neither all users nor another user: no such user exists.
        let private = json!({ "type": "private", "id": 1, "to": name, "message": "reached" });
        assert_eq!(eve.verdict(private), "ack", "{name}");
    }
    for name in ["private:eve", "private:x:y"] {
        let subscribe = json!({ "type": "subscribe_channel", "id": 1, "channel": name });
        assert_eq!(eve.verdict(subscribe), "permission_denied", "{name}");
    }
    assert_eq!(eve.verdict(json!({ "type": "broadcast", "id": 1, "message": 1 })), "permission_denied");
    assert!(eve.is_silent(Duration::from_millis(100)) && bob.is_silent(Duration::from_millis(100)));
}

#[test]
fn a_user_named_like_a_reserved_channel_is_an_ordinary_user() {
    let server = Server::start();
    let mut all = server.chat("@all");
    let mut nested = server.chat("@user:bob");
    let mut bob = server.chat("bob");
    let mut eve = server.chat("eve");
    for (to, content) in [("@all", 1), ("@user:bob", 2), ("bob", 3)] {
        assert_eq!(eve.verdict(json!({ "type": "private", "id": 1, "to": to, "message": content })), "ack");
    }
    for (client, content) in [(&mut all, 1), (&mut nested, 2), (&mut bob, 3)] {
        let message = client.message("private");
        assert_eq!((&message["message"], &message["from"]), (&json!(content), &json!("eve")));
        assert!(client.is_silent(Duration::from_millis(50)));
    }
}

#[test]
fn a_private_message_to_oneself_comes_once_to_each_connection() {
    let server = Server::start();
    let (mut first, mut second) = (server.chat("me"), server.chat("me"));
    first.say(&json!({ "type": "private", "id": 1, "to": "me", "message": "note" }));
    let mut kinds = [first.frame(), first.frame()].map(|frame| frame.json()["type"].clone());
    kinds.sort_by_key(Value::to_string);
    assert_eq!(kinds, [json!("ack"), json!("private")]);
    assert_eq!(second.message("private")["message"], "note");
    assert!(first.is_silent(Duration::from_millis(50)) && second.is_silent(Duration::from_millis(50)));
}

#[test]
fn idempotency_keys_belong_to_one_user_and_one_channel() {
    let server = Server::start();
    let mut alice = server.chat("alice");
    let mut bob = server.chat("bob");
    for client in [&mut alice, &mut bob] {
        client.subscribe("one");
        client.subscribe("two");
    }
    let offset = |client: &mut Client, channel: &str, content: &str, key: &str| {
        client.ask(publish(channel, json!(content), key))["data"]["offset"].clone()
    };
    assert_eq!(offset(&mut alice, "one", "a", "k"), 1);
    assert_eq!(offset(&mut alice, "one", "a again", "k"), 1, "a repetition is not published");
    assert_eq!(offset(&mut bob, "one", "b", "k"), 2, "another user's key is another key");
    assert_eq!(offset(&mut alice, "two", "c", "k"), 1, "and so is one in another channel");
    assert_eq!(offset(&mut alice, "one", "d", "k2"), 3);
    // The contents of a key cannot make it equal another key.
    let mut odd = server.chat("alic");
    odd.subscribe("one");
    assert_eq!(offset(&mut odd, "one", "e", "ek"), 4);
    // On another connection of the same user it is the same key.
    let mut again = server.chat("alice");
    again.subscribe("one");
    assert_eq!(offset(&mut again, "one", "f", "k"), 1);
    let history = again.ask(json!({ "type": "history", "id": 1, "channel": "one" }));
    let contents: Vec<&Value> =
        history["data"]["messages"].as_array().unwrap().iter().map(|m| &m["content"]).collect();
    assert_eq!(contents, ["a", "b", "d", "e"]);
    let private = |client: &mut Client| {
        client.verdict(json!({ "type": "private", "id": 1, "to": "odd", "message": 1, "key": "k" }))
    };
    assert_eq!([private(&mut alice), private(&mut alice), private(&mut bob)], ["ack", "ack", "ack"]);
}

#[test]
fn every_character_that_is_no_control_may_stand_in_a_name_and_means_nothing() {
    let server = Server::start();
    let mut client = server.chat("a");
    let mut other = server.chat("b");
    let fine = [
        " ",
        "*",
        ">",
        "a.b",
        "news.[ab]",
        "{x}",
        "{*any}",
        "#",
        "%00",
        "%0a",
        "\\",
        "\"",
        "'",
        "</script>",
        "$(id)",
        "..",
        "../../etc/passwd",
        "a/b",
        "a?b",
        ":",
        "::",
        "general ",
        "GENERAL",
        "é",
        "e\u{301}",
        "\u{feff}",
        "\u{202e}abc",
        "\u{200b}",
        "\u{2028}",
        "\u{10ffff}",
        "\u{e000}",
        "\u{fffd}",
        "-",
        "null",
        "__proto__",
    ];
    for name in fine {
        assert_eq!(client.subscribe(name)["channel"], name);
        other.subscribe(name);
        assert_eq!(client.verdict(publish(name, json!(name), "k")), "ack", "{name:?}");
        let message = other.message("message");
        assert_eq!((&message["channel"], &message["content"]), (&json!(name), &json!(name)));
        for client in [&mut client, &mut other] {
            client.verdict(json!({ "type": "unsubscribe_channel", "id": "u", "channel": name }));
        }
    }
    let controls = (0..0x20_u8).map(char::from).chain('\u{7f}'..='\u{9f}');
    for control in controls {
        let name = format!("a{control}b");
        let subscribe = json!({ "type": "subscribe_channel", "id": 1, "channel": name });
        assert_eq!(client.verdict(subscribe), "validation_error", "{name:?}");
        let private = json!({ "type": "private", "id": 1, "to": name, "message": 1 });
        assert_eq!(client.verdict(private), "validation_error", "{name:?}");
    }
    client.stream.set_read_timeout(Some(TIMEOUT)).unwrap();
}

#[test]
fn channels_that_a_client_publishes_in_once_are_bounded_in_memory() {
    let server = Server::start();
    let mut client = server.chat("a");
    let mut round = |from: usize, to: usize| {
        for n in from..to {
            let name = format!("{n}-{}", "x".repeat(200));
            client.say(&json!({ "type": "subscribe_channel", "channel": name }));
            client.say(&json!({ "type": "channel_message", "channel": name, "content": n }));
            client.say(&json!({ "type": "unsubscribe_channel", "channel": name }));
            if n % 500 == 499 {
                while client.ask(json!({ "type": "ping", "id": from }))["type"] != "pong" {}
            }
        }
        client.ask(json!({ "type": "ping", "id": from }));
    };
    round(0, 1000);
    let rss = server.rss();
    round(1000, 11_000);
    let each = (server.rss() - rss) * 1024 / 10_000;
    measured("a channel that was published in once", format!("{each} bytes"));
    assert!(each < 4096, "{each} bytes a channel");
}
