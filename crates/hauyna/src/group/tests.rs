//! Tests of membership and roles without connections; messages are in `tests/it/groups.rs`.

use crate::ErrorType;
use crate::Hub;
use crate::groups::Roles;
use std::collections::BTreeSet;

fn roles() -> Roles {
    Roles::new().define("owner", ["send", "invite"]).define("guest", [] as [&str; 0])
}

#[tokio::test]
async fn membership_is_as_it_was_last_set() {
    let groups = Hub::new().groups();
    assert!(groups.add("ann", "a").await.unwrap() && !groups.add("ann", "a").await.unwrap());
    assert!(groups.add("ann", "b").await.unwrap() && groups.add("bob", "a").await.unwrap());
    assert!(
        groups.contains("ann", "a").await
            && !groups.contains("bob", "b").await
            && !groups.contains("a", "ann").await
    );
    let members: BTreeSet<_> = groups.members("a").await.into_iter().map(|user| user.to_string()).collect();
    assert_eq!(members, ["ann", "bob"].map(str::to_owned).into());
    assert_eq!(
        groups.groups_of("ann").await.into_iter().collect::<BTreeSet<_>>(),
        ["a", "b"].map(str::to_owned).into()
    );
    assert_eq!((groups.count("a").await, groups.count("b").await, groups.count("c").await), (2, 1, 0));
    assert!(
        groups.remove("ann", "a").await
            && !groups.remove("ann", "a").await
            && !groups.remove("zoe", "zoo").await
    );
    assert_eq!(
        (groups.groups_of("ann").await, groups.groups_of("nobody").await),
        (vec!["b".to_owned()], vec![])
    );
    groups.add("bob", "b").await.unwrap();
    assert_eq!((groups.remove_from_all("bob").await, groups.remove_from_all("bob").await), (2, 0));
    assert!(groups.members("a").await.is_empty());
}

#[tokio::test]
async fn what_is_not_said_is_not_permitted() {
    let groups = Hub::new().groups();
    groups.add("plain", "g").await.unwrap();
    groups.add_with_role("typo", "g", "ownr").await.unwrap();
    groups.add_with_role("ann", "g", "owner").await.unwrap();
    assert!(!groups.can("ann", "g", "send").await, "the role is not defined yet");
    groups.define_role("g", "owner", ["send"]).await.unwrap();
    assert!(groups.can("ann", "g", "send").await);
    for (user, group, permission) in [
        ("plain", "g", "send"),
        ("typo", "g", "send"),
        ("zoe", "g", "send"),
        ("ann", "h", "send"),
        ("ann", "g", "sen"),
    ] {
        assert!(!groups.can(user, group, permission).await, "{user} {group} {permission}");
    }
    assert_eq!((groups.role("plain", "g").await, groups.role("zoe", "g").await), (None, None));
    groups.remove("ann", "g").await;
    assert!(!groups.can("ann", "g", "send").await, "a former member has no permissions");
    groups.add("ann", "g").await.unwrap();
    assert!(!groups.can("ann", "g", "send").await, "a role does not come back with the user");
}

#[tokio::test]
async fn a_group_has_the_roles_of_its_pattern_unless_it_has_its_own() {
    let everywhere = Roles::new().define("reader", ["read"]).default_role("reader");
    let hub = Hub::builder().roles("team:{id}", roles()).roles("{*any}", everywhere).build();
    let groups = hub.groups();
    for group in ["team:1", "team:2", "other"] {
        groups.add_with_role("ann", group, "owner").await.unwrap();
        groups.add("bob", group).await.unwrap();
    }
    assert!(groups.can("ann", "team:1", "invite").await && !groups.can("ann", "other", "invite").await);
    assert!(groups.can("bob", "other", "read").await && !groups.can("bob", "team:1", "read").await);
    assert_eq!(groups.role("bob", "other").await.as_deref(), Some("reader"));
    groups.define_role("team:1", "owner", ["send"]).await.unwrap();
    assert!(!groups.can("ann", "team:1", "invite").await && groups.can("ann", "team:1", "send").await);
    assert!(groups.can("ann", "team:2", "invite").await, "the other group is as it was");
    groups.set_default_role("team:1", "owner").await.unwrap();
    assert!(groups.can("bob", "team:1", "send").await);
    groups.add_with_role("bob", "team:1", "guest").await.unwrap();
    assert!(!groups.can("bob", "team:1", "send").await);
    groups.add("bob", "team:1").await.unwrap();
    assert_eq!(
        groups.role("bob", "team:1").await.as_deref(),
        Some("guest"),
        "adding again takes no role away"
    );
}

#[tokio::test]
async fn a_group_is_forgotten_with_its_last_member_and_its_roles() {
    let groups = Hub::new().groups();
    for number in 0..1000 {
        groups.add("ann", &format!("g{number}")).await.unwrap();
    }
    assert_eq!(groups.names().await.len(), 1000);
    groups.remove_from_all("ann").await;
    assert_eq!(groups.names().await, [] as [&str; 0]);
    groups.define_role("kept", "owner", ["send"]).await.unwrap();
    groups.add_with_role("ann", "kept", "owner").await.unwrap();
    groups.remove("ann", "kept").await;
    assert_eq!(groups.names().await, ["kept"], "its roles are the application's");
    groups.add_with_role("ann", "kept", "owner").await.unwrap();
    groups.dissolve("kept").await;
    assert!(groups.names().await.is_empty() && !groups.contains("ann", "kept").await);
    groups.add_with_role("ann", "kept", "owner").await.unwrap();
    assert!(!groups.can("ann", "kept", "send").await, "the definition went with the group");
}

#[tokio::test]
async fn bad_names_are_refused_and_belong_to_nobody() {
    let groups = Hub::new().groups();
    for bad in ["", "a\nb", &"x".repeat(256)] {
        for result in [
            groups.add(bad, "g").await.map(|_| ()),
            groups.add("ann", bad).await.map(|_| ()),
            groups.add_with_role("ann", "g", bad).await.map(|_| ()),
            groups.define_role(bad, "owner", ["send"]).await,
            groups.define_role("g", bad, ["send"]).await,
            groups.set_default_role("g", bad).await,
        ] {
            assert_eq!(result.unwrap_err().error_type(), ErrorType::ValidationError, "{bad:?}");
        }
        assert!(
            !groups.contains("ann", bad).await
                && !groups.remove(bad, "g").await
                && groups.members(bad).await.is_empty()
        );
        assert!(Hub::builder().roles("{*any}", Roles::new().define(bad, ["send"])).try_build().is_err());
    }
    assert!(Hub::builder().roles("{", Roles::new()).try_build().is_err());
    assert!(groups.names().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_by_many_threads_agree_in_the_end() {
    let groups = Hub::new().groups();
    let mut threads = tokio::task::JoinSet::new();
    for thread in 0..4 {
        let groups = groups.clone();
        threads.spawn(async move {
            for round in 0..2000 {
                let (user, group) = (format!("u{}", round % 7), format!("g{}", (round + thread) % 5));
                groups.add(&user, &group).await.unwrap();
                groups.contains(&user, &group).await;
                groups.remove(&user, &group).await;
            }
        });
    }
    threads.join_all().await;
    let mut of_users = 0;
    for user in 0..7 {
        of_users += groups.groups_of(&format!("u{user}")).await.len();
    }
    assert_eq!((of_users, groups.names().await.len()), (0, 0));
}
