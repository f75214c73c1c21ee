//! The real Codex, natively.

use std::fs;
use std::os::unix::fs::symlink;

use testkit::{Codex, Sandbox, bins, real_codex, versions, wait_for, wait_until};

use crate::world::SOON;

#[test]
fn the_real_codex_answers_natively_as_through_node() {
    for version in versions() {
        let real = real_codex(&version).unwrap_or_else(|e| panic!("no real Codex: {e}"));
        let native = real.native.canonicalize().expect("it is there");
        let sandbox = Sandbox::builder().codex(Codex::Real(real)).build();
        sandbox.import("alice");
        symlink(bins::codex_pool(), sandbox.pool_home().join("bin/codex-pool")).expect("link");
        let exec = || sandbox.codex(&["exec", "--skip-git-repo-check", "hi"]);
        exec().run().ok().says("hello from alice");
        let known = || {
            let files = fs::read_dir(sandbox.pool_home().join("native")).into_iter().flatten().flatten();
            files.map(|e| e.path()).find(|path| path.extension().is_some_and(|e| e == "json"))
        };
        wait_for("what was learnt", SOON, known);
        let hold = sandbox.backend().hold("alice");
        let running = exec().spawn();
        let exe = format!("/proc/{}/exe", running.pid());
        wait_until("the native program in the launch's process", SOON, || {
            fs::read_link(&exe).is_ok_and(|exe| exe == native)
        });
        drop(hold);
        running.wait().ok().says("hello from alice");
        sandbox.codex(&["--version"]).run().ok().says(&version);
    }
}
