//! Refresh tokens are single-use: a token that Codex rotates in a session must come back to the pool, whichever account
//! was live meanwhile, and the issuer must never see a token twice. On the real Codex.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;
use testkit::backend::{LoginSpec, UserSpec};
use testkit::{SOON, World, answered};

/// Alice's access token has expired, so that her next session rotates it.
fn world() -> Option<World> {
    let world = World::real(&["bob"])?;
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(-60));
    Some(world)
}

#[test]
fn tokens_that_a_session_rotated_come_back_after_a_switch_away() {
    let Some(world) = world() else { return };
    let backend = world.backend();
    let first = backend.newest_refresh_token("alice");
    answered(world.exec_as("alice").run(), "alice");
    let second = backend.newest_refresh_token("alice");
    assert_ne!(first, second, "the session did not rotate");
    answered(world.exec_as("bob").run(), "bob");
    assert!(world.stored("alice").contains(&second));
    // The service no longer takes the access token: the next session needs the right refresh token.
    backend.reject_access_tokens("alice");
    answered(world.exec_as("alice").run(), "alice");
    let third = backend.newest_refresh_token("alice");
    assert_ne!(second, third);
    assert!(world.live().expect("a login").contains(&third));
    answered(world.exec_as("bob").run(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(backend.report().refreshes_of("alice").len(), 2);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn tokens_that_an_interactive_session_rotated_come_back() {
    let Some(world) = world() else { return };
    let mut codex = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "alice"));
    world.ask(&mut codex, "alice");
    codex.quit_codex();
    assert!(!world.backend().report().refreshes_of("alice").is_empty());
    answered(world.exec_as("bob").run(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn tokens_that_a_killed_session_rotated_come_back() {
    let Some(world) = world() else { return };
    let hold = world.backend().hold("alice");
    let session = world.exec_as("alice").spawn();
    hold.wait_for(1, SOON);
    session.signal_group(Signal::SIGKILL);
    assert_eq!(session.wait().signal(), Some(9));
    drop(hold);
    answered(world.exec_as("bob").run(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn tokens_rotated_in_an_own_home_take_the_main_home_later() {
    let Some(world) = world() else { return };
    let hold = world.backend().hold("bob");
    let session = world.exec_as("bob").spawn();
    hold.wait_for(1, SOON);
    answered(world.exec_as("alice").run(), "alice");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    let rotated = world.backend().newest_refresh_token("alice");
    drop(hold);
    answered(session.wait(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    assert!(world.live().expect("a login").contains(&rotated));
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn token_rotated_by_a_codex_outside_the_pool_comes_back() {
    let Some(world) = world() else { return };
    answered(world.exec_as("bob").run(), "bob");
    // Alice is put live by hand, used by the full path of Codex, and then the shim switches away.
    world.write_live(&world.stored("alice"));
    answered(world.real_codex(&["exec", "--skip-git-repo-check", "hi"]).run(), "alice");
    answered(world.exec_as("bob").run(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn launches_at_once_on_an_expired_token_make_one_refresh() {
    let Some(world) = world() else { return };
    // As the installer leaves it: the shim finds `codex-pool`, which renews for all launches.
    symlink(world.home().join(".local/bin/codex-pool"), world.pool_home().join("bin/codex-pool"))
        .expect("link");
    let launches: Vec<_> = (0..4).map(|_| world.exec_as("alice").spawn()).collect();
    for launch in launches {
        answered(launch.wait(), "alice");
    }
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn tokens_rotated_in_any_home_are_taken_in_by_the_next_launch() {
    let world = World::logged_in(&["alice", "bob"]);
    let session = world.hold(world.exec());
    answered(world.exec_as("bob").run(), "bob");
    world.open_gate();
    answered(session.wait(), "alice");
    let file = world.own_home("bob").join("auth.json");
    let older = fs::read_to_string(&file).expect("bob's document");
    answered(world.exec_as("alice").run(), "alice");
    // A session that is in no ledger rotates, and ends.
    world.write_private(&file, &world.backend().auth_json("bob"));
    answered(world.exec_as("alice").run(), "alice");
    world.write_private(&file, &older);
    world.assert_nothing_lost(&["alice", "bob"]);
    answered(world.exec_as("bob").run(), "bob");
}
