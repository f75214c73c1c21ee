//! A session is gone on with by hand, on another account than before.

use std::fs;

use testkit::backend::Usage;
use testkit::{SOON, World, has_server};

use crate::world::{Carry, each, thread_of};

/// Makes that account the pick, and the other exhausted.
fn turn_to(world: &World, label: &str, other: &str) {
    world.backend().set_usage(label, Usage::percent(10.0, 10.0));
    world.backend().set_usage(other, Usage::percent(100.0, 40.0));
    let _ = fs::remove_dir_all(world.pool_home().join("launches"));
    world.cache_usage(&[(label, 10.0, 10.0), (other, 100.0, 40.0)], 0);
}

#[test]
fn session_is_resumed_on_another_account_and_back() {
    each(&["alice", "bob"], |version, world| {
        let begun = world.exec_with(&["--json", "do the task"]).run().ok();
        let thread = thread_of(&begun.stdout);
        for (label, other) in [("bob", "alice"), ("alice", "bob"), ("bob", "alice")] {
            turn_to(&world, label, other);
            let output = world.exec_with(&["resume", &thread, "again"]).env("CODEX_POOL_CARRY_ON", "0").run();
            assert_eq!(output.stdout, format!("done by {label}\n"), "{version}: {output}");
        }
        world.assert_done(&[("alice", 4)], version);
    });
}

#[test]
fn last_session_is_the_folders_whoever_began_it() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let begun = world.exec_with(&["--json", "do the task"]).run().ok();
        let thread = thread_of(&begun.stdout);
        let step = |what: &str| {
            let output = world.exec_with(&["--json", "resume", "--last", "again"]).run().ok();
            assert_eq!(thread_of(&output.stdout), thread, "{version}: {what}");
            output
        };
        step("carried on").says("done by bob");
        turn_to(&world, "alice", "bob");
        step("its owner is exhausted").says("done by alice");
        assert_eq!(world.rollouts().len(), 1, "{version}");
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}

#[test]
fn thread_belongs_to_the_account_that_ran_it_last() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let thread = thread_of(&world.exec_with(&["--json", "do the task"]).run().ok().stdout);
        // Both have room, and alice is the pick.
        let _ = fs::remove_dir_all(world.pool_home().join("launches"));
        world.rank(&["alice", "bob"]);
        world.make_live("alice");
        let output = world.exec_with(&["resume", &thread, "again"]).run().ok();
        assert_eq!(output.stdout, "done by bob\n", "{version}: {output}");
    });
}

#[test]
fn interface_resumes_a_session_of_another_account() {
    each(&["alice", "bob"], |version, world| {
        if !has_server(version) {
            return;
        }
        let thread = thread_of(&world.exec_with(&["--json", "do the task"]).run().ok().stdout);
        turn_to(&world, "bob", "alice");
        let mut ui = world.terminal(world.codex(&["resume", &thread]));
        ui.send_line("again");
        ui.wait_for_text("done by bob", SOON);
        let refused = world.backend().report().turns.iter().any(|turn| turn.status == 400);
        assert!(!refused, "{version}");
    });
}

#[test]
fn interface_resumes_the_folders_last_session_whoever_began_it() {
    each(&["alice", "bob"], |version, world| {
        if !has_server(version) {
            return;
        }
        let ui = ["--no-daemon", "-s", "danger-full-access", "-a", "never"];
        let mut begun = world.terminal(world.codex(&ui));
        begun.send_line("do the task");
        begun.wait_for_text("done by alice", SOON);
        begun.send_line("/quit");
        assert!(begun.wait(SOON).success(), "{version}");
        let sessions = world.rollouts();
        turn_to(&world, "bob", "alice");
        let mut resumed = world.terminal(world.codex(&["resume", "--last"]));
        resumed.send_line("again");
        resumed.wait_for_text("done by bob", SOON);
        assert_eq!(world.rollouts(), sessions, "{version}: it is the same session");
        world.assert_done(&[("alice", 4)], version);
    });
}
