//! Learning runs in the background, once, and only with Codex's own JavaScript.

use std::fs;

use testkit::files::{write_program, write_script};
use testkit::{SOON, bins, wait_for, wait_until};

use crate::world::{Installation as _, usual, world};

#[test]
fn learning_never_delays_a_launch() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    world.shut_gate();
    for _ in 0..2 {
        world.launch(world.exec_in(&bin)).through_node();
    }
    wait_until("a lesson that waits", SOON, || world.lessons() == 1);
    assert_eq!(world.learnt().len(), 0);
    fs::write(world.gate(), "").expect("write");
    wait_for("what was learnt", SOON, || world.learnt().pop());
    world.settle();
    world.launch(world.exec_in(&bin)).natively();
    assert_eq!(world.lessons(), 3);
}

#[test]
fn launches_at_once_learn_once() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    let running: Vec<_> = (0..8).map(|_| world.exec_in(&bin).spawn()).collect();
    for launch in running {
        launch.wait().ok();
    }
    wait_for("what was learnt", SOON, || world.learnt().pop());
    world.settle();
    assert_eq!(world.lessons(), 3);
}

#[test]
fn launcher_that_is_no_javascript_starts_as_before() {
    let Some(world) = world() else { return };
    let bin = world.root().join("other");
    write_script(&bin.join("codex"), &format!("exec '{}' \"$@\"", bins::standin_probe().display()));
    for _ in 0..2 {
        world.launch(world.exec_in(&bin)).natively();
        world.settle();
    }
    assert!(!world.pool_home().join("native").exists());
}

#[test]
fn javascript_of_another_package_is_never_run_to_learn() {
    let Some(world) = world() else { return };
    let bin = world.root().join("other/bin");
    fs::create_dir_all(&bin).expect("a folder");
    fs::write(bin.with_file_name("package.json"), r#"{"name":"codex-wrapper"}"#).expect("write");
    let probe = bins::standin_probe();
    let text = format!(
        "require('child_process').spawnSync({probe:?}, process.argv.slice(2), {{stdio: 'inherit'}});\n"
    );
    write_program(&bin.join("codex"), format!("#!/usr/bin/env node\n{text}"));
    for _ in 0..2 {
        world.launch(world.exec_in(&bin)).through_node();
        world.settle();
    }
    assert_eq!((world.lessons(), world.learnt().len()), (0, 0));
    assert!(world.tried()[0].1.contains("no JavaScript"), "{:?}", world.tried());
}

#[test]
fn failure_is_not_repeated_until_something_changes() {
    let Some(world) = world() else { return };
    let (bin, native) = usual(&world);
    let aside = native.with_extension("aside");
    fs::rename(&native, &aside).expect("move away");
    for _ in 0..3 {
        world.exec_in(&bin).run().expect(1);
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
    world.launch(world.exec_in(&bin)).natively();
}

#[test]
fn record_of_an_installation_that_is_gone_is_forgotten() {
    let Some(world) = world() else { return };
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
