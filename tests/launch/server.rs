//! A background server reads `auth.json` when it starts, and answers as that account whatever the file holds later. The
//! interactive interface must answer from the picked account all the same. On the real Codex.

use testkit::{Pty, World, has_server, version};

/// Alice ranks first, then bob.
const ALICE: [(&str, f64, f64); 2] = [("alice", 10.0, 10.0), ("bob", 60.0, 60.0)];
/// Bob ranks first, then alice.
const BOB: [(&str, f64, f64); 2] = [("alice", 95.0, 60.0), ("bob", 10.0, 10.0)];

/// None where Codex has no background server.
fn world() -> Option<World> {
    if !has_server(&version()) {
        return None;
    }
    let world = World::real(&["alice", "bob"])?;
    world.usage(&ALICE);
    Some(world)
}

/// Types `codex`, asks something, and requires that this user answers.
#[track_caller]
fn interactive(world: &World, args: &[&str], user: &str) -> Pty {
    let mut codex = world.terminal(world.codex(args));
    world.ask(&mut codex, user);
    codex
}

/// Returns the background server of the main home.
fn server(world: &World) -> Option<u32> {
    world.server(&world.codex_home())
}

#[test]
fn picked_account_answers_beside_a_server_of_another_in_use() {
    let Some(world) = world() else { return };
    interactive(&world, &[], "alice").quit_codex();
    assert!(server(&world).is_some(), "the server outlives its interface");
    world.usage(&BOB);
    interactive(&world, &[], "bob").quit_codex();
    // And the server that is there now does not keep alice from answering either.
    world.usage(&ALICE);
    interactive(&world, &[], "alice").quit_codex();
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn picked_account_answers_though_a_server_outlived_a_switch() {
    let Some(world) = world() else { return };
    let alice = interactive(&world, &[], "alice");
    let before = server(&world).expect("a server");
    world.pool(&["use", "bob", "--force"]).run().ok();
    interactive(&world, &[], "bob").quit_codex();
    assert_eq!(server(&world), Some(before), "it goes on with its session");
    drop(alice);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn idle_server_of_another_account_is_stopped_when_the_home_is_needed() {
    let Some(world) = world() else { return };
    world.make_live("alice");
    world.codex(&["app-server", "daemon", "start"]).run().ok();
    let idle = server(&world).expect("a server");
    world.usage(&BOB);
    let mut codex = interactive(&world, &[], "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "the main home was free");
    assert_ne!(server(&world), Some(idle));
    codex.quit_codex();
}

#[test]
fn server_of_the_picked_account_is_joined() {
    let Some(world) = world() else { return };
    interactive(&world, &[], "alice").quit_codex();
    let before = server(&world).expect("a server");
    interactive(&world, &[], "alice").quit_codex();
    assert_eq!(server(&world), Some(before));
    assert_eq!(world.account("alice")["live"], true);
}
