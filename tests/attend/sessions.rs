//! What an attendant does with the logins in use.

use std::fs;
use std::time::{Duration, Instant};

use testkit::{SOON, World, wait_until};

use super::Attended;

/// A time that a busy machine may need beside the half second between two looks.
const NOTICED: Duration = Duration::from_secs(5);

fn in_pool(world: &World, label: &str, document: &str) -> bool {
    fs::read_to_string(world.stored_path(label)).is_ok_and(|stored| stored == document)
}

#[test]
fn login_that_a_session_changed_is_in_the_pool_while_it_runs() {
    let world = World::logged_in(&["alice", "bob"]);
    let mut alice = world.hold(world.exec_as("alice"));
    let mut bob = world.hold(world.exec_as("bob"));
    let _attendant = world.attend();
    let mut took = Vec::new();
    for (label, file) in [
        ("alice", world.codex_home().join("auth.json")),
        ("bob", world.own_home("bob").join("auth.json")),
        ("alice", world.codex_home().join("auth.json")),
        ("bob", world.own_home("bob").join("auth.json")),
    ] {
        let rotated = world.backend().auth_json(label);
        world.write_private(&file, &rotated);
        let written = Instant::now();
        wait_until("the login in the pool", SOON, || in_pool(&world, label, &rotated));
        assert!(written.elapsed() < NOTICED, "{:?}", written.elapsed());
        took.push(written.elapsed());
    }
    // All but the first come just after a look, so that even the fastest has waited for the next one.
    assert!(took.iter().skip(1).min() < Some(&Duration::from_secs(1)), "{took:?}");
    assert!(alice.is_running() && bob.is_running());
}

#[test]
fn login_of_a_session_that_ends_is_taken_in_at_once() {
    let world = World::logged_in(&["alice"]);
    let session = world.hold(world.exec());
    let _attendant = world.attend();
    let rotated = world.backend().auth_json("alice");
    world.write_live(&rotated);
    world.open_gate();
    session.wait().ok();
    wait_until("the login in the pool", NOTICED, || in_pool(&world, "alice", &rotated));
}

#[test]
fn attendant_started_after_a_session_takes_its_login_in() {
    let world = World::logged_in(&["alice"]);
    let session = world.hold(world.exec());
    let rotated = world.backend().auth_json("alice");
    world.write_live(&rotated);
    session.signal(nix::sys::signal::Signal::SIGKILL);
    session.wait();
    let _attendant = world.attendant().spawn();
    wait_until("the login in the pool", NOTICED, || in_pool(&world, "alice", &rotated));
}

#[test]
fn login_that_is_being_written_is_taken_in_when_it_is_whole() {
    let world = World::logged_in(&["alice"]);
    let _session = world.hold(world.exec());
    let _attendant = world.attend();
    let rotated = world.backend().auth_json("alice");
    let (half, _) = rotated.split_at(rotated.len() / 2);
    world.write_live(half);
    let before = fs::read_to_string(world.stored_path("alice")).expect("a document");
    let until = Instant::now() + Duration::from_millis(1_200);
    wait_until("a look at half a document", SOON, || Instant::now() >= until);
    assert!(in_pool(&world, "alice", &before));
    world.write_live(&rotated);
    wait_until("the login in the pool", NOTICED, || in_pool(&world, "alice", &rotated));
}
