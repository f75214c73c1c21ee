//! The store of the earlier codex-pool (version 1: camelCase, credentials inline) is migrated in place on first use,
//! and nothing is lost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use testkit::backend::{LoginSpec, UserSpec, account_id, api_key_json};
use testkit::files::{mode, set_mode};
use testkit::{World, answered};

use crate::drop_privileges;

fn parsed(auth_json: &str) -> Value {
    serde_json::from_str(auth_json).expect("JSON")
}

/// Returns a pool as the earlier version left it, with these accounts.
fn earlier(accounts: impl FnOnce(&World) -> Vec<Value>) -> (World, String) {
    let world = World::new(&[]);
    for name in ["alice", "bob"] {
        world.backend().add(name);
    }
    let store =
        json!({"version": 1, "accounts": accounts(&world), "activeAccountId": "old-1", "settings": {"x": 1}});
    let text = serde_json::to_string_pretty(&store).expect("JSON");
    fs::write(world.pool_home().join("accounts.json"), &text).expect("write the store");
    (world, text)
}

fn alice_and_bob(world: &World) -> Vec<Value> {
    let login = |name: &str| parsed(&world.backend().auth_json(name));
    vec![
        json!({"id": "old-1", "label": "work", "email": "alice@example.com", "accountId": account_id("alice"),
            "planType": "plus", "authJson": login("alice"), "addedAt": 1_700_000_000, "updatedAt": 1_700_000_001}),
        json!({"id": "old-2", "label": "home", "authJson": login("bob"), "addedAt": 1_700_000_000_000_i64, "enabled": false}),
    ]
}

