//! An `auth.json` that cannot be replaced: accounts get homes of their own, and nothing is lost.

use std::fs;
use std::process::Command;

use testkit::backend::{LoginSpec, UserSpec};
use testkit::{Output, World, answered, leave_out};

use crate::{ALL, BOB_FIRST};

/// Alice is live, and bob ranks first.
fn world() -> World {
    let world = World::new(&ALL);
    answered(world.exec_as("alice").run(), "alice");
    world.usage(&BOB_FIRST);
    world
}

/// Runs a script where the live `auth.json` is mounted by itself, as in a container. `None`: there are no mounts here.
fn with_mounted_login(world: &World, script: &str) -> Option<Output> {
    let live = world.codex_home().join("auth.json");
    let script = format!("mount --bind \"$LIVE\" \"$LIVE\"\n{script}");
    Some(world.unshare(&["-m"])?.args(["sh", "-ec", &script]).env("LIVE", live).run().ok())
}

#[test]
fn mounted_login_stays_and_every_account_can_be_used() {
    let world = world();
    let before = world.live();
    let script = r#"
        CODEX_POOL_VERBOSE=1 codex exec hi
        for user in carol alice bob alice; do CODEX_POOL_ACCOUNT=$user codex exec hi; done
        codex-pool doctor --json || true
    "#;
    let Some(output) = with_mounted_login(&world, script) else { return };
    let answers: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("hello")).collect();
    assert_eq!(answers, ["bob", "carol", "alice", "bob", "alice"].map(|user| format!("hello from {user}")));
    assert!(output.stderr.contains("running as bob; alice stays live: "), "{output}");
    assert!(output.stdout.contains("auth.json is mounted by itself"), "{output}");
    assert_eq!(world.live(), before, "what is mounted stays");
    world.assert_nothing_lost(&ALL);
    // Where nothing is mounted, the home changes hands again.
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn account_whose_login_is_mounted_goes_on_after_a_renewal() {
    let world = World::new(&[]);
    let expiring = LoginSpec { expires_in: 12 * 3600, ..LoginSpec::default() };
    world.add_as("alice", UserSpec::new("alice"), &expiring);
    answered(world.exec().run(), "alice");
    let before = world.live();
    let script = r#"
        codex-pool refresh alice >/dev/null
        for i in 1 2; do CODEX_POOL_ACCOUNT=alice codex exec hi; done
    "#;
    let Some(output) = with_mounted_login(&world, script) else { return };
    assert_eq!(output.stdout, "hello from alice\nhello from alice\n", "{output}");
    assert_eq!(world.live(), before, "what is mounted stays");
    let renewed = world.stored("alice");
    assert_ne!(renewed, before.expect("a login"));
    assert_eq!(
        fs::read_to_string(world.own_home("alice").join("auth.json")).ok(),
        Some(renewed),
        "Codex has the new tokens"
    );
    world.assert_nothing_lost(&["alice"]);
}

#[test]
fn immutable_login_stays_and_the_pick_gets_a_home_of_its_own() {
    let world = world();
    let live = world.codex_home().join("auth.json");
    let chattr =
        |flag: &str| Command::new("chattr").arg(flag).arg(&live).output().is_ok_and(|o| o.status.success());
    if !chattr("+i") {
        return leave_out("files cannot be made immutable here");
    }
    let before = world.live();
    let outputs = [world.exec().run(), world.exec_as("alice").run(), world.exec_as("carol").run()];
    let pinned = world.pool(&["use", "carol"]).run();
    let doctor = world.pool(&["doctor", "--json"]).run();
    assert!(chattr("-i"), "so that the sandbox can be removed");
    for (output, user) in outputs.into_iter().zip(["bob", "alice", "carol"]) {
        answered(output, user);
    }
    assert!(pinned.ok().stderr.contains("is set to be immutable"));
    assert!(doctor.stdout.contains("auth.json is set to be immutable"), "{doctor}");
    assert_eq!(world.live(), before);
    world.assert_nothing_lost(&ALL);
    answered(world.exec().run(), "carol");
    assert_eq!(world.live_owner().as_deref(), Some("carol"));
}
