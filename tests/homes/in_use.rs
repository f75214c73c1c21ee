//! A home never changes hands under a launch, however it was started and whichever of its processes were killed; and
//! what Codex wrote there meanwhile reaches the pool.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use testkit::backend::Step;
use testkit::{Cmd, SOON, World, alive, answered, children, now, wait_for_end, wait_until};

use crate::world::{TWO, bob_goes_elsewhere, native_of, worlds};

/// A session of two turns. The test holds the first; before the second, Codex must renew its token.
struct Session {
    hold: testkit::backend::Hold,
    running: testkit::Running,
}

impl Session {
    fn start(world: &World, user: &str, cmd: Cmd) -> Session {
        world.backend().script(user, [Step::Shell("true".to_owned())]);
        let hold = world.backend().hold(user);
        let running = cmd.spawn();
        hold.wait_for(1, SOON);
        Session { hold, running }
    }

    /// Lets it go on; its token is rejected, so that it rotates.
    fn go_on(self, world: &World, user: &str) -> testkit::Running {
        world.backend().reject_access_tokens(user);
        drop(self.hold);
        self.running
    }
}

/// Requires that bob takes the main home after alice's session, and that no rotated token is missing.
#[track_caller]
fn then_bob_is_swapped_in(world: &World) {
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1, "{}", world.version());
    answered(world.exec_as("bob").run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
    world.assert_nothing_lost(&TWO);
    answered(world.exec_as("alice").run(), "alice");
    world.assert_nothing_lost(&TWO);
}

#[test]
fn session_is_not_swapped_away() {
    for world in worlds(&TWO) {
        let session = Session::start(&world, "alice", world.exec());
        bob_goes_elsewhere(&world);
        session.go_on(&world, "alice").wait().ok().says("hello from alice");
        then_bob_is_swapped_in(&world);
    }
}

#[test]
fn native_codex_whose_launcher_was_killed_is_in_use() {
    for world in worlds(&TWO) {
        let session = Session::start(&world, "alice", world.exec());
        let native = native_of(&session.running);
        session.running.signal(Signal::SIGKILL);
        wait_for_end(session.running.pid());
        assert!(alive(native));
        bob_goes_elsewhere(&world);
        // Dropping it would kill its process group.
        let _group = session.go_on(&world, "alice");
        wait_for_end(native);
        then_bob_is_swapped_in(&world);
    }
}

#[test]
fn native_codex_whose_launcher_was_killed_keeps_its_own_home() {
    for world in worlds(&TWO) {
        let first = Session::start(&world, "alice", world.exec());
        let session = Session::start(&world, "bob", world.exec_as("bob"));
        let home = world.own_home("bob");
        let native = native_of(&session.running);
        session.running.signal(Signal::SIGKILL);
        wait_for_end(session.running.pid());
        drop(first.go_on(&world, "alice").wait().ok());
        // The main home is free now, but bob has one file, and it is in use.
        let second = world.exec_as("bob").spawn();
        session.hold.wait_for(2, SOON);
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        let _group = session.go_on(&world, "bob");
        answered(second.wait(), "bob");
        wait_for_end(native);
        assert_eq!(world.backend().report().refreshes_of("bob").len(), 1, "{}", world.version());
        let output = answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}: {output}", world.version());
        assert!(!home.join("auth.json").exists(), "{}: one file for one account", world.version());
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn stopped_session_is_in_use() {
    for world in worlds(&TWO) {
        let session = Session::start(&world, "alice", world.exec());
        session.running.signal_group(Signal::SIGSTOP);
        bob_goes_elsewhere(&world);
        session.running.signal_group(Signal::SIGCONT);
        session.go_on(&world, "alice").wait().ok().says("hello from alice");
        then_bob_is_swapped_in(&world);
    }
}

#[test]
fn killed_session_frees_its_home_and_its_tokens_are_kept() {
    for world in worlds(&TWO) {
        let session = Session::start(&world, "alice", world.exec());
        world.backend().script("alice", [Step::Shell("sleep 60".to_owned())]);
        let native = native_of(&session.running);
        let running = session.go_on(&world, "alice");
        let rotated = |live: String| live.contains(&world.backend().newest_refresh_token("alice"));
        let refreshed = || world.backend().report().refreshes_of("alice").len() == 1;
        wait_until("the rotated token", SOON, || refreshed() && world.live().is_some_and(rotated));
        bob_goes_elsewhere(&world);
        running.signal_group(Signal::SIGKILL);
        running.wait();
        wait_for_end(native);
        then_bob_is_swapped_in(&world);
    }
}

/// Returns the ledger's files.
fn ledger(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.pool_home().join("launches")).expect("the ledger").flatten();
    files.map(|file| file.path()).collect()
}

