//! The program equals that of the README, and two users can talk through its callbacks.

use super::{say, welcome};
use hauyna::{Handler, Hub, Reject, json};
use hauyna_test::TestServer;

#[test]
fn the_readme_shows_this_program() {
    let program = include_str!("main.rs");
    let start = program.find("use hauyna").expect("the program has imports");
    let end = program.find("\n#[cfg(test)]").expect("the program names its tests");
    assert!(include_str!("../../../README.md").contains(&program[start..end]));
}

#[test]
fn the_address_is_printed_after_it_is_bound() {
    let program = include_str!("main.rs");
    let [bound, printed] =
        ["TcpListener::bind(", "println!("].map(|call| program.find(call).expect("both calls"));
    assert!(bound < printed, "a program that cannot listen must not say that it does");
}

#[tokio::test]
async fn two_people_talk_and_bad_input_never_reaches_the_function() {
    let chat = Handler::new()
        .identify(|request| request.query("user_id").ok_or(Reject::unauthorized("user_id is required")))
        .on_open(welcome)
        .on("chat_message", say);
    let server = TestServer::start(Hub::new(), chat);
    let mut ann = server.connect("/?user_id=ann").await;
    assert_eq!(ann.expect("system").await["message"], "ann joined");
    let mut bob = server.connect("/?user_id=bob").await;
    assert_eq!(ann.expect("system").await["message"], "bob joined");
    bob.send(json!({ "type": "chat_message", "content": 7 })).await;
    assert_eq!(bob.wait_for("error").await["error_type"], "validation_error");
    bob.send(json!({ "type": "chat_message", "content": "hello" })).await;
    let heard = ann.expect("message").await;
    assert_eq!((&heard["user"], &heard["content"]), (&json!("bob"), &json!("hello")));
    assert!(server.hub().presence().is_present("ann").await);
}
