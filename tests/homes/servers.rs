//! Codex's background server: while it holds a thread its home does not change hands; an idle one is stopped; one that
//! cannot be stopped keeps its account's file.

use std::fs;
use std::os::unix::fs::DirEntryExt as _;

use fs2::FileExt as _;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use testkit::backend::Step;
use testkit::{SOON, World, answered, wait_for_end, wait_until};

use crate::rpc::Editor;
use crate::world::{Homes as _, TWO, bob_goes_elsewhere, worlds, worlds_with_server};

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid fits"))
}

#[track_caller]
fn server_of(world: &World) -> u32 {
    world.server(&world.codex_home()).unwrap_or_else(|| panic!("{}: no server", world.version()))
}

/// Returns how many threads a process holds.
fn threads_of(world: &World, holder: Option<u32>) -> usize {
    let holder = holder.unwrap_or_else(|| panic!("{}: no server", world.version())).to_string();
    let files = fs::read_dir(world.codex_home().join("thread-writer-locks")).into_iter().flatten().flatten();
    let inodes: Vec<String> = files.map(|file| format!(":{}", file.ino())).collect();
    let locks = fs::read_to_string("/proc/locks").expect("the table of locks");
    let held = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1] == "FLOCK" && words[4] == holder && inodes.iter().any(|inode| words[5].ends_with(inode))
    };
    locks.lines().filter(held).count()
}

#[track_caller]
fn bob_is_swapped_in(world: &World) {
    let output = answered(world.exec_as("bob").run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}: {output}", world.version());
}

#[test]
fn server_at_work_keeps_its_home_when_its_interface_was_killed() {
    for world in worlds_with_server(&TWO) {
        let mut ui = world.ui(&[]);
        world.ask(&mut ui, "alice");
        world.backend().script("alice", [Step::Shell("true".to_owned())]);
        let hold = world.backend().hold("alice");
        ui.send_line("do something");
        hold.wait_for(1, SOON);
        killpg(pid(ui.pid()), Signal::SIGKILL).expect("kill the interface");
        drop(ui);
        let server = server_of(&world);
        bob_goes_elsewhere(&world);
        world.backend().reject_access_tokens("alice");
        drop(hold);
        world.backend().wait_for("the end of the turn", SOON, |r| {
            r.refreshes_of("alice").len() == 1 && r.turns_of("alice").iter().filter(|t| t.done).count() == 3
        });
        bob_goes_elsewhere(&world);
        assert_eq!(server_of(&world), server, "it was not disturbed");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn idle_server_is_stopped_and_its_tokens_are_kept() {
    for world in worlds_with_server(&TWO) {
        let backend = world.backend();
        backend.reject_access_tokens("alice");
        world.codex(&["app-server", "daemon", "start"]).run().ok();
        let server = server_of(&world);
        backend.wait_for("the server's refresh", SOON, |report| !report.refreshes_of("alice").is_empty());
        bob_is_swapped_in(&world);
        wait_for_end(server);
        world.assert_nothing_lost(&TWO);
        answered(world.exec_as("alice").run(), "alice");
    }
}

#[test]
fn idle_server_that_does_not_stop_keeps_its_home() {
    for world in worlds_with_server(&TWO) {
        world.codex(&["app-server", "daemon", "start"]).run().ok();
        let server = server_of(&world);
        kill(pid(server), Signal::SIGSTOP).expect("stop the server");
        bob_goes_elsewhere(&world);
        kill(pid(server), Signal::SIGCONT).expect("let the server go on");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn interface_that_is_starting_a_server_is_not_swapped_away() {
    // It holds this lock for seconds, the first time, before it opens any database.
    for world in worlds(&TWO) {
        let lock = world.codex_home().join("app-server-daemon/daemon.lock");
        world.write_private(&lock, "");
        let lock = fs::File::open(lock).expect("open the lock");
        lock.lock_exclusive().expect("take the lock");
        bob_goes_elsewhere(&world);
        drop(lock);
        bob_is_swapped_in(&world);
    }
}

#[test]
fn server_in_an_own_home_keeps_its_file_though_it_is_idle() {
    for world in worlds_with_server(&TWO) {
        let alice = Editor::open(world.codex(&["app-server"]));
        let mut bob = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
        world.ask(&mut bob, "bob");
        bob.quit_codex();
        let home = world.own_home("bob");
        let server = world.server(&home).unwrap_or_else(|| panic!("{}: no server", world.version()));
        alice.close();
        // As if the minute had passed after which it forgets its thread.
        let restart = || {
            for verb in ["stop", "start"] {
                let daemon = world.real_codex(&["app-server", "daemon", verb]).env("CODEX_HOME", &home);
                daemon.env("CODEX_SQLITE_HOME", world.codex_home()).run().ok();
            }
        };
        restart();
        wait_for_end(server);
        wait_until("an idle server", SOON, || threads_of(&world, world.server(&home)) == 0);
        bob_is_swapped_in(&world);
        let target = fs::read_link(world.codex_home().join("auth.json")).expect("a link to the one file");
        assert_eq!(target, home.join("auth.json"), "{}", world.version());
        world.backend().reject_access_tokens("bob");
        restart();
        world.backend().wait_for("the server's refresh", SOON, |r| r.refreshes_of("bob").len() == 1);
        let newest = world.backend().newest_refresh_token("bob");
        wait_until("its answer in the one file", SOON, || world.live().is_some_and(|d| d.contains(&newest)));
        answered(world.exec_as("alice").run(), "alice");
        answered(world.exec_as("bob").run(), "bob");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn server_started_right_after_a_swap_is_known_to_have_its_account() {
    for world in worlds_with_server(&TWO) {
        world.rank(&["bob", "alice"]);
        let mut first = world.ui(&[]);
        world.ask(&mut first, "bob");
        let server = server_of(&world);
        // Another interface joins that server: its thread is the server's, too.
        let mut second = world.ui(&[]);
        world.ask(&mut second, "bob");
        assert_eq!(server_of(&world), server);
        assert_eq!(threads_of(&world, Some(server)), 2, "{}: one for each interface", world.version());
    }
}
