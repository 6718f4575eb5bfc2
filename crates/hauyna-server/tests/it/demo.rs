//! The program as a first user sees it: pages of other ports, a chat with history, and the page from the
//! README of the original.

use crate::common::{Client, Server, TIMEOUT, eventually, upgrade};
use serde_json::json;
use std::process::{Command, Stdio};

/// Returns the status of an upgrade for a page of this origin.
fn status(server: &Server, path: &str, origin: &str) -> u16 {
    let mut client = server.connect();
    client.send(upgrade(path, &format!("Origin: {origin}\r\n")).as_bytes());
    let head = client.head().expect("an answer");
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_page_of_another_port_is_let_in_by_an_option_that_the_log_names() {
    let vite = "http://localhost:5173";
    let refusing = Server::start();
    assert_eq!(status(&refusing, "/chat?user_id=ann&token=s3cr3t", vite), 403);
    let mut line = String::new();
    eventually("the log says what to add", TIMEOUT, || {
        let log = refusing.log();
        line = log.into_iter().find(|line| line.contains("a page of another origin")).unwrap_or_default();
        !line.is_empty()
    });
    for part in ["INFO", "hauyna::server", "--origin", &format!("origin={vite}"), "route=\"/chat\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("s3cr3t"), "{line}");
    let options = ["--origin", vite, "--origin", "capacitor://localhost"];
    for (options, allowed, refused) in [
        (&options[..], &[vite, "capacitor://localhost"][..], &["http://localhost:5174", "null"][..]),
        (&["--origin", "null"], &["null"], &[vite]),
        (
            &["--dev"],
            &[
                vite,
                "https://localhost",
                "http://127.0.0.1:3000",
                "http://[::1]:8000",
                "http://app.localhost:1",
            ],
            &["null", "http://example.com", "http://localhost.example.com", "capacitor://localhost"],
        ),
        (&["--dev", "--origin", "https://example.com"], &[vite, "https://example.com"], &["null"]),
    ] {
        let server = Server::start_with(options);
        for path in ["/chat?user_id=ann", "/echo"] {
            for origin in allowed {
                assert_eq!(status(&server, path, origin), 101, "{options:?} {origin}");
            }
            for origin in refused {
                assert_eq!(status(&server, path, origin), 403, "{options:?} {origin}");
            }
            assert_eq!(status(&server, path, "http://localhost"), 101, "its own pages, whatever is listed");
        }
    }
}

#[test]
fn an_origin_that_cannot_be_forges_no_line_and_is_no_option() {
    let server = Server::start();
    for origin in
        ["http://evil\tx", "http://evil level=ERROR", "evil", "https://a.example, https://b.example"]
    {
        assert_eq!(status(&server, "/chat?user_id=ann", origin), 403);
    }
    for wrong in ["localhost:5173", "https://example.com/chat", "*", ""] {
        let refused = Command::new(env!("CARGO_BIN_EXE_hauyna"))
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics", "off", "--origin", wrong])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), text.lines().count()), (Some(2), 1), "{wrong}: {text}");
        assert!(text.contains("--origin"), "{text}");
    }
    assert!(server.log().iter().all(|line| !line.contains("evil")), "{:?}", server.log());
}

#[test]
fn a_newcomer_finds_the_last_thousand_messages_of_a_room() {
    let server = Server::start();
    let mut ann = server.chat("ann");
    for channel in ["general", "chat", "room:7"] {
        ann.subscribe(channel);
        for number in 1..=1_001 {
            let say =
                json!({ "type": "channel_message", "id": number, "channel": channel, "content": number });
            assert_eq!(ann.verdict(say), "ack");
        }
        let mut newcomer = server.chat("bob");
        newcomer.subscribe(channel);
        let (mut said, mut since) = (Vec::new(), None);
        loop {
            let ask =
                json!({ "type": "history", "id": "h", "channel": channel, "since": since, "limit": 500 });
            let answer = newcomer.ask(ask);
            let answer = &answer["data"];
            let messages = answer["messages"].as_array().expect("a page");
            let Some(last) = messages.last() else { break };
            since = Some(json!({ "epoch": answer["epoch"], "offset": last["offset"] }));
            // Announcements of joins are no messages.
            let kept = messages.iter().filter(|message| message["type"] == "message");
            said.extend(kept.map(|message| message["content"].as_u64().unwrap()));
        }
        let whole: Vec<u64> = (1_001 - said.len() as u64 + 1..=1_001).collect();
        assert!(said == whole && said.len() >= 990, "{channel}: {said:?}");
    }
}

/// Does what the page in the README of the original does: no sub-protocol, no `id`, and it reads only the
/// types of messages. Two people have it open.
#[test]
fn the_page_of_the_original_works_to_its_last_line() {
    let server = Server::start();
    let open = |user: &str| {
        let mut page = server.open(&format!("/chat?user_id={user}"), "");
        page.say(&json!({ "type": "subscribe_channel", "channel": "chat" }));
        page
    };
    let is_shown = |page: &mut Client, user: &str, status: &str| {
        let change = page.message("presence_change");
        assert_eq!(
            (&change["user"], &change["metadata"]["status"]),
            (&json!(user), &json!(status)),
            "{change}"
        );
    };
    let is_heard = |page: &mut Client, user: &str, content: &str| {
        let message = page.message("message");
        assert_eq!((&message["user"], &message["content"]), (&json!(user), &json!(content)), "{message}");
    };
    let mut ann = open("123");
    // It receives its own message once the server has processed its subscription.
    ann.say(&json!({ "type": "channel_message", "channel": "chat", "content": "anybody here?" }));
    is_heard(&mut ann, "123", "anybody here?");
    let mut bob = open("456");
    is_shown(&mut ann, "456", "online");
    bob.say(&json!({ "type": "channel_message", "channel": "chat", "content": "I am" }));
    is_heard(&mut ann, "456", "I am");
    is_heard(&mut bob, "456", "I am");
    bob.say(&json!({ "type": "update_status", "status": "away" }));
    is_shown(&mut ann, "456", "away");
    is_shown(&mut bob, "456", "away");
    // After it loses its connection, it opens another one with the same URL.
    bob.reset();
    drop(bob);
    let mut bob = open("456");
    bob.say(&json!({ "type": "channel_message", "channel": "chat", "content": "I am back" }));
    is_heard(&mut ann, "456", "I am back");
    is_heard(&mut bob, "456", "I am back");
}
