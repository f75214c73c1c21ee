//! The real Codex, natively.

use std::fs;

use testkit::{Codex, SOON, World, real_codex, versions, wait_for, wait_until};

#[test]
fn real_codex_answers_natively_as_through_node() {
    for version in versions() {
        let Some(real) = real_codex(&version) else { return };
        let native = real.native.canonicalize().expect("it is there");
        let world = World::with(Codex::Real(real), &["alice"]);
        world.link_admin();
        let exec = || world.exec();
        exec().run().ok().says("hello from alice");
        let known = || {
            let files = fs::read_dir(world.pool_home().join("native")).into_iter().flatten().flatten();
            files.map(|e| e.path()).find(|path| path.extension().is_some_and(|e| e == "json"))
        };
        wait_for("what was learnt", SOON, known);
        let hold = world.backend().hold("alice");
        let running = exec().spawn();
        let exe = format!("/proc/{}/exe", running.pid());
        wait_until("the native program in the launch's process", SOON, || {
            fs::read_link(&exe).is_ok_and(|exe| exe == native)
        });
        drop(hold);
        running.wait().ok().says("hello from alice");
        world.codex(&["--version"]).run().ok().says(&version);
    }
}
