//! `run`: Codex or another program on an account, as the shim would start it.

use std::fs;

use testkit::files::set_mode;
use testkit::probe::Record;
use testkit::{Codex, Output, World, complains};

use crate::logins::Logins as _;

/// Runs `codex-pool run …`, whose program must be the probe, and returns its record.
fn probed(world: &World, args: &[&str]) -> (Output, Record) {
    let out = world.root().join("record.json");
    let _ = fs::remove_file(&out);
    let output = world.pool(args).env("PROBE_OUT", &out).run();
    (output, Record::read(&out))
}

#[test]
fn codex_runs_on_the_named_account_and_its_status_is_ours() {
    let world = World::logged_in(&["alice", "bob"]);
    world.pool(&["run", "bob", "--", "exec", "hi"]).run().ok().says("hello from bob");
    world.pool(&["run", "alice", "--", "exec", "hi"]).run().ok().says("hello from alice");
    world.pool(&["use", "alice"]).run().ok();
    world.pool(&["run", "--", "exec", "hi"]).run().ok().says("hello from alice");
    world.pool(&["run", "bob", "--", "login", "--bogus"]).run().expect(2);
    world.backend().add_api_key("ci", "sk-fake-ci");
    world.pool(&["add", "--with-api-key", "--label", "ci key"]).stdin("sk-fake-ci").run().ok();
    world.pool(&["run", "ci key", "--", "exec", "hi"]).run().ok().says("hello from ci");
    world.pool(&["use", "ci key"]).run().ok().says("`ci key` is live and pinned");
    world.codex(&["exec", "hi"]).run().ok().says("hello from ci");
    let probe = World::logged_in_with(Codex::Probe, &["alice"]);
    let out = probe.root().join("record.json");
    probe.pool(&["run", "alice", "--", "x"]).env("PROBE_OUT", &out).env("PROBE_EXIT", "42").run().expect(42);
    let killed = probe.pool(&["run", "alice", "--", "x"]).env("PROBE_KILL", "15").run();
    assert_eq!(killed.signal(), Some(15), "{killed}");
    world.backend().assert_clean();
}

#[test]
fn codex_finds_everything_as_it_came() {
    let world = World::logged_in_with(Codex::Probe, &["alice"]);
    let (_, record) = probed(&world, &["run", "alice", "--", "-m", "x", "--", "a b"]);
    assert_eq!(record.args(), ["codex", "-m", "x", "--", "a b"]);
    assert!(record.ignored.is_empty(), "{:?}", record.ignored);
    assert!(record.blocked.is_empty(), "{:?}", record.blocked);
    assert_eq!(record.var("CODEX_POOL_ACCOUNT"), None);

    // What Rust's start would change: a closed stdin, and SIGPIPE that the parent ignores.
    let out = world.root().join("record.json");
    let script = "trap '' PIPE; exec codex-pool run alice -- x <&-";
    world.cmd("/bin/sh").args(["-c", script]).env("PROBE_OUT", &out).run().ok();
    let record = Record::read(&out);
    assert_eq!(record.ignored, [nix::libc::SIGPIPE]);
    assert!(record.descriptors.iter().all(|d| d.fd != 0), "{:?}", record.descriptors);
}

#[test]
fn other_program_stays_on_the_account_by_its_own_codex() {
    let world = World::logged_in(&["alice", "bob"]);
    let script = world.work().join("ci.sh");
    fs::write(&script, "#!/bin/sh\necho \"$# $1 $2\"\ncodex exec hi\nexit 7\n").expect("write it");
    set_mode(&script, 0o755);
    let run = world.pool(&["run", "bob", "--program", "./ci.sh", "--", "a", "b c"]);
    let output = run.run().expect(7).says("2 a b c\nhello from bob");
    assert!(output.stderr.is_empty(), "{output}");
    // A script without a first line that names its shell is run by the shell.
    fs::write(&script, "echo \"$# $1\"; exit 5\n").expect("write it");
    world.pool(&["run", "bob", "--program", "./ci.sh", "--", "a b"]).run().expect(5).says("1 a b");
    let probe = World::logged_in_with(Codex::Probe, &["alice"]);
    fs::rename(probe.root().join("bin/codex"), probe.root().join("bin/tool")).expect("rename it");
    let (_, record) = probed(&probe, &["run", "alice", "--program", "tool", "--", "--version"]);
    assert_eq!(record.args(), ["tool", "--version"]);
    assert_eq!(record.var("CODEX_POOL_ACCOUNT"), Some(probe.id("alice")));
}

#[test]
fn program_that_cannot_run_touches_nothing() {
    let world = World::logged_in(&["alice", "bob"]);
    let before = world.possessions();
    fs::write(world.work().join("notes.txt"), "").expect("write it");
    let run = |program: &str| world.pool(&["run", "bob", "--program", program]).run();
    complains(&run("no-such-program").expect(127), "no program `no-such-program` on PATH");
    complains(&run("./absent").expect(127), "there is no ./absent");
    complains(&run("./notes.txt").expect(126), "./notes.txt cannot be executed");
    assert_eq!(world.possessions(), before);
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
}

#[test]
fn fault_of_the_account_is_reported_with_the_shims_status() {
    let world = World::logged_in(&["alice"]);
    complains(
        &world.pool(&["run", "stranger", "--", "exec", "hi"]).run().expect(3),
        "no account matches `stranger`",
    );
    complains(
        &world.pool(&["run", "stranger", "--", "--version"]).run().expect(3),
        "no account matches `stranger`",
    );
    complains(&world.pool(&["run", "exec"]).run().expect(3), "codex-pool run -- exec");
    fs::remove_file(world.codex_home().join("auth.json")).expect("remove it");
    complains(&world.pool(&["run", "alice", "--", "exec", "hi"]).run().expect(5), "reauth alice");
    let off = world.pool(&["run", "alice", "--", "exec", "hi"]).env("CODEX_POOL", "off").run().expect(2);
    complains(&off, "CODEX_POOL=off is set");
    let output = world.pool(&["run", "--best", "exec", "fix it"]).run().expect(2);
    complains(&output, "what the program gets comes after `--`: codex-pool run --best -- exec fix it");
    let missing = World::logged_in_with(Codex::Missing, &["alice"]);
    complains(
        &missing.pool(&["run", "alice", "--", "exec", "hi"]).run().expect(127),
        "npm install -g @openai/codex",
    );
}
