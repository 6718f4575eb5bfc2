//! A team with roles: administrators may announce, promote and remove; members may not. Membership belongs to
//! the user, so it is still there after a reconnect.
//!
//! `cargo run --package hauyna-example-groups`, then open <http://127.0.0.1:3005> twice.

use hauyna::events::{Event, SystemKind};
use hauyna::groups::Roles;
use hauyna::{Context, Handler, Hub, Reject, Router, json};
use hauyna_example_page::Page;
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
struct Member {
    user: String,
}

#[derive(Deserialize)]
struct Promotion {
    user: String,
    role: Role,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Admin,
    Member,
}

/// Returns the hub. The protocol's request `group` needs the permission `send`; the application defines the
/// others.
fn hub() -> Hub {
    let roles = Roles::new()
        .define("admin", ["send", "promote", "remove"])
        .define("member", [] as [&str; 0])
        .default_role("member");
    let hub = Hub::builder().roles(TEAM, roles).build();
    // Members who lose their connection are shown as away at once, though their sessions are kept.
    hub.events().on_system([SystemKind::Closed, SystemKind::Resumed], async |event: Event, _| {
        tell(event.hub()).await
    });
    hub
}

fn handler() -> Handler {
    Handler::new()
        .identify(|request| match request.query("user_id") {
            Some(name) if !name.trim().is_empty() => Ok(name),
            _ => Err(Reject::unauthorized("user_id is required")),
        })
        .on_open(|cx| async move {
            cx.subscribe(ROSTER, ()).await?;
            tell(&cx.hub()).await
        })
        .on("join", join)
        .on("leave", leave)
        .on("promote", promote)
        .on("remove", remove)
}

/// Adds the user to the team. The first member is an administrator.
async fn join(cx: Context, _: IgnoredAny) -> hauyna::Result {
    match cx.groups().count(TEAM).await {
        0 => cx.groups().add_with_role(cx.user(), TEAM, "admin").await?,
        MAX_MEMBERS.. => return Err(Reject::denied("the team is full").into()),
        _ => cx.groups().add(cx.user(), TEAM).await?,
    };
    tell(&cx.hub()).await
}

async fn leave(cx: Context, _: IgnoredAny) -> hauyna::Result {
    cx.groups().remove(cx.user(), TEAM).await;
    tell(&cx.hub()).await
}

async fn promote(cx: Context, Promotion { user, role }: Promotion) -> hauyna::Result {
    allowed(&cx, &user, "promote").await?;
    let role = match role {
        Role::Admin => "admin",
        Role::Member => "member",
    };
    cx.groups().add_with_role(&user, TEAM, role).await?;
    tell(&cx.hub()).await
}

async fn remove(cx: Context, Member { user }: Member) -> hauyna::Result {
    allowed(&cx, &user, "remove").await?;
    cx.groups().remove(&user, TEAM).await;
    tell(&cx.hub()).await
}

/// Checks that this user may do something to a member. Users may not do it to themselves, so that an
/// administrator remains.
async fn allowed(cx: &Context, user: &str, permission: &str) -> hauyna::Result {
    if !cx.groups().can(cx.user(), TEAM, permission).await || cx.user() == user {
        return Err(Reject::denied(format!("you may not {permission} {user}")).into());
    }
    if !cx.groups().contains(user, TEAM).await {
        return Err(Reject::invalid(format!("{user} is no member")).into());
    }
    Ok(())
}

/// Publishes the roster to every page: the members, their roles, and whether they are connected.
async fn tell(hub: &Hub) -> hauyna::Result {
    let groups = hub.groups();
    let mut users = groups.members(TEAM).await;
    users.sort_unstable();
    let mut members = Vec::new();
    for user in &users {
        let (role, is_here) = (groups.role(user, TEAM).await, hub.user(user).is_connected().await);
        members.push(json!({ "user": user, "role": role, "here": is_here }));
    }
    hub.channel(ROSTER).broadcast(json!({ "type": "roster", "members": members })).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> hauyna::Result {
    let listener = hauyna_example_page::listen(3005)?;
    let router = Router::new(hub()).websocket("/live", handler()).fallback(PAGE.router());
    router.into_server().serve_listener(listener).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
const TEAM: &str = "team";
/// A channel that clients cannot subscribe to themselves, because no pattern declares it.
const ROSTER: &str = "roster";
/// Maximum number of members.
const MAX_MEMBERS: usize = 50;

#[cfg(test)]
mod tests;
