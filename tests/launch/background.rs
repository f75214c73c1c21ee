//! The refresh that a launch starts: detached, after the unlock, never in the way, and waited for only
//! when nothing that is known is of use. The probe stands in the admin command's place and records its start.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use testkit::files::write_script;
use testkit::probe::Record;
use testkit::{Codex, SOON, World, answered, bins, now, wait_for, wait_until};

use crate::BOB_FIRST;

/// Returns a world in which the probe is both Codex and the `codex-pool` that the shim finds.
fn world() -> World {
    let world = World::probe(&["alice", "bob", "carol"]);
    world.usage(&BOB_FIRST);
    // From now on it is the first `codex-pool` on PATH, too.
    symlink(bins::standin_probe(), world.pool_home().join("bin/codex-pool")).expect("link");
    world.settings("attend = false\n");
    world
}

/// Lets the usage have been fetched that many seconds ago, and tried for that long ago.
fn age(world: &World, fetched: i64, tried: Option<i64>) {
    world.edit_usage(|entry| {
        entry["usage"]["fetched_at"] = (now() - fetched).into();
        entry["attempt"] =
            tried.map_or(serde_json::Value::Null, |ago| serde_json::json!({"at": now() - ago}));
    });
}

/// Launches. Returns Codex's record, and a function that looks for the record of a refresh.
fn launch(world: &World) -> (Record, impl Fn() -> Option<Record>) {
    let out = world.root().join("records");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir(&out).expect("make a folder");
    // As inside a session that has ended.
    let exec = world.exec().env("CODEX_POOL_LAUNCH", "0-0-1-1").env("CODEX_POOL_DEPTH", "1");
    // Codex keeps the pid of the launch, so that its record is found.
    let exec = exec.env("CODEX_POOL_CARRY_ON", "0");
    let running = exec.env("PROBE_OUT", out.join("{pid}")).spawn();
    let codex = out.join(running.pid().to_string());
    running.wait().ok();
    let record = Record::read(&codex);
    let other = move || {
        let files = fs::read_dir(&out).expect("list").map(|e| e.expect("an entry").path());
        let mut whole = files.filter(|path| path.extension().is_none() && *path != codex);
        whole.next().map(|path| Record::read(&path))
    };
    (record, other)
}

/// Launches, and requires that a refresh is started, or that none is.
#[track_caller]
fn refreshes(world: &World, yes: bool) {
    let (_, refresh) = launch(world);
    if yes {
        wait_for("a refresh", SOON, refresh);
    } else {
        wait_until("the end of everything", SOON, || world.processes().is_empty());
        assert_eq!(refresh(), None);
    }
}

#[test]
fn usage_older_than_its_age_is_refreshed_in_the_background_and_detached() {
    let world = world();
    age(&world, 400, None);
    let (codex, refresh) = launch(&world);
    let refresh = wait_for("a refresh", SOON, refresh);
    assert_eq!(refresh.args()[1..], ["refresh", "--background"]);
    assert!(refresh.sid != codex.sid && refresh.pgid != codex.pgid && !refresh.terminal);
    assert_ne!(refresh.sid, refresh.pid, "it leads no session, so that it never gets a terminal");
    assert_ne!(refresh.ppid, codex.pid);
    let open: Vec<(i32, &str)> = refresh.descriptors.iter().map(|d| (d.fd, d.target.as_str())).collect();
    assert_eq!(open, [(0, "/dev/null"), (1, "/dev/null"), (2, "/dev/null")]);
    for name in ["CODEX_POOL_LAUNCH", "CODEX_POOL_DEPTH", "CODEX_POOL_ACCOUNT"] {
        assert_eq!(refresh.var(name), None, "it belongs to no launch");
    }
    assert_eq!(refresh.var("HOME"), codex.var("HOME"));
}

#[test]
fn refresh_is_not_started_when_usage_is_fresh_tried_lately_or_off() {
    let world = world();
    refreshes(&world, false);
    age(&world, 400, Some(30));
    refreshes(&world, false);
    age(&world, 400, Some(90));
    refreshes(&world, true);
    world.settings("background_refresh = false\nattend = false\n");
    refreshes(&world, false);
    world.settings("usage_max_age = \"10m\"\nattend = false\n");
    refreshes(&world, false);
}

#[test]
fn codex_does_not_wait_for_a_refresh_and_the_pool_is_unlocked() {
    let world = World::new(&["alice"]);
    world.usage(&[("alice", 10.0, 10.0)]);
    let (begun, gate) = (world.root().join("begun"), world.root().join("gate"));
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done", begun.display(), gate.display());
    write_script(&world.pool_home().join("bin/codex-pool"), &script);
    world.settings("attend = false\n");
    age(&world, 400, None);
    answered(world.exec().run(), "alice");
    wait_until("a refresh", SOON, || begun.exists());
    let lock = testkit::files::try_lock(&world.pool_home().join("pool.lock"));
    assert!(lock.is_some(), "the refresh began with the lock");
    fs::write(&gate, "").expect("open the gate");
}

#[test]
fn launch_waits_for_usage_that_is_all_too_old_and_picks_by_it() {
    let world = World::new(&["alice", "bob"]);
    symlink(world.home().join(".local/bin/codex-pool"), world.pool_home().join("bin/codex-pool"))
        .expect("link");
    world.settings("launch_refresh_timeout = \"20s\"\n");
    world.usage(&[("alice", 10.0, 10.0), ("bob", 60.0, 60.0)]);
    age(&world, 2000, None);
    world.backend().set_usage("alice", testkit::backend::Usage::percent(100.0, 100.0));
    answered(world.exec().run(), "bob");
    assert_eq!(world.backend().report().usage_of("alice").len(), 1);
}

#[test]
fn wait_in_vain_ends_in_time_once_and_leaves_codex_no_child() {
    let world = World::with(Codex::Missing, &["alice"]);
    world.usage(&[("alice", 10.0, 10.0)]);
    let gate = world.root().join("gate");
    let hang = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    write_script(&world.pool_home().join("bin/codex-pool"), &hang);
    // This Codex says which children it has, without starting one.
    write_script(
        &world.root().join("bin/codex"),
        "read -r children < /proc/$$/task/$$/children; echo \"[$children]\"",
    );
    world.settings("launch_refresh_timeout = \"700ms\"\n");
    age(&world, 2000, None);
    let output = world.exec().run().ok();
    assert_eq!(output.stdout, "[]\n");
    assert!(output.took >= Duration::from_millis(700), "{output}");
    let waited = |world: &World| {
        let text = fs::read_to_string(world.pool_home().join("usage.json")).expect("the usage");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["no_wait_until"].as_i64()
    };
    let until = waited(&world).expect("noted");
    assert_eq!(world.exec().run().ok().stdout, "[]\n");
    assert_eq!(waited(&world), Some(until), "not waited for again");
    fs::write(&gate, "").expect("open the gate");
}
