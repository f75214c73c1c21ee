//! When and how often it is learnt: in the background, once, and only of Codex's own JavaScript.

use std::fs;

use testkit::{bins, wait_for, wait_until};

use crate::world::{SOON, World, put, script, usual};

#[test]
fn learning_never_delays_a_launch() {
    let world = World::new();
    let (bin, _) = usual(&world);
    world.shut_gate();
    for _ in 0..2 {
        world.launch(world.exec(&bin)).through_node();
    }
    wait_until("a lesson that waits", SOON, || world.lessons() == 1);
    assert_eq!(world.learnt().len(), 0);
    fs::write(world.gate(), "").expect("write");
    wait_for("what was learnt", SOON, || world.learnt().pop());
    world.settle();
    world.launch(world.exec(&bin)).natively();
    assert_eq!(world.lessons(), 3);
}

#[test]
fn launches_at_once_learn_once() {
    let world = World::new();
    let (bin, _) = usual(&world);
    let running: Vec<_> = (0..8).map(|_| world.exec(&bin).spawn()).collect();
    for launch in running {
        launch.wait().ok();
    }
    wait_for("what was learnt", SOON, || world.learnt().pop());
    world.settle();
    assert_eq!(world.lessons(), 3);
}

#[test]
fn a_launcher_that_is_no_javascript_starts_as_before() {
    let world = World::new();
    let bin = world.root().join("other");
    script(&bin.join("codex"), &format!("exec '{}' \"$@\"", bins::standin_probe().display()));
    for _ in 0..2 {
        world.launch(world.exec(&bin)).natively();
        world.settle();
    }
    assert!(!world.pool_home().join("native").exists());
}

#[test]
fn javascript_of_another_package_is_never_run_to_learn() {
    let world = World::new();
    let bin = world.root().join("other/bin");
    fs::create_dir_all(&bin).expect("a folder");
    fs::write(bin.with_file_name("package.json"), r#"{"name":"codex-wrapper"}"#).expect("write");
    let probe = bins::standin_probe();
    let text = format!(
        "require('child_process').spawnSync({probe:?}, process.argv.slice(2), {{stdio: 'inherit'}});\n"
    );
    put(&bin.join("codex"), &format!("#!/usr/bin/env node\n{text}"));
    for _ in 0..2 {
        world.launch(world.exec(&bin)).through_node();
        world.settle();
    }
    assert_eq!((world.lessons(), world.learnt().len()), (0, 0));
    assert!(world.tried()[0].1.contains("no JavaScript"), "{:?}", world.tried());
}

#[test]
fn a_failure_is_not_repeated_until_something_changes() {
    let world = World::new();
    let (bin, native) = usual(&world);
    let aside = native.with_extension("aside");
    fs::rename(&native, &aside).expect("move away");
    for _ in 0..3 {
        world.exec(&bin).run().expect(1);
        world.settle();
    }
    assert_eq!((world.lessons(), world.learnt().len()), (1, 0));
    assert!(world.tried()[0].1.contains("without starting anything"), "{:?}", world.tried());
    // An hour later.
    let (path, text) = world.tried().remove(0);
    let mut tried: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    tried["at"] = (tried["at"].as_i64().expect("a time") - 3_601).into();
    fs::write(path, tried.to_string()).expect("write");
    fs::rename(&aside, &native).expect("move back");
    world.learn(&bin);
    world.launch(world.exec(&bin)).natively();
}

#[test]
fn what_is_known_of_an_installation_that_is_gone_is_forgotten() {
    let world = World::new();
    let (bin, _) = usual(&world);
    world.learn(&bin);
    let moved = world.root().join("moved");
    fs::rename(world.root().join("npm"), &moved).expect("move");
    fs::remove_file(moved.join("bin/codex")).expect("remove");
    crate::world::link_to(
        &moved.join("lib/node_modules/@openai/codex/bin/codex.js"),
        &moved.join("bin/codex"),
    );
    world.learn(&moved.join("bin"));
    assert_eq!((world.learnt().len(), world.tried().len()), (1, 1));
}
