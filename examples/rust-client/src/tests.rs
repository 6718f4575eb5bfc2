//! The chat over real sockets: two people talk, and one is cut off in the middle.

use super::*;
use hauyna::channel::ClientEvents;
use hauyna::connection::RetryPolicy;
use hauyna::{ChannelOptions, Handler, Hub};
use hauyna_test::{Cut, FaultProxy, TestServer};
use std::time::Duration;
use tokio::io::{DuplexStream, Lines, duplex};

struct Terminal {
    keys: DuplexStream,
    screen: Lines<BufReader<DuplexStream>>,
}

impl Terminal {
    /// Starts a user's chat.
    fn open(url: &str) -> Self {
        let (keys, lines) = duplex(1024);
        let (screen, out) = duplex(1 << 16);
        let client = Client::builder(url).connect().unwrap();
        tokio::spawn(async move { chat(&client, "general", BufReader::new(lines), out).await.unwrap() });
        Self { keys, screen: BufReader::new(screen).lines() }
    }

    async fn write(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Waits for a line with this beginning.
    async fn see(&mut self, start: &str) -> String {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(20), self.screen.next_line()).await;
            let line = line.expect("a line in time").unwrap().expect("the chat goes on");
            if line.starts_with(start) {
                return line;
            }
        }
    }
}

#[tokio::test]
async fn two_people_talk_and_one_who_is_cut_off_misses_nothing() {
    let base_delay = Duration::from_millis(20);
    let hub = Hub::builder()
        .channels("general", ChannelOptions::new().history(100, Duration::from_secs(60)))
        .retry_policy(RetryPolicy::default().base_delay(base_delay).max_delay(base_delay))
        .build();
    let server = TestServer::start(hub, Handler::new().identify(|request| Ok(request.query("user_id"))));
    let proxy = FaultProxy::start(server.address()).await;
    let mut ana = Terminal::open(&server.url("/?user_id=ana"));
    let mut bob = Terminal::open(&proxy.url("/?user_id=bob"));
    ana.see("* you are in general").await;
    bob.see("* you are in general").await;
    ana.write("hello").await;
    assert_eq!(bob.see("ana: ").await, "ana: hello");

    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    bob.see("* connection lost").await;
    ana.write("are you there?").await;
    ana.see("ana: are").await;
    proxy.admit();
    assert_eq!(bob.see("ana: ").await, "ana: are you there?");
    bob.write("yes\u{1b}[2J").await;
    assert_eq!(ana.see("bob: ").await, "bob: yes[2J");
}

#[tokio::test]
async fn who_is_typing_is_shown_once_until_they_have_written() {
    let events = ClientEvents::new().event("typing", 5);
    let hub = Hub::builder().channels("general", ChannelOptions::new().client_events(events)).build();
    let server = TestServer::start(hub, Handler::new().identify(|request| Ok(request.query("user_id"))));
    let mut ana = Terminal::open(&server.url("/?user_id=ana"));
    ana.see("* you are in general").await;
    let bob = Client::builder(&server.url("/?user_id=bob")).connect().unwrap();
    let room = bob.channel::<String>("general");
    let _subscription = room.subscribe().await.unwrap();
    for line in ["hello", "hello again"] {
        room.send("typing", &()).unwrap();
        assert_eq!(ana.see("* bob").await, "* bob is typing");
        room.publish(&line.to_owned()).await.unwrap();
        assert_eq!(ana.see("").await, format!("bob: {line}"), "nothing else was shown");
    }
}
