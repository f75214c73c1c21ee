//! Logins that the pool finds live: unknown ones are adopted, known ones only move forward, and unmanaged ones are
//! never overwritten.

use std::fs;

use testkit::backend::{LoginSpec, UserSpec, api_key_json};
use testkit::files::set_age;
use testkit::{World, answered};

use crate::{ALL, BOB_FIRST};

fn world() -> World {
    let world = World::new(&ALL);
    world.usage(&BOB_FIRST);
    world
}

fn real() -> Option<World> {
    let world = World::real(&ALL)?;
    world.usage(&BOB_FIRST);
    Some(world)
}

#[test]
fn logins_that_cannot_be_managed_are_never_overwritten() {
    for (field, value) in [("agent_identity", "an-agent"), ("personal_access_token", "pat-test")] {
        let world = world();
        let text = format!("{{\"{field}\": \"{value}\", \"OPENAI_API_KEY\": null}}");
        world.write_live(&text);
        set_age(&world.codex_home().join("auth.json"), 60);
        answered(world.exec().run(), "bob");
        assert_eq!(world.live().as_deref(), Some(text.as_str()), "bob has a home of his own");
        let output = world.pool(&["use", "alice"]).run().expect(1);
        assert!(output.stderr.contains("never overwritten"), "{output}");
    }
}

#[test]
fn login_next_to_unknown_fields_keeps_them() {
    let world = World::new(&["alice", "bob"]);
    let mut extra = serde_json::Map::new();
    extra.insert("of_the_future".to_owned(), serde_json::json!({"b": 1, "a": [2]}));
    let login = world.backend().auth_json_with("alice", &LoginSpec { extra, ..LoginSpec::default() });
    world.write_live(&login);
    answered(world.exec_as("bob").run(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.live().as_deref(), Some(login.as_str()), "byte for byte");
}

#[test]
fn unknown_login_found_live_is_adopted_and_not_overwritten() {
    let Some(world) = real() else { return };
    let backend = world.backend();
    backend.add("dave");
    let login = backend.auth_json("dave");
    world.write_live(&login);
    answered(world.exec().run(), "bob");
    assert_eq!(
        (world.stored("dave"), world.account("dave")["email"].as_str()),
        (login, Some("dave@example.com"))
    );
    answered(world.exec_as("dave").run(), "dave");
    world.assert_nothing_lost(&["alice", "bob", "carol", "dave"]);
}

#[test]
fn api_key_found_live_is_adopted_and_not_overwritten() {
    let Some(world) = real() else { return };
    world.backend().add_api_key("robot", "sk-test-robot");
    let login = api_key_json("sk-test-robot");
    world.write_live(&login);
    answered(world.exec().run(), "bob");
    let robot = world.account("api-key");
    assert_eq!((robot["kind"].as_str(), robot["email"].as_str()), (Some("api_key"), None));
    assert_eq!(world.stored("api-key"), login);
    answered(world.exec_as("api-key").run(), "robot");
}

#[test]
fn two_users_of_one_workspace_are_two_accounts() {
    let Some(world) = real() else { return };
    let backend = world.backend();
    let team = testkit::backend::account_id("team");
    for name in ["erin", "fred"] {
        backend.add_user(name, UserSpec::new(name).plan("team").workspace(&team));
        world.write_live(&backend.auth_json(name));
        answered(world.exec_as("alice").run(), "alice");
    }
    let (erin, fred) = (world.account("erin"), world.account("fred"));
    assert_eq!(erin["account_id"], fred["account_id"]);
    assert_ne!(erin["id"], fred["id"]);
    for name in ["erin", "fred", "erin"] {
        answered(world.exec_as(name).run(), name);
    }
    let output = world.exec_as(&team).run().expect(3);
    assert!(output.stderr.contains("erin") && output.stderr.contains("fred"), "{output}");
    world.assert_nothing_lost(&["erin", "fred"]);
}

#[test]
fn mixed_document_found_live_is_put_right() {
    let Some(world) = World::real(&["alice", "bob"]) else { return };
    let backend = world.backend();
    let bobs = testkit::backend::account_id("bob");
    let spec = LoginSpec { account_id: Some(bobs), ..LoginSpec::default() };
    world.write_live(&backend.auth_json_with("alice", &spec));
    answered(world.exec_as("alice").run(), "alice");
    let live: serde_json::Value = serde_json::from_str(&world.live().expect("a login")).expect("JSON");
    assert_eq!(live["tokens"]["account_id"], testkit::backend::account_id("alice").as_str());
    assert_eq!(world.list().len(), 2);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn login_made_outside_wins_if_newer_and_loses_if_older() {
    let world = World::new(&["alice", "bob"]);
    let backend = world.backend();
    let old = world.stored("alice");
    answered(world.exec_as("bob").run(), "bob");
    let spec = |ago| LoginSpec { issued_ago: Some(ago), ..LoginSpec::default() };
    // A backup of long ago is put back by hand.
    let backup = backend.auth_json_with("alice", &spec(500_000));
    world.write_live(&backup);
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.stored("alice"), old);
    assert!(world.lost_found().iter().any(|(_, text)| *text == backup));
    // The official `codex login`, by its full path.
    let fresh = backend.auth_json_with(
        "alice",
        &LoginSpec { expires_in: 900_000, issued_ago: Some(-5), ..LoginSpec::default() },
    );
    world.write_live(&fresh);
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.stored("alice"), fresh);
    assert!(world.lost_found().iter().any(|(_, text)| *text == old));
}

#[test]
fn login_that_vanished_needs_a_login_until_there_is_one() {
    let world = world();
    answered(world.exec().run(), "bob");
    fs::remove_file(world.codex_home().join("auth.json")).expect("log out");
    answered(world.exec().run(), "carol");
    assert_eq!(world.account("bob")["state"], "reauth_required");
    // The same user logs in again with the real Codex.
    let again =
        world.backend().auth_json_with("bob", &LoginSpec { issued_ago: Some(-1), ..LoginSpec::default() });
    world.write_live(&again);
    answered(world.exec().run(), "bob");
    assert_ne!(world.account("bob")["state"], "reauth_required");
}
