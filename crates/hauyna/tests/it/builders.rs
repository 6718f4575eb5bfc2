//! Builders refuse a call that would silently replace an earlier one, and keep values that add up.

use crate::support::{now, open_hub, registered, user_handler};
use hauyna::auth::{ApiKeys, Revocation};
use hauyna::broker::LocalBroker;
use hauyna::channel::{AccessRequest, ClientEvents};
use hauyna::connection::RetryPolicy;
use hauyna::error::ErrorKind;
use hauyna::groups::Roles;
use hauyna::handler::{RateLimit, Recovery};
use hauyna::limits::{AtLimit, Limit};
use hauyna::presence::Criteria;
use hauyna::{
    ChannelOptions, CloseCode, Context, Handler, Heartbeat, Hub, HubBuilder, Identity, Origins, Presence,
    PresenceOptions, Rate, Reject, Router, SessionOptions, UserId, Value, json,
};
use hauyna_test::TestServer;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

fn keys() -> ApiKeys {
    ApiKeys::new().key("0123456789abcdef", "service")
}

/// Returns the text of the panic.
fn refusal<T>(build: impl FnOnce() -> T) -> String {
    let panic = match catch_unwind(AssertUnwindSafe(build)) {
        Ok(_) => panic!("the builder did not refuse"),
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
}

#[test]
fn replacing_authentication_is_an_error() {
    let identify = |handler: Handler| handler.identify(|_| Ok("anybody"));
    let refresh = |handler: Handler| handler.on_refresh(async |_, _| Ok(Identity::anonymous()));
    for (text, build) in [
        ("`identify`", &(|| identify(Handler::new().authenticate(keys()))) as &dyn Fn() -> Handler),
        ("`authenticate`", &|| identify(Handler::new()).authenticate(keys())),
        ("`authenticate`", &|| Handler::new().authenticate(keys()).authenticate(keys())),
        ("`identify`", &|| identify(identify(Handler::new()))),
        ("`on_refresh`", &|| refresh(Handler::new().authenticate(keys()))),
        ("`on_refresh`", &|| refresh(Handler::new()).authenticate(keys())),
        ("`on_refresh`", &|| refresh(refresh(Handler::new()))),
        ("`token_in_query`", &|| Handler::new().token_in_query("a").token_in_query("b")),
        ("`resume`", &|| Handler::new().token_in_query("resume")),
    ] {
        let refusal = refusal(build);
        assert!(refusal.contains(text), "{text}: {refusal}");
    }
    drop(refresh(identify(Handler::new())).token_in_query("token"));
}

#[test]
fn setting_a_handler_callback_twice_is_an_error() {
    let ok = async |_: Context| Ok(());
    let bytes = async |_: Context, _: Vec<u8>| Ok(());
    let may = async |_: Context, _: AccessRequest| Ok::<(), Reject>(());
    let event = async |_: Context, (): ()| Ok(());
    let twice: [(&str, &dyn Fn(Handler) -> Handler); 19] = [
        ("on_open", &|handler| handler.on_open(ok)),
        ("on_reconnect", &|handler| handler.on_reconnect(async |_, _| Ok(()))),
        ("on_close", &|handler| handler.on_close(async |_, _| Ok(()))),
        ("on_message", &|handler| handler.on_message(async |_, _: Value| Ok(()))),
        ("on_binary", &|handler| handler.on_binary(bytes)),
        ("on_ping", &|handler| handler.on_ping(bytes)),
        ("on_pong", &|handler| handler.on_pong(bytes)),
        ("on_error", &|handler| handler.on_error(|_, _| Recovery::Reply)),
        ("origins", &|handler| handler.origins(Origins::Any)),
        ("rate_limit", &|handler| handler.rate_limit(RateLimit::new())),
        ("authorize_subscribe", &|handler| handler.authorize_subscribe(may)),
        ("authorize_publish", &|handler| handler.authorize_publish(may)),
        ("authorize_history", &|handler| handler.authorize_history(may)),
        ("authorize_presence", &|handler| handler.authorize_presence(may)),
        ("authorize_private", &|handler| handler.authorize_private(may)),
        ("authorize_group", &|handler| handler.authorize_group(may)),
        ("authorize_broadcast", &|handler| handler.authorize_broadcast(may)),
        ("registered twice", &|handler| handler.on("x", event)),
        ("registered twice", &|handler| handler.trigger_events(["y"])),
    ];
    for (text, call) in twice {
        let once = call(Handler::new());
        let refusal = refusal(|| call(once));
        assert!(refusal.contains(text), "{text}: {refusal}");
    }
}

#[test]
fn echo_and_validators_that_would_never_run_are_refused() {
    let valid = |_: &str, _: &Value| Ok::<(), hauyna::validate::Invalid>(());
    for (text, build) in [
        ("`on`", &(|| Handler::echo().on("x", async |_: Context, (): ()| Ok(()))) as &dyn Fn() -> Handler),
        ("`on_message`", &|| Handler::echo().on_message(async |_, _: Value| Ok(()))),
        ("`on_binary`", &|| Handler::echo().on_binary(async |_, _| Ok(()))),
        ("`authorize_publish`", &|| Handler::echo().authorize_publish(async |_, _| Ok(()))),
        ("`validate_all`", &|| Handler::echo().validate_all(valid)),
    ] {
        let refusal = refusal(build);
        assert!(refusal.contains(text) && refusal.contains("echo"), "{refusal}");
    }
    let misspelt = || Handler::new().on("order", async |_: Context, (): ()| Ok(())).validate("oder", valid);
    assert!(refusal(|| Router::new(Hub::new()).websocket("/", misspelt())).contains("no event `oder`"));
    let rest = misspelt().on_message(async |_, _: Value| Ok(()));
    drop(Router::new(Hub::new()).websocket("/", rest));
}

#[test]
fn setting_a_channel_rule_api_key_or_route_twice_is_an_error() {
    let may = async |_: Context, _: AccessRequest| Ok::<(), Reject>(());
    let twice: [(&str, &dyn Fn(ChannelOptions) -> ChannelOptions); 5] = [
        ("`authorize_subscribe`", &|channels| channels.authorize_subscribe(may)),
        ("`authorize_publish`", &|channels| channels.authorize_publish(may)),
        ("`authorize_history`", &|channels| channels.authorize_history(may)),
        ("`authorize_presence`", &|channels| channels.authorize_presence(may)),
        ("`presence`", &|channels| channels.presence(Presence::each())),
    ];
    for (text, call) in twice {
        let once = call(ChannelOptions::new());
        let refusal = refusal(|| call(once));
        assert!(refusal.contains(text), "{text}: {refusal}");
    }
    assert!(refusal(|| keys().key("0123456789abcdef", "another")).contains("added twice"));
    assert!(refusal(|| keys().key("fedcba9876543210", "")).contains("is empty"));
    let page = || tower_layer::layer_fn(|service: hauyna::server::RouterService| service);
    let router = || Router::new(Hub::new()).layer(page()).layer(page());
    let pages = router().into_service();
    assert!(refusal(|| router().fallback(pages.clone()).fallback(pages)).contains("`fallback`"));
    assert!(
        refusal(|| router().websocket("/a", user_handler()).websocket("/a", user_handler()))
            .contains("route `/a`")
    );
}

#[cfg(feature = "jwt")]
#[test]
fn setting_the_user_claim_twice_is_an_error() {
    use hauyna::auth::{Jwt, JwtAlgorithm, JwtKey};
    let jwt = || Jwt::new(JwtKey::secret(JwtAlgorithm::Hs256, [7; 32]).unwrap());
    assert!(refusal(|| jwt().user_claim("email").user(|_| None)).contains("`user`"));
    assert!(refusal(|| jwt().user(|_| None).user_claim("email")).contains("`user_claim`"));
    drop(jwt().issuer("a").issuer("b").audience("c").audience("d").user_claim("email"));
}

#[test]
fn hub_mistakes_are_reported_when_it_is_built() {
    let roles = || Roles::new().define("member", ["send"]);
    let channels = ChannelOptions::new;
    for (text, builder) in [
        (
            "declared twice",
            Hub::builder().channels("room:{id}", channels()).channels("room:{id}", channels()),
        ),
        (
            "declared twice",
            Hub::builder().channels("room:{id}", channels()).channels("room:{name}", channels()),
        ),
        ("declare `room:{id}` first", open_hub().channels("room:{id}", channels())),
        ("declared twice", Hub::builder().roles("{*any}", roles()).roles("{*any}", roles())),
        ("declare `team:{id}` first", Hub::builder().roles("{*any}", roles()).roles("team:{id}", roles())),
        ("`member` is defined twice", Hub::builder().roles("{*any}", roles().define("member", ["invite"]))),
        (
            "default role is `member` already",
            Hub::builder().roles("{*any}", roles().default_role("member").default_role("owner")),
        ),
        ("`broker`", Hub::builder().broker(LocalBroker::default()).broker(LocalBroker::default())),
        ("`client_address`", Hub::builder().client_address(|_| None).client_address(|_| None)),
        ("`max_connections_per_user`", Hub::builder().at_limit(Limit::PerUser, AtLimit::CloseOldest)),
    ] {
        let fault = HubBuilder::try_build(builder).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Config);
        assert!(fault.to_string().contains(text), "{text}: {fault}");
    }
    let narrow_first = Hub::builder().channels("room:{id}", channels()).channels("{*any}", channels());
    narrow_first.roles("team:{id}", roles()).roles("{*any}", roles()).try_build().unwrap();
}

