//! `reauth`: the same user in the same workspace, or nothing.

use std::fs;

use testkit::backend::{Fault, LoginSpec, Route, UserSpec};
use testkit::files::texts_below;
use testkit::{World, complains, text};

use crate::logins::Logins as _;

#[test]
fn dead_login_lives_again_where_it_is_live() {
    let world = World::logged_in(&["alice", "bob"]);
    let backend = world.backend();
    backend.revoke_logins("alice");
    world.pool(&["refresh", "alice"]).run();
    backend.revoke_logins("bob");
    let token = world.stored("bob");
    world.login(&["reauth", "alice"], "alice").ok().says("`alice` is logged in again; it is live");
    assert!(world.live_is_good());
    assert_eq!(world.live().as_deref(), Some(&*world.stored("alice")));
    assert_eq!(world.account("alice")["state"], "ready");
    assert_eq!(world.stored("bob"), token);
    world.codex(&["exec", "hi"]).env("CODEX_POOL_ACCOUNT", "alice").run().ok().says("hello from alice");
    assert!(backend.report().revocations.is_empty());
    world.assert_no_login_home();
    backend.assert_clean();
}

#[test]
fn state_of_the_account_is_lifted_at_once() {
    let world = World::logged_in(&["alice", "bob"]);
    let backend = world.backend();
    let expired =
        backend.auth_json_with("bob", &LoginSpec { refresh_expired: true, ..LoginSpec::expires_in(-60) });
    fs::write(world.stored_path("bob"), expired).expect("write it");
    world.pool(&["refresh", "bob"]).run().expect(5);
    assert_eq!(world.account("bob")["state"], "reauth_required");
    let asked = backend.report().usage_of("bob").len();
    let output = world.login(&["reauth", "bob"], "bob").ok().says("ready");
    complains(&output, "log in as bob@example.com (plus, workspace ");
    assert_eq!(backend.report().usage_of("bob").len(), asked + 1, "earlier failures do not delay it");
    backend.assert_clean();
}

#[test]
fn state_is_lifted_though_usage_cannot_be_fetched() {
    let world = World::logged_in(&["alice", "bob"]);
    let backend = world.backend();
    backend.deactivate("bob", Some(402));
    world.pool(&["refresh", "bob"]).run().expect(1);
    assert_eq!(world.account("bob")["state"], "workspace_removed");
    let file = world.pool_home().join("state.json");
    let mut state: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).expect("the state")).expect("JSON");
    let mark =
        serde_json::json!({"kind": "renewal", "account": world.id("bob"), "process": "0-0-1-1", "at": 1});
    state["marks"] = serde_json::json!([mark]);
    fs::write(&file, state.to_string()).expect("write it");
    backend.inject(Route::Usage, Fault::Status(500, serde_json::json!({})));
    let output = world.login(&["reauth", "bob"], "bob").ok();
    complains(&output, "its usage is not known yet");
    assert_ne!(world.account("bob")["state"], "workspace_removed");
    assert!(!fs::read_to_string(&file).expect("the state").contains("\"refresh\""));
}

#[test]
fn identity_other_than_the_accounts_is_an_error_that_names_both() {
    let world = World::logged_in(&["alice", "bob"]);
    let spec = UserSpec::new("alice").workspace("ffffffff-other");
    world.backend().add_user("elsewhere", spec);
    let before = world.possessions();
    for user in ["bob", "elsewhere"] {
        let output = world.login(&["reauth", "alice"], user).expect(1);
        let workspace = text(&world.account("alice")["account_id"]);
        complains(&output, &format!("but `alice` is alice@example.com (plus, workspace {workspace})"));
        complains(
            &output,
            if user == "bob" { "you logged in as bob@example.com" } else { "workspace ffffffff-other" },
        );
        complains(&output, "nothing was changed");
        assert_eq!(world.possessions(), before);
    }
    assert!(world.live_is_good());
    world.assert_no_login_home();
    world.backend().assert_clean();
}

#[test]
fn session_in_a_home_of_its_own_gets_the_new_login() {
    let world = World::logged_in(&["alice", "bob"]);
    let held = |user: &str| world.hold(world.exec_as(user).env("STANDIN_REREAD", "1"));
    let (alice, bob) = (held("alice"), held("bob"));
    let old = world.stored("bob");
    world.login(&["reauth", "bob"], "bob").ok();
    let new = world.stored("bob");
    assert_ne!(new, old);
    let homes = texts_below(&world.pool_home().join("homes"));
    let codex_homes: Vec<_> = homes.iter().filter(|(path, _)| path.ends_with("auth.json")).collect();
    assert_eq!(codex_homes.len(), 1);
    assert_eq!(codex_homes[0].1, &new);
    world.open_gate();
    alice.wait().ok().says("hello from alice");
    bob.wait().ok().says("hello from bob");
    world.backend().assert_clean();
}

#[test]
fn api_key_is_not_renewed_by_a_login() {
    let world = World::logged_in(&["alice"]);
    world.pool(&["add", "--with-api-key"]).stdin("sk-fake-1").run().ok();
    complains(&world.pool(&["reauth", "api-key"]).run().expect(1), "`codex-pool add --with-api-key`");
    complains(
        &world.pool(&["reauth", "alice", "--with-api-key"]).stdin("x").run().expect(2),
        "ChatGPT login",
    );
    complains(&world.pool(&["reauth", "stranger"]).run().expect(3), "no account matches `stranger`");
}
