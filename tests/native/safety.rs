//! Learning starts nothing, writes nothing but what it learnt, connects to nothing, and keeps no secret.

use std::fs;
use std::path::PathBuf;

use testkit::files::write_program;
use testkit::{SOON, World, version, wait_for};

use crate::world::{Installation as _, npm, usual, world};

/// Returns an installation whose launcher first does this.
fn mischievous(world: &World, first: &str) -> PathBuf {
    let bin = world.root().join("npm/bin");
    let modules = world.root().join("npm/lib/node_modules");
    npm(&version(), &modules, &bin.join("codex"));
    let launcher = modules.join("@openai/codex/bin/codex.js");
    let text = fs::read_to_string(&launcher).expect("read");
    write_program(&launcher, text.replacen("const __filename", &format!("{first}\nconst __filename"), 1));
    bin
}

#[test]
fn launcher_that_does_more_than_start_codex_is_not_learnt() {
    for (what, first) in [
        ("fs.appendFileSync", "import { appendFileSync } from 'fs'; appendFileSync('LOG', 'x');"),
        ("fs.promises.appendFile", "import fsp from 'fs/promises'; await fsp.appendFile('LOG', 'x');"),
        ("fs.openSync for writing", "import { openSync } from 'node:fs'; openSync('LOG', 'a');"),
        (
            "spawnSync",
            "import { spawnSync } from 'child_process'; spawnSync('/bin/sh', ['-c', 'echo x >>LOG']);",
        ),
        ("execSync", "import cp from 'node:child_process'; cp.execSync('echo x >>LOG');"),
        (
            "net.Socket.connect",
            "import net from 'net'; import { appendFileSync } from 'fs'; const s = net.connect(PORT, '127.0.0.1'); \
             await new Promise((r) => s.on('connect', r)); s.destroy(); appendFileSync('LOG', 'x');",
        ),
        (
            "net.Socket.connect",
            "import { appendFileSync } from 'fs'; await fetch('http://127.0.0.1:PORT/'); appendFileSync('LOG', 'x');",
        ),
    ] {
        let Some(world) = world() else { return };
        let log = world.root().join("mischief");
        let first = first.replace("LOG", &log.display().to_string());
        let first = first.replace("PORT", &world.backend().port().to_string());
        let bin = mischievous(&world, &first);
        for _ in 0..2 {
            world.launch(world.exec_in(&bin)).through_node();
            world.settle();
        }
        let tried = world.tried().remove(0).1;
        assert!(tried.contains(what) && tried.contains("does more than start Codex"), "{what}: {tried}");
        assert_eq!((world.lessons(), world.learnt().len()), (1, 0), "{what}");
        let did = fs::read_to_string(&log).unwrap_or_default().matches('x').count();
        let expected = if what.starts_with("fs.openSync") { 0 } else { 2 };
        assert_eq!(did, expected, "{what}: in the two launches, not when it was learnt");
    }
}

#[test]
fn launcher_whose_answer_depends_on_more_is_not_learnt() {
    for (what, first) in [
        ("looks at HOME", "if (process.env.HOME === '/x') process.exit(3);"),
        ("depends on more", "process.env.COPY = process.env.PATH;"),
        ("is no Node", "process.exit(0);"),
    ] {
        let Some(world) = world() else { return };
        let bin = mischievous(&world, first);
        let cmd = world.exec_in(&bin);
        if what == "is no Node" {
            cmd.run();
        } else {
            world.launch(cmd).through_node();
        }
        world.settle();
        assert_eq!(world.learnt().len(), 0, "{what}");
        let tried = world.tried().remove(0).1;
        let expected = if what == "is no Node" { "without starting" } else { what };
        assert!(tried.contains(expected), "{what}: {tried}");
    }
}

#[test]
fn path_that_the_launcher_extends_is_extended_for_every_path() {
    let Some(world) = world() else { return };
    let bin = mischievous(&world, "process.env.PATH = `/vendor/path:${process.env.PATH}`;");
    world.learn(&bin);
    let record = world.launch(world.cmd_in(&world.shim(), &[&bin, "/more".as_ref()]).arg("exec")).natively();
    let path = record.var("PATH").expect("PATH");
    let own = world.pool_home().join("bin").display().to_string();
    assert!(path.starts_with(&format!("/vendor/path:{own}:")) && path.contains("/more"), "{path}");
}

#[test]
fn environment_of_the_user_is_not_kept() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    let secret = "a-very-secret-value";
    let exec = world
        .exec_in(&bin)
        .env("OPENAI_API_KEY", secret)
        .env("CODEX_MANAGED_BY_NPM", secret)
        .env("MINE", secret);
    world.launch(exec).through_node();
    wait_for("what was learnt", SOON, || world.learnt().pop());
    world.settle();
    let dir = world.pool_home().join("native");
    for entry in fs::read_dir(&dir).expect("list").flatten() {
        let text = fs::read_to_string(entry.path()).expect("text");
        assert!(!text.contains(secret), "{}", entry.path().display());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&entry.metadata().expect("it is there").permissions());
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
    // Nor do they come back.
    let record = world.launch(world.exec_in(&bin).env("CODEX_MANAGED_BY_NPM", "other")).natively();
    assert_eq!(record.var("CODEX_MANAGED_BY_NPM").as_deref(), Some("1"));
}