#[tokio::test]
async fn application_state_is_stored_once_per_type() {
    struct Database(&'static str);
    let handler = || Handler::new().state(Database("orders")).state(7_u32).state("text");
    let server = TestServer::start(
        Hub::new(),
        handler().on("state", async |cx: Context, (): ()| {
            Ok(json!([cx.state::<Database>().0, *cx.state::<u32>(), *cx.state::<&str>()]))
        }),
    );
    let mut client = server.connect("/").await;
    assert_eq!(client.request(json!({ "type": "state" })).await.unwrap(), json!(["orders", 7, "text"]));
    assert!(refusal(|| handler().state(8_u32)).contains("u32"));
}

#[tokio::test]
async fn last_value_of_a_repeated_option_counts() {
    let handler = Handler::new()
        .max_message(10)
        .max_message(1 << 20)
        .heartbeat(Heartbeat::every(Duration::from_millis(10)))
        .no_heartbeat()
        .error_budget(Rate::new(1, Duration::from_secs(3600)))
        .no_error_budget()
        .callback_timeout(Duration::ZERO)
        .callback_timeout(Duration::from_secs(30));
    let hub = Hub::builder()
        .channels("x", ChannelOptions::new().no_history().history(5, Duration::from_secs(60)))
        .max_connections(0)
        .max_connections(10)
        .build();
    let (mut client, _) = registered(&hub, "ann", &handler.share()).await;
    assert_eq!(client.subscribe("x").await["recoverable"], true);
    client.request(json!({ "type": "ping", "padding": "x".repeat(100) })).await.unwrap();
}

#[tokio::test]
async fn conflicting_publish_options_are_an_error() {
    let hub = open_hub().build();
    let user = |name| UserId::new(name).unwrap();
    let publish = || hub.channel("x").publish(1);
    for (method, twice) in [
        ("from_user", publish().from_user(&user("ann")).from_user(&user("ben"))),
        ("key", publish().key("one").key("two")),
        ("conflate", publish().conflate("one").conflate("two")),
        ("key", hub.groups().send("group", 1).key("one").key("two")),
    ] {
        let fault = twice.await.unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Config);
        assert!(fault.to_string().contains(method), "{fault}");
    }
    publish().from_user(&user("ann")).from_user(&user("ann")).key("k").key("k").await.unwrap();
}

