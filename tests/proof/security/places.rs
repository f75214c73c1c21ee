//! The pool in an odd place, or where tools can write, and an environment that asks for a version.

use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::{World, answered};

use super::neighbour::write;

/// Folders in which nothing can be made, and what is no folder.
#[test]
fn codex_starts_wherever_the_pool_is_said_to_be() {
    let world = World::probe(&["alice"]);
    let file = world.root().join("file");
    write(&file, "");
    let places = ["/proc", "/proc/self", "/proc/self/fd", "/proc/self/fd/0", "/proc/none/pool", "/dev/null"];
    for place in places.iter().map(Path::new).chain([file.as_path(), &file.join("pool")]) {
        let codex = world.codex(&["exec", "hi"]).env("CODEX_POOL_HOME", place).run();
        assert_eq!(codex.code(), Some(0), "{}: {codex}", place.display());
        assert!(codex.stderr.contains("Codex starts without the pool"), "{}: {codex}", place.display());
        for command in ["list", "doctor"] {
            let output = world.pool(&[command]).env("CODEX_POOL_HOME", place).run();
            assert_eq!(output.code(), Some(1), "{}: {output}", place.display());
        }
    }
}

#[test]
fn question_for_the_shims_version_does_not_replace_a_command() {
    let world = World::logged_in(&["alice"]);
    answered(world.exec().env("CODEX_POOL_SHIM_VERSION", "1").run(), "alice");
    let review = world.codex(&["exec", "review"]).env("CODEX_POOL_SHIM_VERSION", "1").run();
    assert!(!review.stdout.contains("codex-shim"), "{review}");
    world.codex(&[]).env("CODEX_POOL_SHIM_VERSION", "1").run().ok().says("codex-shim ");
}

/// Codex's sandbox keeps tools from `.codex` in their working root, but knows nothing of the pool.
#[test]
fn tools_that_may_write_in_the_pool_are_reported() {
    let world = World::logged_in(&["alice"]);
    let home = world.home();
    let line = "contains the pool";
    let told = |args: &[&str], dir: &Path| {
        let output = answered(world.codex(args).current_dir(dir).run(), "alice");
        let lines = output.stderr.matches(line).count();
        assert!(lines < 2, "{output}");
        lines == 1
    };
    let exec = ["exec", "--skip-git-repo-check", "hi"];
    let with = |options: &[&'static str]| [options, &exec].concat();
    assert!(!told(&exec, &world.work()));
    assert!(told(&exec, home));
    assert!(told(&exec, world.root()), "above HOME");
    assert!(told(&with(&["-s", "workspace-write"]), home));
    assert!(!told(&with(&["-s", "read-only"]), home));
    assert!(told(&with(&["-C", "../home"]), &world.work()));
    assert!(!told(&with(&["-C", "../work"]), home));
    assert!(told(&with(&["--add-dir", "../home"]), &world.work()));
    let linked = world.root().join("linked");
    symlink(home, &linked).expect("make a link");
    assert!(told(&exec, &linked));
    let quiet = world.exec().current_dir(home).env("CODEX_POOL_QUIET", "1").run();
    assert!(!quiet.stderr.contains(line), "{quiet}");
}