#[test]
fn first_launch_migrates_a_pool_of_version_1() {
    let (world, text) = earlier(alice_and_bob);
    set_mode(&world.pool_home(), 0o755);
    answered(world.exec().run(), "alice");
    assert_eq!(mode(&world.pool_home()), 0o700);
    let kept = world.pool_home().join("accounts.v1.json");
    assert_eq!(fs::read_to_string(&kept).expect("the old file"), text);
    assert_eq!(fs::metadata(&kept).expect("the old file").mode() & 0o777, 0o600);
    let registry = fs::read_to_string(world.pool_home().join("accounts.json")).expect("the registry");
    assert_eq!(parsed(&registry)["version"], 2);
    for secret in world.backend().secrets() {
        assert!(!registry.contains(&secret), "the registry holds no secrets");
    }
    let (work, home) = (world.account("work"), world.account("home"));
    assert_eq!((work["email"].as_str(), work["enabled"].as_bool()), (Some("alice@example.com"), Some(true)));
    assert_eq!((home["email"].as_str(), home["state"].as_str()), (Some("bob@example.com"), Some("disabled")));
    assert_eq!(parsed(&world.stored("work")), parsed(&text)["accounts"][0]["authJson"]);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn ids_of_version_1_stay_good_as_references() {
    let (world, _) = earlier(alice_and_bob);
    answered(world.exec_as("old-2").run(), "bob");
    answered(world.pool(&["run", "old-1", "--", "exec", "hi"]).run(), "alice");
    answered(world.exec_as(&account_id("bob")).run(), "bob");
}

#[test]
fn command_migrates_a_pool_of_version_1_and_says_so() {
    let (world, _) = earlier(alice_and_bob);
    let output = world.pool(&["list"]).run().ok();
    assert!(output.stderr.contains("2 accounts were taken over from version 1"), "{output}");
    assert!(!world.pool(&["list"]).run().ok().stderr.contains("version 1"));
}

#[test]
fn launches_at_once_migrate_a_pool_once() {
    let (world, text) = earlier(alice_and_bob);
    let running: Vec<_> = (0..8).map(|n| world.exec_as(["work", "home"][n % 2]).spawn()).collect();
    for (n, launch) in running.into_iter().enumerate() {
        answered(launch.wait(), ["alice", "bob"][n % 2]);
    }
    assert_eq!(fs::read_to_string(world.pool_home().join("accounts.v1.json")).expect("the old file"), text);
    assert_eq!(world.list().len(), 2);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn entries_of_every_kind_are_taken_over_or_kept_aside() {
    let (world, _) = earlier(|world| {
        let backend = world.backend();
        let team = account_id("team");
        for name in ["erin", "fred"] {
            backend.add_user(name, UserSpec::new(name).plan("team").workspace(&team));
        }
        backend.add_api_key("robot", "sk-test-robot");
        let mixed = LoginSpec { account_id: Some(team), ..LoginSpec::default() };
        let old = LoginSpec { issued_ago: Some(900_000), expires_in: 1000, ..LoginSpec::default() };
        let entry =
            |label: &str, doc: Value| json!({"id": format!("id-{label}"), "label": label, "authJson": doc});
        vec![
            entry("erin", parsed(&backend.auth_json("erin"))),
            entry("fred", parsed(&backend.auth_json("fred"))),
            entry("robot", parsed(&api_key_json("sk-test-robot"))),
            // As text; a document of two accounts; an older login of an account that is there already; nonsense.
            entry("text", backend.auth_json_with("bob", &mixed).into()),
            entry("alice", parsed(&backend.auth_json("alice"))),
            entry("stale", parsed(&backend.auth_json_with("alice", &old))),
            entry("broken", json!({"tokens": {"access_token": "?"}})),
            entry("nothing", Value::Null),
        ]
    });
    let newest = world.backend().newest_refresh_token("alice");
    let labels = world.labels();
    assert_eq!(labels, ["alice", "erin", "fred", "robot", "text"]);
    for (label, user) in
        [("erin", "erin"), ("fred", "fred"), ("robot", "robot"), ("text", "bob"), ("id-stale", "alice")]
    {
        answered(world.exec_as(label).run(), user);
    }
    assert!(!world.stored("alice").contains(&newest), "the newer login won, though the older came later");
    let lost = world.lost_found();
    assert!(lost.iter().any(|(_, text)| text.contains(&newest)), "{lost:?}");
    assert!(lost.iter().any(|(name, text)| name.contains("broken") && text.contains('?')), "{lost:?}");
    world.backend().assert_clean();
}

#[test]
fn login_that_is_live_and_newer_than_the_stores_wins() {
    let old = LoginSpec { issued_ago: Some(400_000), ..LoginSpec::default() };
    let (world, _) = earlier(|world| {
        let doc = parsed(&world.backend().auth_json_with("alice", &old));
        vec![json!({"id": "old-1", "label": "work", "authJson": doc})]
    });
    let live = world.backend().auth_json("alice");
    world.write_live(&live);
    answered(world.exec().run(), "alice");
    assert_eq!((world.stored("work"), world.live()), (live.clone(), Some(live)));
}

#[test]
fn migration_that_cannot_be_written_changes_nothing_and_codex_starts() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, text) = earlier(alice_and_bob);
    world.write_live(&world.backend().auth_json("bob"));
    let mode = |mode| fs::set_permissions(world.pool_home(), fs::Permissions::from_mode(mode)).expect("mode");
    mode(0o500);
    let output = answered(drop_privileges(world.exec()).run(), "bob");
    assert!(output.stderr.contains("Codex starts without the pool"), "{output}");
    mode(0o700);
    assert_eq!(fs::read_to_string(world.pool_home().join("accounts.json")).expect("the store"), text);
    answered(world.exec_as("work").run(), "alice");
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn interrupted_migration_starts_again() {
    let (world, text) = earlier(alice_and_bob);
    world.pool(&["list"]).run().ok();
    // As if it had been cut off before its last step: everything is there but the new registry.
    let stored = world.stored("work");
    fs::write(world.pool_home().join("accounts.json"), &text).expect("write the store");
    answered(world.exec_as("work").run(), "alice");
    assert_eq!(world.stored("work"), stored);
    assert_eq!(world.list().len(), 2);
    world.assert_nothing_lost(&["alice", "bob"]);
}
