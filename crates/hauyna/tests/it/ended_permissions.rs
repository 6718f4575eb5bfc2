//! What a client was permitted ends with what the permission was about: its subscription, also where the
//! request is carried out later.

use crate::support::{now, session_client, user_handler};
use hauyna::broker::Answer;
use hauyna::channel::AccessRequest;
use hauyna::{ChannelOptions, Context, Hub, Presence, json};
use hauyna_test::{TestServer, WrappedBroker};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

#[tokio::test]
async fn subscription_ended_while_a_synchronous_authoriser_decides_is_refused() {
    for closes_channel in [false, true] {
        let end = move |cx: &Context| match closes_channel {
            true => now(cx.channel("c").close()),
            false => drop(cx.channel("c").unsubscribe(&cx.connection())),
        };
        let calls = Arc::new(AtomicUsize::new(0));
        let authorise = move |cx: Context, _: AccessRequest| {
            // The application has read that the client is a member, and removes it on another thread.
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                std::thread::scope(|scope| scope.spawn(|| end(&cx)).join().unwrap());
            }
            true
        };
        let channels = ChannelOptions::new().authorize_subscribe(authorise);
        let hub = Hub::builder().channels("c", channels).build();
        let server = TestServer::start(hub.clone(), user_handler());
        let mut client = session_client(&server, "/?user=ann").await;
        let request = json!({ "type": "subscribe_channel", "channel": "c" });
        let refused = client.request(request).await.unwrap_err();
        assert_eq!(refused["error_type"], "permission_denied");
        assert_eq!(hub.channel("c").subscription_count(), 0);
        client.subscribe("c").await; // this is a new decision
    }
}

#[tokio::test]
async fn permission_of_an_ended_subscription_does_not_count_for_the_next_one() {
    let authorise = |cx: Context, request: AccessRequest| async move {
        // The application makes a speaker a listener.
        let (channel, connection) = (cx.channel(request.name()), cx.connection());
        channel.unsubscribe(&connection).unwrap();
        channel.subscribe(&connection, json!({ "role": "listener" })).await.unwrap();
        true
    };
    let update = move |cx: Context, request: AccessRequest| async move {
        !request.is_update() || authorise(cx, request).await
    };
    let channels = ChannelOptions::new()
        .presence(Presence::each())
        .authorize_subscribe(update)
        .authorize_history(authorise)
        .authorize_presence(authorise)
        .authorize_publish(authorise);
    let hub = Hub::builder().channels("c", channels).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = session_client(&server, "/?user=ann").await;
    client.subscribe("c").await;
    for request in [
        json!({ "type": "channel_message", "channel": "c", "content": 1 }),
        json!({ "type": "history", "channel": "c" }),
        json!({ "type": "presence", "channel": "c" }),
        json!({ "type": "update_presence", "channel": "c", "metadata": { "role": "speaker" } }),
    ] {
        let refused = client.request(request.clone()).await.unwrap_err();
        assert_eq!(refused["error_type"], "not_subscribed", "{request}");
        let connection = hub.user("ann").connections().pop().unwrap();
        assert_eq!(hub.channel("c").metadata(&connection), Some(json!({ "role": "listener" })));
    }
}

#[tokio::test]
async fn history_read_for_an_ended_subscription_is_not_sent() {
    let (entered, proceed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enters, may_proceed) = (entered.clone(), proceed.clone());
    let broker = WrappedBroker::default().on_history(move |local, channel, range| {
        if range.limit == 1000 {
            let (local, channel) = (local.clone(), channel.clone());
            let (enters, may_proceed) = (enters.clone(), may_proceed.clone());
            return Answer::later(async move {
                enters.add_permits(1);
                may_proceed.acquire().await.unwrap().forget();
                local.history(&channel, range).await
            });
        }
        local.history(channel, range)
    });
    let channels = ChannelOptions::new().history(10, Duration::from_secs(60));
    let hub = Hub::builder().channels("c", channels).broker(broker).build();
    let server = TestServer::start(hub.clone(), user_handler());
    let mut client = session_client(&server, "/?user=ann").await;
    client.subscribe("c").await;
    client.send(json!({ "type": "history", "channel": "c", "limit": 1000, "id": 77 })).await;
    entered.acquire().await.unwrap().forget();
    let connection = hub.user("ann").connections().pop().unwrap();
    hub.channel("c").unsubscribe(&connection).unwrap();
    hub.channel("c").broadcast("not for ann").await.unwrap();
    proceed.add_permits(1);
    let answer = client.answer(&json!(77)).await;
    assert_eq!(answer.unwrap_err()["error_type"], "not_subscribed");
}