#[tokio::test]
async fn publish_futures_own_what_they_need() {
    let hub = Hub::new();
    let spawned = [
        tokio::spawn(hub.user("ann").send(json!({ "type": "note" }))),
        tokio::spawn(hub.connections().broadcast("to everybody")),
        tokio::spawn(hub.user("ann").send("to one").key("once")),
        tokio::spawn(hub.channel("room").broadcast("to a channel")),
        tokio::spawn(hub.channel("room").publish("with options").key("once")),
        tokio::spawn(hub.groups().send("team", "to a group")),
    ];
    for task in spawned {
        task.await.unwrap().unwrap();
    }
    let (one, many) = tokio::join!(
        hub.user("ann").send("a"),
        hub.connections().send_to_many(["ann".to_owned(), "bob".to_owned()], "b"),
    );
    assert!(one.is_ok() && many.is_ok());
}

#[tokio::test]
async fn cluster_wide_futures_own_what_they_need() {
    fn run<T>(tasks: &mut JoinSet<()>, future: impl Future<Output = T> + Send + 'static) {
        tasks.spawn(async move { drop(future.await) });
    }
    let mut tasks = JoinSet::new();
    {
        let hub = Hub::new();
        let (user, group, role) = (String::from("ann"), String::from("team"), String::from("owner"));
        let criteria = Criteria::new().in_group("team");
        run(&mut tasks, hub.user("ann").disconnect(CloseCode::DISCONNECTED, &role));
        run(&mut tasks, hub.user("ann").is_connected());
        run(&mut tasks, hub.user("ann").groups());
        run(&mut tasks, hub.revoke(Revocation::user("ann")));
        run(&mut tasks, hub.channel("room").close());
        run(&mut tasks, hub.channel("room").presence());
        run(&mut tasks, hub.presence().of("ann").track(json!({ "role": "admin" })));
        run(&mut tasks, hub.presence().of("ann").untrack());
        run(&mut tasks, hub.presence().list_by(&criteria));
        run(&mut tasks, hub.presence().present_in(&user, &criteria));
        run(&mut tasks, hub.presence().in_channel(&group));
        run(&mut tasks, hub.groups().add_with_role(&user, &group, &role));
        run(&mut tasks, hub.groups().define_role(&group, &role, ["send"]));
        run(&mut tasks, hub.groups().can(&user, &group, "send"));
        run(&mut tasks, hub.groups().dissolve(&group));
        // What is borrowed, or not `Send`, is read before the future exists.
        let (permissions, local) = (vec![role.clone()], Rc::new(role.as_str()));
        run(&mut tasks, hub.groups().define_role(&group, &role, &permissions));
        run(
            &mut tasks,
            hub.groups().define_role(&group, &role, permissions.iter().filter(|name| **name != *local)),
        );
        let fields = BTreeMap::from([("name", user.as_str())]);
        run(&mut tasks, hub.presence().of("ann").track(&fields));
        run(&mut tasks, hub.presence().of("ann").update(&fields));
        run(&mut tasks, hub.presence().of("ann").set_status(user.as_str()));
        run(&mut tasks, hub.presence().of("ann").update_connection(&fields));
    }
    tasks.join_all().await;
}

