//! The refreshes that an attendant starts: for tokens and usage of the accounts in use, as the launch's environment says.

use std::fs;
use std::time::{Duration, Instant};

use testkit::backend::{LoginSpec, UserSpec, refresh_token};
use testkit::{SOON, World, wait_until};

use super::Attended;

#[test]
fn tokens_of_an_account_in_use_are_renewed_early_and_others_are_not() {
    let world = World::new(&[]);
    for name in ["alice", "bob"] {
        world.add_as(name, UserSpec::new(name), &LoginSpec::expires_in(3600));
    }
    world.usage(&[("alice", 10.0, 10.0), ("bob", 20.0, 20.0)]);
    let _session = world.hold(world.exec_as("alice"));
    let before = world.backend().newest_refresh_token("alice");
    // The issuer is in the launch's environment alone.
    let _attendant = world.attend();
    world.backend().wait_for("a renewal", SOON, |report| !report.refreshes_of("alice").is_empty());
    let newest = || world.backend().newest_refresh_token("alice");
    // A launch that meets a process which may be a starting Codex of another test takes the account's own home.
    let homes = [world.codex_home().to_owned(), world.own_home("alice")];
    wait_until("new tokens in the home", SOON, || {
        let documents = homes.iter().filter_map(|home| fs::read_to_string(home.join("auth.json")).ok());
        documents.into_iter().any(|document| refresh_token(&document) == newest())
    });
    assert_ne!(newest(), before);
    assert!(world.backend().report().refreshes_of("bob").is_empty());
}

#[test]
fn usage_is_refreshed_as_at_a_launch_and_then_for_the_accounts_in_use() {
    let world = World::new(&["alice", "bob"]);
    world.usage(&[("alice", 10.0, 10.0), ("bob", 20.0, 20.0)]);
    let _session = world.hold(world.exec_as("alice"));
    world.age_usage(400);
    let _attendant = world.attend();
    let asked = |label: &str| world.backend().report().usage_of(label).len();
    wait_until("usage of both", SOON, || asked("alice") == 1 && asked("bob") == 1);
    wait_until("both answers", SOON, || fetched(&world).iter().all(|at| testkit::now() - at < 100));
    world.age_usage(400);
    wait_until("usage of the account in use", SOON, || asked("alice") == 2);
    assert_eq!(asked("bob"), 1, "no launch came");
}

/// When the usage of each account was fetched.
fn fetched(world: &World) -> Vec<i64> {
    let text = fs::read_to_string(world.pool_home().join("usage.json")).expect("a cache");
    let cache: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let entries = cache["accounts"].as_object().expect("accounts").values();
    entries.map(|entry| entry["usage"]["fetched_at"].as_i64().expect("a time")).collect()
}

#[test]
fn attendant_makes_no_requests_if_the_settings_forbid_them() {
    let world = World::new(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(3600));
    world.usage(&[("alice", 10.0, 10.0)]);
    world.settings("background_refresh = false\n");
    let _session = world.hold(world.exec_as("alice"));
    world.age_usage(400);
    let _attendant = world.attend();
    // With the setting on, both requests come within the first look.
    let until = Instant::now() + Duration::from_secs(2);
    wait_until("some looks", SOON, || Instant::now() >= until);
    let report = world.backend().report();
    assert_eq!((report.usage.len(), report.refreshes.len()), (0, 0));
}

#[test]
fn machine_of_a_shared_pool_asks_its_database_while_a_session_runs() {
    let world = World::new(&["alice"]);
    world.usage(&[("alice", 10.0, 10.0)]);
    world.share_as("member");
    let _session = world.hold(world.exec_as("alice"));
    let _attendant = world.attend();
    let path = world.pool_home().join("usage.json");
    let cache = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(&path).expect("a cache")).expect("JSON")
    };
    // There is no database, which is what the answer says.
    wait_until("a question", SOON, || cache()["sharing"]["error"].is_string());
    let mut earlier = cache();
    earlier["sharing"]["tried_at"] = (testkit::now() - 100).into();
    world.write_private(&path, &earlier.to_string());
    // No launch has come meanwhile.
    wait_until("the next question", SOON, || {
        cache()["sharing"]["tried_at"].as_i64().is_some_and(|at| testkit::now() - at < 90)
    });
}
