//! Accounts that need a login, requests that failed, and the pick.

use std::fs;

use serde_json::json;
use testkit::Sandbox;
use testkit::backend::{Fault, Route, Usage, api_key_json};

use super::clinic::{doctor, document, edit_account, healthy};

#[test]
fn whoever_needs_a_login_is_named_with_the_command() {
    let sandbox = healthy();
    let set = |state: &str, reason: Option<&str>| {
        edit_account(&sandbox, "bob", |bob| bob["auth"] = json!({"state": state, "reason": reason}));
        doctor(&sandbox, &[])
    };
    let fix = set("reauth_required", Some("revoked")).has("login", "fail", "bob: its login was revoked");
    assert_eq!(fix, "log in again with `codex-pool reauth bob`");
    set("reauth_required", Some("interrupted")).has("login", "fail", "bob: a token refresh was interrupted");
    assert!(set("expired", None).has("login", "warn", "bob: ").contains("codex-pool refresh bob"));
    set("workspace_removed", None).has("login", "fail", "removed from its workspace");
}

#[test]
fn credentials_that_are_missing_or_somebody_elses_are_named() {
    let sandbox = healthy();
    let bob = document(&sandbox, "bob");
    fs::copy(document(&sandbox, "alice"), &bob).expect("mix them up");
    assert!(doctor(&sandbox, &[]).has("login", "fail", "another account's login").contains("reauth bob"));
    fs::write(&bob, "{").expect("break it");
    doctor(&sandbox, &[]).has("login", "fail", "cannot use");
    fs::remove_file(&bob).expect("remove it");
    doctor(&sandbox, &[]).has("login", "fail", "bob: the pool has no credentials");
}

#[test]
fn an_empty_pool_says_how_to_fill_it() {
    let sandbox = Sandbox::new();
    assert_eq!(doctor(&sandbox, &[]).has("accounts", "fail", "no accounts yet"), "`codex-pool add`");
    sandbox.backend().add("alice");
    sandbox.write_live(&sandbox.backend().auth_json("alice"));
    doctor(&sandbox, &[]).has("accounts", "warn", "no accounts yet");
}

#[test]
fn requests_that_failed_are_told_with_their_age() {
    let sandbox = healthy();
    sandbox.backend().inject(Route::Usage, Fault::Status(500, json!({})));
    sandbox.pool(&["refresh"]).run().expect(1);
    let fix = doctor(&sandbox, &[]).has("usage", "warn", "bob: the service has trouble (500)");
    assert!(fix.contains("codex-pool refresh bob"), "{fix}");
}

#[test]
fn the_pick_is_told_and_what_is_wrong_with_it() {
    let sandbox = healthy();
    doctor(&sandbox, &[]).has("pick", "ok", "the next launch uses alice");
    for name in ["alice", "bob"] {
        sandbox.backend().set_usage(name, Usage::percent(100.0, 100.0));
    }
    sandbox.pool(&["refresh"]).run().ok();
    doctor(&sandbox, &[]).has("pick", "warn", "every account is at its limit");
    sandbox.pool(&["use", "bob"]).run().ok();
    let fix = doctor(&sandbox, &[]).has("pick", "warn", "the pinned account");
    assert!(fix.contains("codex-pool use --auto"), "{fix}");
    sandbox.pool(&["import", "-", "--label", "key"]).stdin(api_key_json("k-1")).run().ok();
    sandbox.pool(&["use", "key"]).run().ok();
    doctor(&sandbox, &[]).has("pick", "ok", "key is pinned");
    sandbox.pool(&["use", "--auto"]).run().ok();
    for name in ["alice", "bob"] {
        sandbox.pool(&["disable", name]).run().ok();
    }
    doctor(&sandbox, &[]).has("pick", "fail", "no account can be picked");
}
