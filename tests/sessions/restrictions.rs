//! Codex deletes an `auth.json` that its configuration forbids. Whatever the layer, it never finds one that
//! the pool put there, and nothing is deleted.

use std::fs;

use serde_json::Value;

use crate::world::{BOB_FIRST, World};

fn world() -> World {
    let world = World::real(&["alice", "bob"]);
    world.usage(&BOB_FIRST[..2]);
    // Bob ranks first, and is live.
    world.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from bob");
    world
}

fn workspace(world: &World, label: &str) -> String {
    let account: Value = world.account(label);
    account["account_id"].as_str().expect("an account id").to_owned()
}

fn only(world: &World, label: &str) -> String {
    format!("forced_chatgpt_workspace_id = \"{}\"\n", workspace(world, label))
}

/// Alice answers, and both logins are still there.
fn alice_answers(world: &World, args: &[&str]) {
    let out = world.codex(args).run().ok();
    assert!(out.stdout.contains("hello from alice"), "{}{}", out.stdout, out.stderr);
    for user in ["alice", "bob"] {
        assert!(world.backend().is_good(&world.stored(user)), "{user}");
    }
    assert!(world.live().is_some(), "nothing was deleted");
    world.backend().assert_clean();
}

#[test]
fn in_the_users_own_configuration() {
    let world = world();
    let only = workspace(&world, "alice");
    world.edit_config(|config| {
        config.insert("forced_chatgpt_workspace_id".to_owned(), only.into());
    });
    alice_answers(&world, &["exec", "--skip-git-repo-check", "hi"]);
}

#[test]
fn on_the_command_line() {
    let world = world();
    let only = format!("forced_chatgpt_workspace_id=\"{}\"", workspace(&world, "alice"));
    alice_answers(&world, &["exec", "--skip-git-repo-check", "-c", &only, "hi"]);
}

#[test]
fn in_a_profile() {
    let world = world();
    fs::write(world.codex_home().join("work.config.toml"), only(&world, "alice")).expect("a profile");
    alice_answers(&world, &["-p", "work", "exec", "--skip-git-repo-check", "hi"]);
}

#[test]
fn in_a_trusted_project() {
    let world = world();
    let project = world.work();
    fs::create_dir_all(project.join(".codex")).expect("a folder");
    fs::create_dir_all(project.join(".git")).expect("a project root");
    fs::write(project.join(".codex/config.toml"), only(&world, "alice")).expect("a configuration");
    let name = fs::canonicalize(&project).expect("a path").display().to_string();
    world.edit_config(|config| {
        let trusted = toml::Table::from_iter([("trust_level".to_owned(), "trusted".into())]);
        config.insert("projects".to_owned(), toml::Table::from_iter([(name, trusted.into())]).into());
    });
    alice_answers(&world, &["exec", "--skip-git-repo-check", "hi"]);
}

#[test]
fn where_nobody_is_allowed_codex_starts_without_a_login_and_deletes_nothing() {
    let world = world();
    let live = world.live();
    let out = world
        .codex(&["exec", "--skip-git-repo-check", "-c", "forced_chatgpt_workspace_id=\"none-of-ours\"", "hi"])
        .run();
    assert_ne!(out.code(), Some(0));
    assert!(out.stderr.contains("allows none of the pool's accounts"), "{}", out.stderr);
    assert_eq!(world.live(), live);
    for user in ["alice", "bob"] {
        assert!(world.backend().is_good(&world.stored(user)), "{user}");
    }
}

#[test]
fn an_account_asked_for_by_name_that_is_forbidden_is_refused() {
    let world = world();
    let live = world.live();
    let only = format!("forced_chatgpt_workspace_id=\"{}\"", workspace(&world, "alice"));
    let out = world
        .codex(&["exec", "--skip-git-repo-check", "-c", &only, "hi"])
        .env("CODEX_POOL_ACCOUNT", "bob")
        .run()
        .expect(4);
    assert!(out.stderr.contains("forbidden"), "{}", out.stderr);
    assert_eq!(world.live(), live);
}
