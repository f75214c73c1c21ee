//! A CODEX_HOME that another program has for its Codex: with a login of its own it is left alone, without one it gets the
//! pick.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::backend::api_key_json;
use testkit::{Cmd, World, answered};

use crate::BOB_FIRST;

/// The accounts of the pool; bob ranks first. The folder is a CODEX_HOME that was never used.
fn world() -> (World, PathBuf) {
    let world = World::new(&["alice", "bob", "carol"]);
    world.usage(&BOB_FIRST);
    world.backend().add("tool");
    let folder = world.home().join(".tool/codex");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("config.toml"), world.codex_config().to_string()).expect("write the config");
    (world, folder)
}

fn there(cmd: Cmd, folder: &Path) -> Cmd {
    cmd.env("CODEX_HOME", folder)
}

fn login_in(world: &World, folder: &Path, user: &str) -> String {
    let login = world.backend().auth_json(user);
    world.write_private(&folder.join("auth.json"), &login);
    login
}

fn login_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("auth.json")).expect("a login")
}

#[test]
fn home_of_another_tool_with_a_login_is_left_alone_until_init() {
    let (world, folder) = world();
    let login = login_in(&world, &folder, "tool");
    for _ in 0..2 {
        let output = answered(there(world.exec(), &folder).env("CODEX_POOL_VERBOSE", "1").run(), "tool");
        assert!(output.stderr.contains("so it is left alone"), "{output}");
        assert_eq!(there(world.exec(), &folder).run().stderr, "");
    }
    // An account that was asked for by name cannot answer, and no command takes the login in.
    assert!(there(world.exec_as("bob"), &folder).run().expect(4).stderr.contains("`codex-pool init`"));
    there(world.pool(&["use", "bob"]), &folder).run().expect(1);
    there(world.pool(&["list"]), &folder).run().ok();
    let doctor = there(world.pool(&["doctor", "--json"]), &folder).run();
    assert!(doctor.stdout.contains("a login that is not the pool's"), "{doctor}");
    let auth_json = folder.join("auth.json");
    assert!(login_of(&folder) == login && !auth_json.is_symlink());
    assert_eq!(world.labels(), ["alice", "bob", "carol"]);
    assert!(!folder.join("skills").exists() && !world.pool_home().join("homes").exists());
    // Elsewhere the pool goes on.
    answered(world.exec().run(), "bob");
    there(world.pool(&["init", "--yes"]).env("NO_MODIFY_PATH", "1"), &folder).run();
    assert_eq!(world.labels(), ["alice", "bob", "carol", "tool"]);
    answered(there(world.exec_as("carol"), &folder).run(), "carol");
    world.assert_nothing_lost(&["alice", "bob", "carol", "tool"]);
}

#[test]
fn home_of_another_tool_without_a_login_gets_the_pick_and_is_the_pools() {
    let (world, folder) = world();
    answered(there(world.exec(), &folder).run(), "bob");
    // Even where the state is lost.
    fs::remove_file(world.pool_home().join("state.json")).expect("remove it");
    login_in(&world, &folder, "tool");
    answered(there(world.exec(), &folder).run(), "bob");
    assert_eq!(world.labels(), ["alice", "bob", "carol", "tool"]);
    world.assert_nothing_lost(&["alice", "bob", "carol", "tool"]);
}

#[test]
fn home_of_another_tool_with_a_login_of_the_pool_gets_the_pick() {
    let (world, folder) = world();
    let alice = world.stored("alice");
    world.write_private(&folder.join("auth.json"), &alice);
    answered(there(world.exec(), &folder).run(), "bob");
    world.assert_nothing_lost(&["alice", "bob", "carol"]);
}

#[test]
fn logins_without_a_refresh_token_are_left_alone_unless_they_are_known() {
    let (world, folder) = world();
    let key = api_key_json("sk-standin-tool");
    world.backend().add_api_key("tool-key", "sk-standin-tool");
    world.write_private(&folder.join("auth.json"), &key);
    answered(there(world.exec(), &folder).run(), "tool-key");
    assert_eq!(world.labels(), ["alice", "bob", "carol"]);
    for text in ["{\"tokens\": {\"acc", r#"{"auth_mode":"agentIdentity"}"#] {
        fs::write(folder.join("auth.json"), text).expect("write it");
        there(world.exec(), &folder).run();
        assert_eq!(login_of(&folder), text);
    }
    world.import("key", &key);
    world.write_private(&folder.join("auth.json"), &key);
    answered(there(world.exec(), &folder).run(), "bob");
}

#[test]
fn default_home_by_any_name_is_the_pools() {
    let (world, _) = world();
    let link = world.home().join("codex-link");
    symlink(world.codex_home(), &link).expect("a link");
    for folder in [link, world.codex_home().join("../.codex")] {
        login_in(&world, &world.codex_home(), "tool");
        answered(there(world.exec(), &folder).run(), "bob");
    }
    assert_eq!(world.labels(), ["alice", "bob", "carol", "tool"]);
}

#[test]
fn launch_that_goes_on_without_the_pool_does_not_take_the_home_in() {
    let (world, folder) = world();
    login_in(&world, &folder, "tool");
    let registry = world.pool_home().join("accounts.json");
    let good = fs::read(&registry).expect("the registry");
    fs::write(&registry, "{ broken").expect("break it");
    let running = world.hold(there(world.exec(), &folder));
    fs::write(&registry, good).expect("restore it");
    assert_eq!(world.labels(), ["alice", "bob", "carol"]);
    world.open_gate();
    answered(running.wait(), "tool");
}
