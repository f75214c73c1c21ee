//! What is left after a removal with the accounts: nothing of codex-pool, and every session, wherever it ran.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use testkit::{World, answered, find_program, needs};

use crate::rpc::Editor;
use crate::world::{TWO, worlds};

/// Sessions of alice in the main home and of bob beside it, which have ended. Returns their ids.
fn sessions_side_by_side(world: &World) -> BTreeSet<String> {
    let mut alice = Editor::open(world.codex(&["app-server"]).env("CODEX_POOL_ACCOUNT", "alice"));
    alice.ask(world, "hello from alice");
    let mut bob = Editor::open(world.codex(&["app-server"]).env("CODEX_POOL_ACCOUNT", "bob"));
    bob.ask(world, "hello from bob");
    answered(world.exec_as("bob").run(), "bob");
    assert!(world.own_home("bob").join("sessions").is_symlink(), "{}: beside her", world.version());
    alice.close();
    bob.close();
    let report = world.backend().report();
    let sessions: BTreeSet<String> =
        report.turns.iter().filter_map(|turn| Some(turn.session()?.to_owned())).collect();
    assert_eq!(sessions.len(), 3, "{}", world.version());
    sessions
}

/// Requires that Codex without codex-pool goes on with each session.
#[track_caller]
fn go_on(world: &World, sessions: &BTreeSet<String>) {
    for session in sessions {
        world.real_codex(&["exec", "--skip-git-repo-check", "resume", session, "go on"]).run().ok();
        let report = world.backend().report();
        let last = report.turns.iter().rev().find_map(|turn| turn.session()).expect("a turn");
        assert_eq!(last, session, "{}", world.version());
    }
}

/// Requires that no file and no link below a folder names the pool.
fn assert_no_trace(dir: &Path, of: &Path) {
    for path in testkit::files::files_below(dir) {
        let to = fs::read_link(&path).unwrap_or_default();
        assert!(!path.starts_with(of) && !to.starts_with(of), "{} → {}", path.display(), to.display());
    }
}

#[test]
fn purge_leaves_every_session_and_nothing_of_ours() {
    if find_program("python3").is_none() && needs("sqlite3").is_none() {
        return;
    }
    for world in worlds(&TWO) {
        let sessions = sessions_side_by_side(&world);
        let said = world.pool(&["uninstall", "--purge"]).run().ok();
        assert!(
            said.stdout.ends_with("Nothing of codex-pool is left; Codex is as it was before\n"),
            "{said}"
        );
        assert!(!world.pool_home().exists(), "{}", world.version());
        assert_no_trace(world.home(), &world.pool_home());
        go_on(&world, &sessions);
    }
}

#[test]
fn purge_keeps_links_that_codex_needs_where_it_cannot_be_told_otherwise() {
    for world in worlds(&TWO) {
        let sessions = sessions_side_by_side(&world);
        let tool = world.home().join(".local/bin/codex-pool");
        // Without a program that can write to the databases.
        let programs = world.root().join("few");
        fs::create_dir(&programs).expect("a folder");
        for name in [
            "sh", "rm", "rmdir", "find", "cat", "head", "readlink", "grep", "id", "sed", "ls", "mv", "cp",
            "mktemp", "cut", "tail", "dirname", "basename", "uname", "wc", "tr", "sort", "od", "cmp", "test",
            "env", "touch",
        ] {
            if let Some(program) = find_program(name) {
                std::os::unix::fs::symlink(program, programs.join(name)).expect("a link");
            }
        }
        let said = world.cmd(&tool).args(["uninstall", "--purge"]).env("PATH", &programs).run().ok();
        let kept = "What Codex needs to find old sessions stays in ";
        assert!(said.stdout.contains(kept) && !said.stdout.contains("as it was before"), "{said}");
        assert!(!world.pool_home().join("auth").exists(), "{}", world.version());
        go_on(&world, &sessions);
    }
}
