//! Tests of membership and roles without connections; messages are in `tests/it/groups.rs`.

use crate::groups::Roles;
use crate::{ErrorType, Hub};
use std::collections::BTreeSet;

fn roles() -> Roles {
    Roles::new().define("owner", ["send", "invite"]).define("guest", [] as [&str; 0])
}

#[test]
fn membership_is_as_it_was_last_set() {
    let groups = Hub::new().groups();
    assert!(groups.add("ann", "a").unwrap() && !groups.add("ann", "a").unwrap());
    assert!(groups.add("ann", "b").unwrap() && groups.add("bob", "a").unwrap());
    assert!(groups.contains("ann", "a") && !groups.contains("bob", "b") && !groups.contains("a", "ann"));
    let members: BTreeSet<_> = groups.members("a").into_iter().map(|user| user.to_string()).collect();
    assert_eq!(members, ["ann", "bob"].map(str::to_owned).into());
    assert_eq!(
        groups.groups_of("ann").into_iter().collect::<BTreeSet<_>>(),
        ["a", "b"].map(str::to_owned).into()
    );
    assert_eq!((groups.count("a"), groups.count("b"), groups.count("c")), (2, 1, 0));
    assert!(groups.remove("ann", "a") && !groups.remove("ann", "a") && !groups.remove("zoe", "zoo"));
    assert_eq!((groups.groups_of("ann"), groups.groups_of("nobody")), (vec!["b".to_owned()], vec![]));
    groups.add("bob", "b").unwrap();
    assert_eq!((groups.remove_from_all("bob"), groups.remove_from_all("bob")), (2, 0));
    assert!(groups.members("a").is_empty());
}

#[test]
fn what_is_not_said_is_not_permitted() {
    let groups = Hub::new().groups();
    groups.add("plain", "g").unwrap();
    groups.add_with_role("typo", "g", "ownr").unwrap();
    groups.add_with_role("ann", "g", "owner").unwrap();
    assert!(!groups.can("ann", "g", "send"), "the role is not defined yet");
    groups.define_role("g", "owner", ["send"]).unwrap();
    assert!(groups.can("ann", "g", "send"));
    for (user, group, permission) in [
        ("plain", "g", "send"),
        ("typo", "g", "send"),
        ("zoe", "g", "send"),
        ("ann", "h", "send"),
        ("ann", "g", "sen"),
    ] {
        assert!(!groups.can(user, group, permission), "{user} {group} {permission}");
    }
    assert_eq!((groups.role("plain", "g"), groups.role("zoe", "g")), (None, None));
    groups.remove("ann", "g");
    assert!(!groups.can("ann", "g", "send"), "a former member has no permissions");
    groups.add("ann", "g").unwrap();
    assert!(!groups.can("ann", "g", "send"), "a role does not come back with the user");
}

#[test]
fn a_group_has_the_roles_of_its_pattern_unless_it_has_its_own() {
    let everywhere = Roles::new().define("reader", ["read"]).default_role("reader");
    let hub = Hub::builder().roles("team:{id}", roles()).roles("{*any}", everywhere).build();
    let groups = hub.groups();
    for group in ["team:1", "team:2", "other"] {
        groups.add_with_role("ann", group, "owner").unwrap();
        groups.add("bob", group).unwrap();
    }
    assert!(groups.can("ann", "team:1", "invite") && !groups.can("ann", "other", "invite"));
    assert!(groups.can("bob", "other", "read") && !groups.can("bob", "team:1", "read"));
    assert_eq!(groups.role("bob", "other").as_deref(), Some("reader"));
    groups.define_role("team:1", "owner", ["send"]).unwrap();
    assert!(!groups.can("ann", "team:1", "invite") && groups.can("ann", "team:1", "send"));
    assert!(groups.can("ann", "team:2", "invite"), "the other group is as it was");
    groups.set_default_role("team:1", "owner").unwrap();
    assert!(groups.can("bob", "team:1", "send"));
    groups.add_with_role("bob", "team:1", "guest").unwrap();
    assert!(!groups.can("bob", "team:1", "send"));
    groups.add("bob", "team:1").unwrap();
    assert_eq!(groups.role("bob", "team:1").as_deref(), Some("guest"), "adding again takes no role away");
}

#[test]
fn a_group_is_forgotten_with_its_last_member_and_its_roles() {
    let groups = Hub::new().groups();
    for number in 0..1000 {
        groups.add("ann", format!("g{number}")).unwrap();
    }
    assert_eq!(groups.names().len(), 1000);
    groups.remove_from_all("ann");
    assert_eq!(groups.names(), [] as [&str; 0]);
    groups.define_role("kept", "owner", ["send"]).unwrap();
    groups.add_with_role("ann", "kept", "owner").unwrap();
    groups.remove("ann", "kept");
    assert_eq!(groups.names(), ["kept"], "its roles are the application's");
    groups.add_with_role("ann", "kept", "owner").unwrap();
    groups.dissolve("kept");
    assert!(groups.names().is_empty() && !groups.contains("ann", "kept"));
    groups.add_with_role("ann", "kept", "owner").unwrap();
    assert!(!groups.can("ann", "kept", "send"), "the definition went with the group");
}

#[test]
fn bad_names_are_refused_and_belong_to_nobody() {
    let groups = Hub::new().groups();
    for bad in ["", "a\nb", &"x".repeat(256)] {
        for result in [
            groups.add(bad, "g").map(|_| ()),
            groups.add("ann", bad).map(|_| ()),
            groups.add_with_role("ann", "g", bad).map(|_| ()),
            groups.define_role(bad, "owner", ["send"]),
            groups.define_role("g", bad, ["send"]),
            groups.set_default_role("g", bad),
        ] {
            assert_eq!(result.unwrap_err().error_type(), ErrorType::ValidationError, "{bad:?}");
        }
        assert!(!groups.contains("ann", bad) && !groups.remove(bad, "g") && groups.members(bad).is_empty());
        assert!(Hub::builder().roles("{*any}", Roles::new().define(bad, ["send"])).try_build().is_err());
    }
    assert!(Hub::builder().roles("{", Roles::new()).try_build().is_err());
    assert!(groups.names().is_empty());
}

#[test]
fn changes_by_many_threads_agree_in_the_end() {
    let groups = Hub::new().groups();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let groups = &groups;
            scope.spawn(move || {
                for round in 0..2000 {
                    let (user, group) = (format!("u{}", round % 7), format!("g{}", (round + thread) % 5));
                    groups.add(&user, &group).unwrap();
                    groups.contains(&user, &group);
                    groups.remove(&user, &group);
                }
            });
        }
    });
    let of_users: usize = (0..7).map(|user| groups.groups_of(format!("u{user}")).len()).sum();
    assert_eq!((of_users, groups.names().len()), (0, 0));
}
