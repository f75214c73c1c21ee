//! Codex's own locks and temporary files: the pool waits for them like another Codex, and each home has its own. What
//! comes out of an exchange, or was left by a killed Codex, reaches the pool.

use std::fs::{self, File};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;

#[cfg(target_os = "linux")]
use testkit::{Running, needs, wait_until};
use testkit::{SOON, World, answered};

use crate::world::{TWO, worlds};

/// Holds a lock as Codex does while it writes `auth.json`.
fn hold(path: &Path) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.lock().expect("lock it");
    file
}

#[test]
fn home_whose_login_codex_has_locked_is_not_swapped() {
    for name in ["auth.lock", "auth.json.lock"] {
        let world = World::logged_in(&TWO);
        let lock = hold(&world.codex_home().join(name));
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{name}");
        assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"), "{name}");
        drop(lock);
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{name}");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn login_runs_elsewhere_while_codex_has_locked_the_live_one() {
    let world = World::logged_in(&TWO);
    let lock = hold(&world.codex_home().join("auth.lock"));
    world.backend().add("carol");
    world.backend().approve_login("carol");
    let issuer = world.backend().url();
    world.codex(&["login", "--device-auth", "--experimental_issuer", &issuer]).run().ok();
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    assert!(world.backend().report().revocations.is_empty());
    drop(lock);
    answered(world.exec_as("alice").run(), "alice");
    world.assert_nothing_lost(&["alice", "bob", "carol"]);
}

#[test]
fn tokens_of_one_home_are_kept_while_another_homes_lock_is_held() {
    for world in worlds(&TWO) {
        let alice = world.backend().hold("alice");
        let first = world.exec().spawn();
        alice.wait_for(1, SOON);
        // As earlier versions of codex-pool left it.
        answered(world.exec_as("bob").run(), "bob");
        let home = world.own_home("bob");
        for name in ["auth.lock", "auth.json.lock"] {
            let _ = fs::remove_file(home.join(name));
            std::os::unix::fs::symlink(world.codex_home().join(name), home.join(name))
                .expect("link the lock");
        }
        let _locks = ["auth.lock", "auth.json.lock"].map(|name| hold(&world.codex_home().join(name)));
        world.backend().reject_access_tokens("bob");
        answered(world.exec_as("bob").run(), "bob");
        let (version, refreshes) = (world.version(), world.backend().report().refreshes_of("bob").len());
        assert_eq!(refreshes, 1, "{version}");
        for name in ["auth.lock", "auth.json.lock"] {
            assert!(!home.join(name).is_symlink(), "{version}: {name}");
        }
        world.assert_nothing_lost(&TWO);
        drop(alice);
        answered(first.wait(), "alice");
    }
}

#[test]
fn login_that_a_killed_codex_left_beside_the_file_is_taken_in() {
    let world = World::logged_in(&TWO);
    let session = world.hold(world.exec());
    answered(world.exec_as("bob").run(), "bob");
    let own = world.own_home("bob");
    for (user, dir) in [("alice", world.codex_home()), ("bob", own.clone())] {
        let left = dir.join(".auth-q7XyZ1");
        let newest = world.backend().auth_json(user);
        world.write_private(&left, &newest[..newest.len() / 2]);
        // Perhaps it is being written.
        world.list();
        assert!(left.exists(), "{user}");
        world.write_private(&left, &newest);
        let lock = hold(&dir.join("auth.lock"));
        world.list();
        assert!(left.exists(), "{user}: a Codex is writing it");
        drop(lock);
        world.assert_nothing_lost(&[user]);
        assert!(!left.exists(), "{user}");
    }
    // Neither linked into another home nor moved out of it.
    let left = world.codex_home().join(".auth-a1b2c3");
    world.write_private(&left, "{\"half");
    answered(world.exec_as("bob").run(), "bob");
    assert!(!own.join(".auth-a1b2c3").is_symlink());
    world.open_gate();
    answered(session.wait(), "alice");
}

/// Starts a launch as bob whose renames are slow, and returns it when bob's document is about to be put into the main
/// home.
#[cfg(target_os = "linux")]
fn slow_swap(world: &World, strace: &Path) -> (Running, PathBuf) {
    let slowly =
        ["-o", "/dev/null", "-e", "trace=renameat2,rename", "-e", "inject=renameat2,rename:delay_enter=1s"];
    let launch = ["exec", "--skip-git-repo-check", "hi"];
    let cmd = world.cmd(strace).args(slowly).arg(world.shim()).args(launch);
    let running = cmd.env("CODEX_POOL_ACCOUNT", "bob").spawn();
    let live = world.codex_home().join("auth.json");
    let temp = live.with_file_name(".auth.json.codex-pool.tmp");
    wait_until("bob's document beside alice's", SOON, || {
        fs::read_to_string(&temp).is_ok_and(|doc| world.backend().owner(&doc).as_deref() == Some("bob"))
    });
    (running, live)
}

#[cfg(target_os = "linux")]
#[test]
fn document_that_is_renamed_in_at_the_last_moment_is_taken_in() {
    let Some(strace) = needs("strace") else { return };
    let world = World::logged_in(&TWO);
    let newest = world.backend().auth_json("alice");
    let beside = world.codex_home().join("beside");
    world.write_private(&beside, &newest);
    let (running, live) = slow_swap(&world, &strace);
    fs::rename(&beside, &live).expect("rename it in");
    answered(running.wait(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    world.assert_nothing_lost(&TWO);
}

#[cfg(target_os = "linux")]
#[test]
fn document_that_came_out_of_an_exchange_that_was_killed_is_taken_in() {
    let Some(strace) = needs("strace") else { return };
    let world = World::logged_in(&TWO);
    // The launch is killed after the exchange and before it has looked at what came out.
    let temp = world.codex_home().join(".auth.json.codex-pool.tmp");
    let newest = world.backend().auth_json("alice");
    let (running, live) = slow_swap(&world, &strace);
    running.signal_group(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    fs::rename(&temp, &live).expect("the exchange");
    world.write_private(&temp, &newest);
    world.assert_nothing_lost(&TWO);
    assert!(!temp.exists());
}
