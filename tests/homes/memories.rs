//! Codex's memories in an own home: they are those of the main home, and Codex itself can reset them there.

use std::fs;
use std::path::Path;

use serde_json::json;
use testkit::backend::Hold;
use testkit::{Codex, Running, SOON, World, answered};

use crate::rpc::Editor;
use crate::world::{Homes as _, TWO};

/// Alice's session is in the main home, so that bob gets his own.
fn world() -> Option<(World, Hold, Running)> {
    let world = World::with(Codex::real_of("0.169.0")?, &[]);
    world.fill(&TWO);
    write(&world.codex_home(), "MEMORY.md", "likes tea");
    write(&world.codex_home(), "rollout_summaries/one.md", "made tea");
    let hold = world.backend().hold("alice");
    let session = world.exec_as("alice").spawn();
    hold.wait_for(1, SOON);
    Some((world, hold, session))
}

fn write(home: &Path, name: &str, text: &str) {
    let file = home.join("memories").join(name);
    fs::create_dir_all(file.parent().expect("a folder")).expect("make a folder");
    fs::write(file, text).expect("write a memory");
}

fn read(home: &Path, name: &str) -> Option<String> {
    fs::read_to_string(home.join("memories").join(name)).ok()
}

#[test]
fn memories_are_shared_and_can_be_reset_in_an_own_home() {
    let Some((world, hold, session)) = world() else { return };
    let main = world.codex_home();
    let mut editor = Editor::open(world.codex(&["app-server"]).env("CODEX_POOL_ACCOUNT", "bob"));
    let own = world.own_home("bob");
    assert_eq!(read(&own, "rollout_summaries/one.md").as_deref(), Some("made tea"));
    assert!(!own.join("memories").is_symlink());
    // What one home changes, the other gets with the next launch.
    write(&own, "MEMORY.md", "likes coffee");
    write(&own, "two.md", "made coffee");
    write(&main, "three.md", "made cake");
    answered(world.exec_as("bob").run(), "bob");
    for home in [&main, &own] {
        assert_eq!(read(home, "MEMORY.md").as_deref(), Some("likes coffee"));
        assert_eq!(read(home, "two.md").as_deref(), Some("made coffee"));
        assert_eq!(read(home, "three.md").as_deref(), Some("made cake"));
    }
    editor.call("memory/reset", &json!({}));
    answered(world.exec_as("bob").run(), "bob");
    for home in [&main, &own] {
        for name in ["MEMORY.md", "rollout_summaries/one.md", "two.md", "three.md"] {
            assert_eq!(read(home, name), None, "{name} in {}", home.display());
        }
    }
    editor.close();
    drop(hold);
    answered(session.wait(), "alice");
}
