//! Logins without a refresh token: the bundle that makes them, and a pool that has them.

use std::path::Path;

use serde_json::{Value, json};
use testkit::backend::{LoginSpec, UserSpec};
use testkit::{World, complains};

const DAY: i64 = 86_400;

/// The document without its refresh token.
fn access_only(auth_json: &str) -> String {
    let mut doc: Value = serde_json::from_str(auth_json).expect("JSON");
    doc["tokens"]["refresh_token"] = "".into();
    doc.to_string()
}

/// A login of that user without a refresh token, which ends in so many seconds.
fn access_for(world: &World, user: &str, expires_in: i64) -> String {
    world.backend().add(user);
    let doc = world.backend().auth_json_with(user, &LoginSpec::expires_in(expires_in));
    world.backend().forget_token(&testkit::backend::refresh_token(&doc));
    access_only(&doc)
}

fn refresh_token_at(path: &Path) -> String {
    testkit::backend::refresh_token(&std::fs::read_to_string(path).expect("a document"))
}

#[test]
fn bundle_works_on_another_machine_and_has_no_refresh_token() {
    let owner = World::logged_in(&["alice"]);
    owner.add_as("bob", UserSpec::new("bob"), &LoginSpec::expires_in(7 * DAY + 30));
    let output = owner.pool(&["export", "--access-only", "alice", "bob"]).run().ok();
    complains(&output, "the access of bob ends in 7d");
    for user in ["alice", "bob"] {
        assert!(!output.stdout.contains(&owner.backend().newest_refresh_token(user)), "{user}");
    }
    let runner = owner.another();
    let imported = runner.pool(&["import", "-"]).stdin(output.stdout).run().ok();
    complains(&imported, "its access ends in 7d");
    assert!(!imported.stderr.contains("two owners"), "{imported}");
    assert_eq!(runner.labels(), ["alice", "bob"]);
    for user in ["alice", "bob"] {
        let account = runner.account(user);
        assert_eq!((&account["state"], &account["access_only"]), (&json!("unknown"), &json!(true)));
        assert!(account["access_ends_at"].as_i64() > Some(0), "{account}");
        runner.exec_as(user).run().ok().says(&format!("hello from {user}"));
    }
    runner.pool(&["refresh"]).run().ok();
    runner.pool(&["list"]).run().ok().says("ready, ends in 7d");
    runner.pool(&["doctor", "-v"]).run().says("its login has no refresh token and ends in 7d");
    assert!(owner.backend().report().refreshes.is_empty(), "nothing is renewed");
    assert_eq!(owner.account("alice")["access_only"], false);
    owner.backend().assert_clean();
}

