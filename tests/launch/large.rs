//! A large pool is picked from an index of registry and usage: only while it is true, and nothing is lost by it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use testkit::{World, answered};

use crate::{ALL, BOB_FIRST};

/// Three accounts whose registry is as long as that of a large pool, and the index of a launch, which was some
/// seconds after the last change.
fn indexed() -> World {
    let world = World::new(&ALL);
    world.usage(&BOB_FIRST);
    let registry = world.pool_home().join("accounts.json");
    let mut bytes = fs::read(&registry).expect("the registry");
    bytes.resize(40_000, b' ');
    fs::write(&registry, bytes).expect("make it long");
    answered(world.exec().run(), "bob");
    date_ahead(&world);
    world
}

fn index(world: &World) -> PathBuf {
    world.pool_home().join("standings")
}

/// A change cannot be dated back, but the index ahead.
fn date_ahead(world: &World) {
    let file = File::options().write(true).open(index(world)).expect("an index");
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).expect("date it");
}

/// Another label for bob, in the index alone.
fn relabel(world: &World) {
    let mut bytes = fs::read(index(world)).expect("an index");
    let at = bytes.windows(3).position(|three| three == b"bob").expect("bob is in it");
    bytes[at..at + 3].copy_from_slice(b"BOB");
    fs::write(index(world), bytes).expect("write it");
    date_ahead(world);
}

/// What a launch says of its pick.
fn said(world: &World, who: &str) -> String {
    answered(world.exec().env("CODEX_POOL_VERBOSE", "1").run(), who).stderr
}

#[test]
fn a_launch_reads_the_index_until_registry_or_usage_change() {
    let world = indexed();
    let mode = fs::metadata(index(&world)).expect("an index").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    relabel(&world);
    let verbose = said(&world, "bob");
    assert!(verbose.contains("BOB"), "{verbose}");
    // What belongs to one account is read from the registry itself.
    answered(world.exec_as("alice").run(), "alice");
    answered(world.exec().run(), "bob");
    world.usage(&[("alice", 10.0, 10.0), ("bob", 50.0, 70.0), ("carol", 30.0, 40.0)]);
    let verbose = said(&world, "alice");
    assert!(!verbose.contains("BOB"), "{verbose}");
    world.assert_nothing_lost(&ALL);
}

#[test]
fn a_change_of_the_registry_counts_at_once() {
    let world = indexed();
    world.pool(&["disable", "bob"]).run().ok();
    answered(world.exec().run(), "carol");
    world.pool(&["rm", "bob", "--yes"]).run().ok();
    assert!(!index(&world).exists(), "it would still know bob");
    world.assert_nothing_lost(&["alice", "carol"]);
}

#[test]
fn a_login_that_is_adopted_joins_the_others() {
    let world = indexed();
    world.backend().add("dave");
    world.write_live(&world.backend().auth_json("dave"));
    answered(world.exec().run(), "bob");
    assert_eq!(world.list().len(), 4);
    world.assert_nothing_lost(&["alice", "bob", "carol", "dave"]);
}

#[test]
fn half_an_index_is_none() {
    let world = indexed();
    let bytes = fs::read(index(&world)).expect("an index");
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        fs::write(index(&world), &bytes[..length]).expect("cut it off");
        date_ahead(&world);
        assert_eq!(answered(world.exec().run(), "bob").stderr, "");
    }
}
