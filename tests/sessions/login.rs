//! `codex login` and `codex logout` through the shim.

use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::Running;

use crate::world::{BOB_FIRST, SOON, World};

fn world() -> World {
    let world = World::real(&["alice", "bob"]);
    world.backend().add("carol");
    world.pool(&["use", "alice"]).run().ok();
    world
}

fn start_login(world: &World) -> Running {
    let issuer = world.backend().url();
    let login = world.codex(&["login", "--device-auth", "--experimental_issuer", &issuer]).spawn();
    testkit::wait_until("a login that waits for approval", SOON, || world.backend().pending_logins() > 0);
    login
}

fn owner_of_live(world: &World) -> Option<String> {
    world.backend().owner(&world.live()?)
}

/// Nothing was revoked, and every account's newest token is in the pool.
fn nothing_lost(world: &World, users: &[&str]) {
    world.backend().assert_clean();
    assert!(world.backend().report().revocations.is_empty());
    for user in users {
        assert!(world.backend().is_good(&world.stored(user)), "{user}");
    }
    let state = std::fs::read_to_string(world.pool_home().join("state.json")).expect("state.json");
    assert!(!state.contains("\"marks\""), "{state}");
}

#[test]
fn a_login_over_a_live_account_revokes_nobody_and_is_adopted_and_seated() {
    let world = world();
    let login = start_login(&world);
    world.backend().approve_login("carol");
    login.wait().ok();
    assert_eq!(owner_of_live(&world).as_deref(), Some("carol"));
    nothing_lost(&world, &["alice", "bob", "carol"]);
}

#[test]
fn a_login_that_is_cancelled_leaves_all_as_it_was() {
    let world = world();
    let before = world.live();
    let login = start_login(&world);
    assert_eq!(world.live(), None, "out of Codex's sight meanwhile");
    login.signal_group(Signal::SIGINT);
    login.wait();
    assert_eq!(world.live(), before);
    nothing_lost(&world, &["alice", "bob"]);
}

#[test]
fn a_login_that_fails_or_is_a_usage_error_leaves_all_as_it_was() {
    let world = world();
    let before = world.live();
    let bogus = world.codex(&["login", "--bogus"]).run();
    assert_eq!(bogus.code(), Some(2), "{}", bogus.stderr);
    let nowhere = ["login", "--device-auth", "--experimental_issuer", "http://127.0.0.1:1"];
    assert_ne!(world.codex(&nowhere).run().code(), Some(0));
    assert_eq!(world.live(), before);
    world.codex(&["login", "status"]).run().ok();
    assert_eq!(world.live(), before);
    nothing_lost(&world, &["alice", "bob"]);
}

#[test]
fn a_login_that_was_killed_is_undone_by_the_next_launch() {
    let world = world();
    world.usage(&BOB_FIRST[..2]);
    let before = world.live();
    let login = start_login(&world);
    login.signal_group(Signal::SIGKILL);
    login.wait();
    assert_eq!(world.live(), None);
    let out = world.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok();
    assert!(out.stdout.contains("hello from alice"), "the pin: {}", out.stdout);
    assert_eq!(world.live(), before);
    nothing_lost(&world, &["alice", "bob"]);
}

#[test]
fn a_login_during_a_session_leaves_that_session_alone() {
    let world = world();
    let hold = world.backend().hold("alice");
    let session = world.codex(&["exec", "--skip-git-repo-check", "hi"]).spawn();
    hold.wait_for(1, SOON);
    let before = world.live();
    let login = start_login(&world);
    assert_eq!(world.live(), before, "the seat in use is not touched");
    world.backend().approve_login("carol");
    login.wait().ok();
    drop(hold);
    let session = session.wait().ok();
    assert!(session.stdout.contains("hello from alice"), "{}", session.stdout);
    assert_eq!(world.live(), before);
    nothing_lost(&world, &["alice", "bob", "carol"]);
}

#[test]
fn a_logout_drops_the_live_account_alone_and_a_failed_one_nothing() {
    let world = world();
    let before = world.live();
    assert_eq!(world.codex(&["logout", "--bogus"]).run().code(), Some(2));
    assert_eq!(world.live(), before);
    nothing_lost(&world, &["alice", "bob"]);
    world.codex(&["logout"]).timeout(Duration::from_secs(60)).run().ok();
    assert_eq!(world.live(), None);
    assert_eq!(world.account("alice")["state"], "reauth_required");
    assert!(!world.pool_home().join("auth").join(format!("{}.json", world.ids()["alice"])).exists());
    assert!(world.backend().is_good(&world.stored("bob")), "nobody else is concerned");
    world.backend().assert_clean();
}