#[test]
fn bundle_that_would_be_of_no_use_is_refused() {
    let world = World::new(&["alice"]);
    world.add_as("old", UserSpec::new("old"), &LoginSpec::expires_in(-5));
    let export = |labels: &[&str]| world.pool(&["export", "--access-only"]).args(labels).run().expect(1);
    complains(&export(&["alice", "old"]), "the access token of old has ended");
    complains(&export(&["old"]), "`codex-pool refresh old`");
    world.import("key", r#"{"OPENAI_API_KEY": "sk-fake"}"#);
    complains(&export(&["alice", "key"]), "key is an API key, which does not end");
    complains(
        &world.pool(&["export", "alice", "key"]).run().expect(2),
        "several accounts are exported only with `--access-only`",
    );
}

#[test]
fn access_only_login_never_replaces_one_that_can_be_renewed() {
    let world = World::logged_in(&["alice"]);
    let full = world.stored("alice");
    let spec = LoginSpec { issued_ago: Some(-5), ..LoginSpec::default() };
    let newer = access_only(&world.backend().auth_json_with("alice", &spec));
    world.pool(&["import", "-"]).stdin(&*newer).run().ok().says("which it keeps");
    assert_eq!(world.stored("alice"), full);
    for from_a_home in [access_only(&full), newer] {
        world.write_live(&from_a_home);
        world.exec().run().ok().says("hello from alice");
        assert_eq!(refresh_token_at(&world.stored_path("alice")), testkit::backend::refresh_token(&full));
        assert_eq!(world.account("alice")["access_only"], false);
    }
    world.pool(&["refresh"]).run().ok();
    assert_eq!(world.live().as_deref(), Some(&*full), "and the home can renew again");
}

#[test]
fn login_that_can_be_renewed_takes_the_place_of_an_access_only_one() {
    let owner = World::logged_in(&["alice"]);
    let runner = owner.another();
    let bundle = owner.pool(&["export", "--access-only", "alice"]).run().ok().stdout;
    runner.pool(&["import", "-"]).stdin(&*bundle).run().ok();
    runner.pool(&["use", "alice"]).run().ok();
    let older = LoginSpec { issued_ago: Some(1000), ..LoginSpec::default() };
    let full = owner.backend().auth_json_with("alice", &older);
    runner.pool(&["import", "-"]).stdin(&*full).run().ok().says("it has the newer credentials now");
    assert_eq!((runner.stored("alice"), runner.live()), (full.clone(), Some(full)));
    assert_eq!(runner.account("alice")["access_only"], false);
}

#[test]
fn newer_bundle_takes_the_place_of_the_older_one_in_pool_and_home() {
    let owner = World::logged_in(&["alice"]);
    let runner = owner.another();
    let bundle = || owner.pool(&["export", "--access-only", "alice"]).run().ok().stdout;
    runner.pool(&["import", "-"]).stdin(bundle()).run().ok();
    runner.pool(&["use", "alice"]).run().ok();
    let before = runner.live();
    let newer = LoginSpec { issued_ago: Some(-5), ..LoginSpec::default() };
    owner.write_live(&owner.backend().auth_json_with("alice", &newer));
    runner.pool(&["import", "-"]).stdin(bundle()).run().ok().says("it has the newer credentials now");
    assert_ne!(runner.live(), before);
    assert_eq!(runner.live(), Some(runner.stored("alice")));
    runner.exec().run().ok().says("hello from alice");
}

#[test]
fn access_that_has_ended_is_not_picked_and_says_what_to_do() {
    let world = World::new(&["bob"]);
    world.import("ended", &access_for(&world, "ended", -5));
    let account = world.account("ended");
    assert_eq!((&account["state"], &account["rank"]), (&json!("reauth_required"), &Value::Null));
    assert!(account["error"].as_str().is_some_and(|e| e.contains("import it again from a new")), "{account}");
    world.exec().run().ok().says("hello from bob");
    complains(&world.exec_as("ended").run().expect(5), "its access has ended");
    complains(&world.pool(&["use", "ended"]).run().expect(5), "its access has ended");
    let refreshed = world.pool(&["refresh", "ended"]).run().expect(5);
    complains(&refreshed, "`codex-pool reauth ended`");
    world.pool(&["doctor"]).run().expect(1).says("ended: its access has ended");
    assert!(world.backend().report().usage_of("ended").is_empty(), "the service is not asked in vain");
}

#[test]
fn access_that_the_service_ended_early_needs_a_new_bundle() {
    let world = World::new(&["bob"]);
    world.import("gone", &access_for(&world, "gone", 5 * DAY));
    world.backend().reject_access_tokens("gone");
    let output = world.pool(&["refresh", "gone"]).run().expect(5);
    complains(&output, "gone: it has no refresh token");
    complains(&output, "import it again from a new");
    assert!(world.backend().report().refreshes.is_empty());
    world.import("gone", &access_for(&world, "gone", 6 * DAY));
    assert_ne!(world.account("gone")["state"], "reauth_required");
}

#[test]
fn list_says_which_login_ends_soon_and_what_makes_a_new_one() {
    let world = World::new(&["bob"]);
    world.import("soon", &access_for(&world, "soon", 2 * DAY + 90));
    world.import("later", &access_for(&world, "later", 6 * DAY));
    let list = world.pool(&["list"]).run().ok().stdout;
    // What `why` says when it has ended.
    let line = "soon: its login ends in 2d and cannot be renewed; import it again from a new `codex-pool export \
                --access-only`, or log in here with `codex-pool reauth soon`.\n";
    assert!(list.contains(line) && !list.contains("later: its login"), "{list}");
}

#[test]
fn access_that_ends_within_a_day_is_named_by_the_doctor() {
    let world = World::new(&["bob"]);
    world.import("soon", &access_for(&world, "soon", 3 * 3600 + 30));
    let output = world.pool(&["doctor", "--json"]).run();
    let checks = output.json()["checks"].clone();
    let check = checks.as_array().expect("checks").iter().find(|c| c["id"] == "access").expect("a check");
    assert_eq!(check["status"], "warn", "{check}");
    assert!(check["message"].as_str().is_some_and(|m| m.contains("ends in 3h")), "{check}");
    // The members of a shared pool renew it just then, and nothing is to be done here.
    world.share_as("runner");
    let checks = world.pool(&["doctor", "--json"]).run().json()["checks"].clone();
    let check = checks.as_array().expect("checks").iter().find(|c| c["id"] == "access").expect("a check");
    assert_eq!(check["status"], "ok", "{check}");
    world.exec_as("soon").run().ok().says("hello from soon");
}
