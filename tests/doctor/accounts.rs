//! Accounts that need a login, requests that failed, and the pick.

use std::fs;

use serde_json::json;
use testkit::World;
use testkit::backend::{Fault, Route, Usage, api_key_json};

use super::clinic::{doctor, edit_account, healthy};

#[test]
fn accounts_that_need_a_login_are_named_with_the_command() {
    let world = healthy();
    let set = |state: &str, reason: Option<&str>| {
        edit_account(&world, "bob", |bob| bob["auth"] = json!({"state": state, "reason": reason}));
        doctor(&world, &[])
    };
    let fix = set("reauth_required", Some("revoked")).has("login", "fail", "bob: its login was revoked");
    assert_eq!(fix, "log in again with `codex-pool reauth bob`");
    set("reauth_required", Some("interrupted")).has("login", "fail", "bob: a token renewal was interrupted");
    assert!(set("expired", None).has("login", "warn", "bob: ").contains("codex-pool refresh bob"));
    set("workspace_removed", None).has("login", "fail", "removed from its workspace");
}

#[test]
fn credentials_missing_or_of_another_account_are_named() {
    let world = healthy();
    let bob = world.stored_path("bob");
    fs::copy(world.stored_path("alice"), &bob).expect("mix them up");
    assert!(doctor(&world, &[]).has("login", "fail", "another account's login").contains("reauth bob"));
    fs::write(&bob, "{").expect("break it");
    doctor(&world, &[]).has("login", "fail", "cannot use");
    fs::remove_file(&bob).expect("remove it");
    doctor(&world, &[]).has("login", "fail", "bob: the pool has no credentials");
}

#[test]
fn empty_pool_says_how_to_fill_it() {
    let world = World::new(&[]);
    assert_eq!(doctor(&world, &[]).has("accounts", "fail", "no accounts yet"), "`codex-pool add`");
    world.backend().add("alice");
    world.write_live(&world.backend().auth_json("alice"));
    doctor(&world, &[]).has("accounts", "warn", "no accounts yet");
}

#[test]
fn requests_that_failed_are_told_with_their_age() {
    let world = healthy();
    world.backend().inject(Route::Usage, Fault::Status(500, json!({})));
    world.pool(&["refresh"]).run().expect(1);
    let fix = doctor(&world, &[]).has("usage", "warn", "bob: the service has trouble (500)");
    assert!(fix.contains("codex-pool refresh bob"), "{fix}");
}

#[test]
fn pick_is_told_and_what_is_wrong_with_it() {
    let world = healthy();
    doctor(&world, &[]).has("pick", "ok", "the next launch uses alice");
    for name in ["alice", "bob"] {
        world.backend().set_usage(name, Usage::percent(100.0, 100.0));
    }
    world.pool(&["refresh"]).run().ok();
    doctor(&world, &[]).has("pick", "warn", "every account is at its limit");
    world.pool(&["use", "bob"]).run().ok();
    let fix = doctor(&world, &[]).has("pick", "warn", "the pinned account");
    assert!(fix.contains("codex-pool use --auto"), "{fix}");
    world.pool(&["import", "-", "--label", "key"]).stdin(api_key_json("k-1")).run().ok();
    world.pool(&["use", "key"]).run().ok();
    doctor(&world, &[]).has("pick", "ok", "key is pinned");
    world.pool(&["use", "--auto"]).run().ok();
    for name in ["alice", "bob"] {
        world.pool(&["disable", name]).run().ok();
    }
    doctor(&world, &[]).has("pick", "fail", "no account can be picked");
}