#[test]
fn session_of_another_pid_namespace_counts_for_twelve_hours() {
    for world in worlds(&TWO) {
        let Some(unshare) = world.unshare(&["-p", "--mount-proc"]) else { return };
        let inside = unshare.args(["codex", "exec", "--skip-git-repo-check", "hi"]);
        let session = Session::start(&world, "alice", inside);
        bob_goes_elsewhere(&world);
        session.go_on(&world, "alice").wait().ok().says("hello from alice");
        // Its end cannot be seen from here.
        bob_goes_elsewhere(&world);
        answered(world.exec().run(), "alice");
        for entry in ledger(&world) {
            let text = fs::read_to_string(&entry).expect("the entry");
            let mut said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            said["started_at"] = (now() - 12 * 3600 - 60).into();
            fs::write(entry, said.to_string()).expect("write the entry");
        }
        then_bob_is_swapped_in(&world);
    }
}

#[test]
fn session_of_an_earlier_boot_is_over_though_its_pid_runs() {
    for world in worlds(&TWO) {
        let session = Session::start(&world, "alice", world.exec());
        let [entry] = &ledger(&world)[..] else { panic!("{:?}", ledger(&world)) };
        let name = entry.file_name().expect("a name").to_str().expect("text");
        let [boot, namespace, ..] = name.split('-').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let said = fs::read_to_string(entry).expect("the entry");
        // This process has the pid now.
        let stat = fs::read_to_string("/proc/self/stat").expect("our own entry");
        let (_, stat) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = stat.split_whitespace().nth(19).expect("when it started");
        let of_boot = |boot: &str| format!("{boot}-{namespace}-{}-{ticks}", std::process::id());
        let this = entry.with_file_name(of_boot(boot));
        world.write_private(&this, &said);
        session.go_on(&world, "alice").wait().ok().says("hello from alice");
        bob_goes_elsewhere(&world);
        fs::rename(&this, this.with_file_name(of_boot(&"0".repeat(32)))).expect("rename the entry");
        then_bob_is_swapped_in(&world);
    }
}

/// Returns a launcher as version managers install it: a script that starts the real one as a child.
fn wrapper(world: &World) -> PathBuf {
    let path = world.root().join("bin/wrapper");
    let script = format!("#!/bin/sh\n\"{}\" \"$@\"\nexit $?\n", world.real_path().display());
    fs::write(&path, script).expect("write the wrapper");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    path
}

#[test]
fn session_below_a_wrapper_that_forks_is_not_swapped_away() {
    for world in worlds(&TWO) {
        let wrapper = wrapper(&world);
        let session = Session::start(&world, "alice", world.exec().env("CODEX_POOL_CODEX", &wrapper));
        bob_goes_elsewhere(&world);
        session.go_on(&world, "alice").wait().ok().says("hello from alice");
        then_bob_is_swapped_in(&world);
    }
}

#[test]
fn session_whose_wrapper_was_killed_is_not_swapped_away() {
    for world in worlds(&TWO) {
        let wrapper = wrapper(&world);
        let session = Session::start(&world, "alice", world.exec().env("CODEX_POOL_CODEX", &wrapper));
        let launcher = children(session.running.pid())[0];
        let native = children(launcher)[0];
        session.running.signal(Signal::SIGKILL);
        wait_for_end(session.running.pid());
        bob_goes_elsewhere(&world);
        // Dropping it would kill its process group.
        let _group = session.go_on(&world, "alice");
        wait_for_end(native);
        then_bob_is_swapped_in(&world);
    }
}
