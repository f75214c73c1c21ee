//! The background server trap: it read `auth.json` when it started, and answers as that account whatever is in the
//! file now. The interactive interface must answer from the picked account all the same. On the real Codex.

use std::fs;
use std::path::Path;

use testkit::{Pty, has_server, version};

use crate::world::{SOON, World};

/// Alice ranks first, then bob.
const ALICE: [(&str, f64, f64); 2] = [("alice", 10.0, 10.0), ("bob", 60.0, 60.0)];
/// Bob ranks first, then alice.
const BOB: [(&str, f64, f64); 2] = [("alice", 95.0, 60.0), ("bob", 10.0, 10.0)];

/// None where Codex has no background server.
fn world() -> Option<World> {
    has_server(&version()).then(|| {
        let world = World::real(&["alice", "bob"]);
        world.usage(&ALICE);
        world
    })
}

/// Types `codex`, asks something, and requires that this user answers.
#[track_caller]
fn interactive(world: &World, args: &[&str], user: &str) -> Pty {
    let mut codex = Pty::spawn(world.codex(args), 40, 120);
    codex.wait_for_codex(SOON);
    codex.send_line("say something");
    let screen = codex.wait_for("an answer", SOON, |screen| screen.contains("hello from "));
    assert!(screen.contains(&format!("hello from {user}")), "{screen}");
    codex
}

fn quit(mut codex: Pty) {
    codex.send_line("/quit");
    assert!(codex.wait(SOON).success());
}

/// The background server that lives on the main home.
fn server(world: &World) -> Option<u64> {
    let record = fs::read_to_string(world.codex_home().join("app-server-daemon/daemon.pid")).ok()?;
    let pid = serde_json::from_str::<serde_json::Value>(&record).ok()?["pid"].as_u64()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

#[test]
fn with_a_server_of_another_account_that_is_in_use_the_picked_account_answers_in_its_home() {
    let Some(world) = world() else { return };
    quit(interactive(&world, &[], "alice"));
    assert!(server(&world).is_some(), "the server outlives its interface");
    world.usage(&BOB);
    quit(interactive(&world, &[], "bob"));
    // And the server that is there now does not keep alice from answering either.
    world.usage(&ALICE);
    quit(interactive(&world, &[], "alice"));
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn with_a_server_that_outlived_a_switch_the_picked_account_answers() {
    let Some(world) = world() else { return };
    let alice = interactive(&world, &[], "alice");
    let before = server(&world).expect("a server");
    world.pool(&["use", "bob", "--force"]).run().ok();
    quit(interactive(&world, &[], "bob"));
    assert_eq!(server(&world), Some(before), "it goes on with its session");
    drop(alice);
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn an_idle_server_of_another_account_is_stopped_when_the_home_is_needed() {
    let Some(world) = world() else { return };
    world.pool(&["use", "alice"]).run().ok();
    world.pool(&["use", "--auto"]).run().ok();
    world.codex(&["app-server", "daemon", "start"]).run().ok();
    let idle = server(&world).expect("a server");
    world.usage(&BOB);
    let codex = interactive(&world, &[], "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "the main home was free");
    assert_ne!(server(&world), Some(idle));
    quit(codex);
}

#[test]
fn a_server_of_the_picked_account_is_joined() {
    let Some(world) = world() else { return };
    quit(interactive(&world, &[], "alice"));
    let before = server(&world).expect("a server");
    quit(interactive(&world, &[], "alice"));
    assert_eq!(server(&world), Some(before));
    assert_eq!(world.account("alice")["live"], true);
}
