//! After any change the launcher decides again: updates, removed programs, variables that matter to it.

use std::fs;

use testkit::files::{copy_program, set_mode, write_program};
use testkit::{bins, version};

use crate::world::{Installation as _, fails_alike, npm, packages, usual, world};

#[test]
fn launcher_runs_again_after_an_update_and_is_learnt_anew() {
    let Some(world) = world() else { return };
    let (bin, old) = usual(&world);
    world.learn(&bin);
    world.launch(world.exec_in(&bin)).natively();
    // As npm does it: a folder of the same name with other files.
    let modules = world.root().join("npm/lib/node_modules/@openai");
    fs::rename(&modules, world.root().join("npm/old")).expect("move away");
    fs::remove_file(bin.join("codex")).expect("remove");
    npm(&version(), &world.root().join("npm/lib/node_modules"), &bin.join("codex"));
    let launcher = modules.join("codex/bin/codex.js");
    let text = fs::read_to_string(&launcher).expect("read");
    let changed = text.replacen("CODEX_MANAGED_PACKAGE_ROOT:", "NEWS: \"1\", CODEX_MANAGED_PACKAGE_ROOT:", 1);
    assert_ne!(changed, text);
    write_program(&launcher, &changed);
    world.learn(&bin);
    let record = world.launch(world.exec_in(&bin)).natively();
    assert_eq!(record.var("NEWS").as_deref(), Some("1"));
    assert_eq!(record.args()[0], old.display().to_string());
    assert_eq!(world.learnt().len(), 1);
}

#[test]
fn native_program_that_was_replaced_alone_is_learnt_anew() {
    let Some(world) = world() else { return };
    let (bin, native) = usual(&world);
    world.learn(&bin);
    let new = native.with_extension("new");
    copy_program(&bins::standin_probe(), &new);
    fs::rename(&new, &native).expect("replace");
    world.learn(&bin);
    world.launch(world.exec_in(&bin)).natively();
}

#[test]
fn package_that_the_launcher_would_find_first_from_now_on_is_noticed() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    world.learn(&bin);
    let package = world.root().join("npm/lib/node_modules/@openai/codex");
    let inside = package.join("node_modules/@openai");
    let native = packages(&version(), &world.root().join("unused"), &|name| inside.join(name));
    world.learn(&bin);
    let record = world.launch(world.exec_in(&bin)).natively();
    assert_eq!(record.args()[0], native.display().to_string());
}

#[test]
fn native_program_that_cannot_be_executed_is_left_to_the_launcher() {
    let Some(world) = world() else { return };
    let (bin, native) = usual(&world);
    world.learn(&bin);
    let direct = || world.cmd_in(&bin.join("codex"), &[&bin]).args(["exec", "hi", ""]).run();
    set_mode(&native, 0o644);
    fails_alike(&direct(), &world.exec_in(&bin).run());
    world.settle();
    // Learnt like that, and executed in vain.
    let before = world.nodes().len();
    fails_alike(&direct(), &world.exec_in(&bin).run());
    assert_eq!(world.nodes().len(), before + 2, "through Node at once");
    let record = &world.learnt()[0].1;
    assert!(record.contains(&native.display().to_string()), "{record}");
    fs::remove_file(&native).expect("remove");
    fails_alike(&direct(), &world.exec_in(&bin).run());
}

#[test]
fn variables_that_matter_to_node_or_the_launcher_lead_through_node() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    world.learn(&bin);
    for (name, value) in [
        ("npm_config_user_agent", "npm/10 node/v20"),
        ("npm_config_user_agent", ""),
        ("npm_execpath", "/usr/lib/npm-cli.js"),
        ("NODE_OPTIONS", ""),
        ("NODE_PATH", "/somewhere"),
    ] {
        let record = world.launch(world.exec_in(&bin).env(name, value)).through_node();
        assert_eq!(record.var(name).as_deref(), Some(value));
    }
    let bun = world.exec_in(&bin).env("npm_config_user_agent", "bun/1.2");
    assert_eq!(world.launch(bun).through_node().var("CODEX_MANAGED_BY_BUN").as_deref(), Some("1"));
    world.launch(world.exec_in(&bin)).natively();
    assert_eq!(world.lessons(), 3);
}

#[test]
fn native_start_false_is_as_before_and_learns_nothing() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    let settings = world.pool_home().join("config.toml");
    let on = fs::read_to_string(&settings).expect("settings");
    let off = format!("{on}native_start = false\n");
    fs::write(&settings, &off).expect("write settings");
    world.launch(world.exec_in(&bin)).through_node();
    world.settle();
    assert_eq!((world.lessons(), world.tried().len()), (0, 0));
    fs::write(&settings, &on).expect("write settings");
    world.learn(&bin);
    fs::write(&settings, &off).expect("write settings");
    world.launch(world.exec_in(&bin)).through_node();
}

#[test]
fn native_start_needs_neither_the_pool_nor_its_lock() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    let off = || world.exec_in(&bin).env("CODEX_POOL", "off");
    let version = || world.cmd_in(&world.shim(), &[&bin]).arg("--version");
    for cmd in [off(), version()] {
        world.launch(cmd).through_node();
        world.settle();
        assert_eq!(world.tried().len(), 0, "these start no learning");
    }
    world.learn(&bin);
    let _lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    for cmd in [off(), version(), world.exec_in(&bin)] {
        world.launch(cmd).natively();
    }
}

#[test]
fn doctor_says_whether_codex_starts_without_node() {
    let Some(world) = world() else { return };
    let (bin, native) = usual(&world);
    let doctor = |name: &str, value: &str| {
        let cmd = world.cmd_in(&bins::codex_pool(), &[&bin]).args(["doctor", "--json"]).env(name, value);
        let json = cmd.run().json();
        let checks = json["checks"].as_array().expect("checks").clone();
        let check = checks.into_iter().find(|check| check["id"] == "start").expect("the check");
        assert_eq!(check["status"], "ok");
        check["message"].as_str().expect("a message").to_owned()
    };
    assert!(doctor("A", "").contains("until one has learnt"));
    world.learn(&bin);
    assert!(doctor("A", "").contains(&format!("{} without Node", native.display())));
    assert!(doctor("NODE_OPTIONS", "").contains("NODE_OPTIONS is set"));
    fs::remove_file(&native).expect("remove");
    world.exec_in(&bin).run().expect(1);
    world.settle();
    assert!(doctor("A", "").contains("through Node: the launcher ended"));
}
