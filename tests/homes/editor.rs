//! A Codex that was not launched through the shim: an editor's app-server, a command by its full path. It uses the main
//! home like any other.

use std::fs;

use testkit::backend::Step;
use testkit::{SOON, answered};

use crate::rpc::Editor;
use crate::world::{TWO, bob_goes_elsewhere, worlds};

#[test]
fn editor_keeps_its_account_and_what_it_rotates_is_kept() {
    for world in worlds(&TWO) {
        let mut editor = Editor::open(world.real_codex(&["app-server"]));
        let output = bob_goes_elsewhere(&world);
        assert!(output.stderr.contains("not started through codex-pool"), "{output}");
        editor.ask(&world, "hello from alice");
        editor.rotate();
        editor.rotate();
        assert_eq!(world.backend().report().refreshes_of("alice").len(), 2, "{}", world.version());
        let output = bob_goes_elsewhere(&world);
        assert!(output.stderr.contains("not started through codex-pool"), "{output}");
        editor.ask(&world, "hello from alice");
        editor.close();
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
        answered(world.exec_as("alice").run(), "alice");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn editor_through_the_shim_is_a_launch_like_any_other() {
    for world in worlds(&TWO) {
        world.rank(&["bob", "alice"]);
        let mut editor = Editor::open(world.codex(&["app-server"]));
        editor.ask(&world, "hello from bob");
        answered(world.exec_as("alice").run(), "alice");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
        editor.rotate();
        editor.ask(&world, "hello from bob");
        editor.close();
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn codex_by_its_full_path_is_not_swapped_away() {
    for world in worlds(&TWO) {
        let backend = world.backend();
        backend.script("alice", [Step::Shell("true".to_owned())]);
        let hold = backend.hold("alice");
        let foreign = world.foreign_exec().spawn();
        hold.wait_for(1, SOON);
        let output = bob_goes_elsewhere(&world);
        assert!(output.stderr.contains("not started through codex-pool"), "{output}");
        backend.reject_access_tokens("alice");
        drop(hold);
        answered(foreign.wait(), "alice");
        assert_eq!(backend.report().refreshes_of("alice").len(), 1, "{}", world.version());
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn interface_by_its_full_path_is_not_swapped_away() {
    for world in worlds(&TWO) {
        let mut foreign = world.terminal(world.real_codex(&[]));
        world.ask(&mut foreign, "alice");
        answered(world.exec_as("bob").run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        world.ask(&mut foreign, "alice");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn codex_started_by_full_path_in_a_session_is_not_swapped_away() {
    // It is a child of bob's launch, but uses the main home.
    for world in worlds(&TWO) {
        let backend = world.backend();
        let editor = Editor::open(world.real_codex(&["app-server"]));
        let script = format!(
            "env -u CODEX_HOME -u CODEX_SQLITE_HOME {} exec --skip-git-repo-check inner > inner.txt 2>&1",
            world.real_path().display()
        );
        backend.script("bob", [Step::Shell(script)]);
        let outer = ["exec", "--skip-git-repo-check", "-s", "danger-full-access", "outer"];
        let hold = backend.hold("alice");
        let outer = world.codex(&outer).env("CODEX_POOL_ACCOUNT", "bob").spawn();
        hold.wait_for(1, SOON);
        editor.close();
        // Only the inner one is in the main home now.
        world.backend().add("carol");
        world.import("carol", &backend.auth_json("carol"));
        answered(world.exec_as("carol").run(), "carol");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        drop(hold);
        answered(outer.wait(), "bob");
        let inner = fs::read_to_string(world.work().join("inner.txt")).expect("the inner one's output");
        assert!(inner.contains("hello from alice"), "{}: {inner}", world.version());
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
    }
}
