//! Whom the handles of presence are about: criteria that are no object match nobody, and a handle without a
//! user changes nothing.

use crate::support::user_handler;
use hauyna::presence::Criteria;
use hauyna::{ChannelOptions, ErrorType, Hub, Presence, Value, json};
use hauyna_test::TestServer;

fn rooms() -> Hub {
    Hub::builder().channels("room:{id}", ChannelOptions::new().presence(Presence::each())).build()
}

#[tokio::test]
async fn criteria_that_are_no_object_match_nobody() {
    let server = TestServer::start(rooms(), user_handler());
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("room:1").await;
    let presence = server.hub().presence();
    for value in [Value::Null, json!("x"), json!(7), json!(true), json!([]), json!([{ "channel": "room:1" }])]
    {
        for criteria in [Criteria::from(value.clone()), Criteria::from(value.clone()).in_channel("room:1")] {
            assert_eq!(presence.count_by(&criteria).await, 0, "{value}");
            assert!(presence.list_by(&criteria).await.is_empty(), "{value}");
            assert!(!presence.present_in("ann", &criteria).await, "{value}");
        }
        assert_ne!(Criteria::from(value), Criteria::new());
    }
    assert_eq!(
        presence.count_by(&Criteria::from(json!({}))).await,
        1,
        "an object without fields asks for nothing"
    );
    for fields in [json!({ "channel": 7 }), json!({ "group": null }), json!({ "status": null })] {
        assert_eq!(presence.count_by(&Criteria::from(fields.clone())).await, 0, "{fields}");
    }
}

#[tokio::test]
async fn presence_of_the_hub_refuses_what_needs_a_user() {
    let server = TestServer::start(rooms(), user_handler());
    let mut ann = server.connect("/?user=ann").await;
    ann.subscribe("room:1").await;
    server.hub().presence().of("ann").track(()).await.unwrap();
    let presence = server.hub().presence();
    for refused in [
        presence.track(()).await,
        presence.untrack().await,
        presence.update(()).await,
        presence.set_status("away").await,
        presence.update_connection(()).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::ApplicationError, "{error}");
        assert!(error.to_string().contains("see `"), "the error says what to use: {error}");
    }
    let error = presence.of("").untrack().await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::ValidationError, "{error}");
    ann.unsubscribe("room:1").await;
    assert!(presence.is_present("ann").await, "she is still tracked");
}