#[test]
fn cluster_wide_calls_answer_at_once_in_one_process() {
    let (hub, owner) = (Hub::new(), String::from("owner"));
    let (groups, presence) = (hub.groups(), hub.presence());
    assert!(now(groups.add_with_role("ann", "team", &owner)).unwrap());
    assert!(now(groups.contains("ann", "team")) && !now(groups.can("ann", "team", "send")));
    now(groups.define_role("team", &owner, ["send"])).unwrap();
    assert!(now(groups.can("ann", "team", "send")));
    assert_eq!((now(hub.user("ann").groups()), now(groups.count("team"))), (vec!["team".to_owned()], 1));
    assert_eq!((now(presence.count()), now(presence.stats()).users), (0, 0));
    assert!(!now(hub.user("ann").is_connected()) && now(hub.channel("room").presence()).is_empty());
    assert_eq!(now(hub.user("ann").disconnect(CloseCode::DISCONNECTED, "")), 0);
    assert_eq!(now(hub.revoke(Revocation::user("ann"))), 0);
    now(hub.channel("room").close());
    now(presence.of("ann").untrack()).unwrap();
}

#[test]
fn options_that_have_defaults_begin_with_new() {
    assert_eq!(PresenceOptions::new(), PresenceOptions::default());
    assert_eq!(PresenceOptions::new(), Presence::each());
    assert_eq!(RetryPolicy::new(), RetryPolicy::default());
    assert_eq!(SessionOptions::new(), SessionOptions::default());
    assert_eq!(format!("{:?}", ChannelOptions::new()), format!("{:?}", ChannelOptions::default()));
    assert_eq!(format!("{:?}", RateLimit::new()), format!("{:?}", RateLimit::default()));
    assert_eq!(format!("{:?}", ClientEvents::new()), format!("{:?}", ClientEvents::default()));
}

/// Calls `f`, which panics, and returns the file that the panic points to.
fn file_of_panic(f: impl FnOnce()) -> String {
    let file = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
    let (seen, thread) = (file.clone(), std::thread::current().id());
    let previous = std::sync::Arc::new(std::panic::take_hook());
    let earlier = previous.clone();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(location) if std::thread::current().id() == thread => seen.lock().push_str(location.file()),
        _ => earlier(panic),
    }));
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    std::panic::set_hook(Box::new(move |panic| previous(panic)));
    let file = file.lock();
    file.clone()
}

#[test]
fn builder_panics_point_to_the_line_of_the_application() {
    let handler = || Handler::new().on_open(async |_: Context| Ok(()));
    let channels = || ChannelOptions::new().authorize_publish(|_, _| true);
    let text = async |_: Context, _: String| Ok(());
    let files = [
        file_of_panic(|| drop(handler().on_open(async |_: Context| Ok(())))),
        file_of_panic(|| drop(channels().authorize_publish(|_, _| true))),
        file_of_panic(|| drop(Handler::new().on("ping", text))),
        file_of_panic(|| drop(Handler::echo().authorize_broadcast(|_, _| true))),
        file_of_panic(|| drop(ClientEvents::new().event("", 1))),
        file_of_panic(|| drop(ApiKeys::new().key("short", "ann"))),
        file_of_panic(|| drop(Router::new(Hub::new()).websocket("no slash", Handler::new()))),
        file_of_panic(|| drop(Hub::builder().channels("{a}{b}", ChannelOptions::new()).build())),
    ];
    for file in files {
        assert!(file.ends_with("tests/it/builders.rs"), "{file}");
    }
}
