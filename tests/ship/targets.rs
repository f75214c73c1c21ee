//! What the programs do on every target. `scripts/targets.sh` runs this on those of a release, in an emulator where they
//! are for another processor.

use testkit::{World, answered};

#[test]
fn programs_say_their_version_import_list_and_launch() {
    let version = env!("CARGO_PKG_VERSION");
    // Imports both.
    let world = World::new(&["alice", "bob"]);
    let said = world.pool(&["--version"]).run().ok();
    assert_eq!(said.stdout, format!("codex-pool {version}\n"));
    assert_eq!(world.labels(), ["alice", "bob"]);
    world.rank(&["bob", "alice"]);
    assert_eq!(world.why(), ["bob", "alice"]);
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    answered(world.exec_as("alice").run(), "alice");
    world.assert_nothing_lost(&["alice", "bob"]);
}
