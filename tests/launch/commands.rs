//! Which commands get an account: those that need none reach Codex as if there were no pool.

use std::fs;

use testkit::probe::Record;
use testkit::{World, answered};

use crate::BOB_FIRST;

/// Command lines that need no account.
const WITHOUT: &[&[&str]] = &[
    &["--help"],
    &["-h"],
    &["help"],
    &["-V"],
    &["--version"],
    &["exec", "--help"],
    &["-m", "o3", "--version"],
    &["completion", "bash"],
    &["mcp", "list"],
    &["-c", "a=b", "mcp", "list"],
    &["plugin"],
    &["features"],
    &["sandbox", "ls"],
    &["debug"],
    &["update"],
    &["doctor"],
    &["app-server", "daemon", "stop"],
    &["app-server", "proxy"],
    &["app-server", "generate-ts"],
    &["remote-control", "stop"],
    &["login", "status"],
    &["archive", "x"],
    &["delete", "x"],
    &["unarchive", "x"],
    &["migrate-rollouts"],
    &["exec-server"],
];

/// Command lines that need one.
const WITH: &[&[&str]] = &[
    &[],
    &["a prompt"],
    &["exec", "x"],
    &["e", "x"],
    &["review"],
    &["resume"],
    &["fork"],
    &["agents"],
    &["queue", "x"],
    &["cloud"],
    &["apply", "x"],
    &["app-server"],
    &["remote-control"],
    &["mcp-server"],
    &["no-such-command"],
    &["--no-such-option", "x"],
    // The values of options are no commands, and what follows `--` is a prompt.
    &["-m", "mcp"],
    &["--model", "help", "x"],
    &["-C", "doctor", "exec", "x"],
    &["--add-dir", "update"],
    &["--", "login"],
    &["--", "mcp"],
    &["exec", "--", "--help"],
    // An image list swallows what follows.
    &["-i", "a.png", "logout"],
    &["--image", "a.png", "doctor"],
];

#[test]
fn commands_that_need_no_account_do_not_touch_the_pool() {
    let world = World::probe(&["alice"]);
    fs::remove_dir_all(world.pool_home().join("launches")).ok();
    // A pool that cannot be used would be complained about.
    fs::write(world.pool_home().join("accounts.json"), "{ broken").expect("break the registry");
    for (at, args) in WITHOUT.iter().enumerate() {
        let out = world.root().join(format!("without-{at}"));
        let output = world.codex(args).env("PROBE_OUT", &out).env("PROBE_EXIT", "7").run().expect(7);
        assert_eq!(output.stderr, "", "{args:?}");
        let record = Record::read(&out);
        assert_eq!(record.args()[1..], **args, "{args:?}");
        assert_eq!(record.var("CODEX_POOL_LAUNCH"), None, "{args:?}");
    }
    assert_eq!(world.live(), None);
    assert!(!world.pool_home().join("launches").exists());
}

#[test]
fn other_commands_get_an_account_and_unknown_ones_too() {
    let world = World::probe(&["alice"]);
    for (at, args) in WITH.iter().enumerate() {
        let out = world.root().join(format!("with-{at}"));
        let _ = fs::remove_file(world.codex_home().join("auth.json"));
        world.codex(args).env("PROBE_OUT", &out).run().ok();
        let record = Record::read(&out);
        assert_eq!(record.args()[1..], **args, "{args:?}");
        assert!(record.var("CODEX_POOL_LAUNCH").is_some(), "{args:?}");
        // The account of the launch before is logged out by the removal of its file: put it back for the next.
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{args:?}");
        fs::remove_dir_all(world.pool_home().join("launches")).expect("forget the launch");
        fs::remove_file(world.pool_home().join("state.json")).expect("forget the home");
    }
}

#[test]
fn codex_pool_off_means_off() {
    let world = World::new(&["alice", "bob"]);
    world.usage(&BOB_FIRST[..2]);
    answered(world.exec_as("alice").run(), "alice");
    let before = world.live();
    answered(world.exec().env("CODEX_POOL", "off").run(), "alice");
    answered(world.exec_as("bob").env("CODEX_POOL", "off").run(), "alice");
    assert_eq!(world.live(), before);
    answered(world.exec().run(), "bob");
}

#[test]
fn real_codex_does_what_it_is_asked_without_an_account() {
    let Some(world) = World::real(&["alice"]) else { return };
    for args in [&["--version"][..], &["exec", "--help"], &["completion", "bash"], &["features", "list"]] {
        let through = world.codex(args).run().ok();
        let direct = world.real_codex(args).run().ok();
        assert_eq!(through.stdout, direct.stdout, "{args:?}");
    }
    world.codex(&["login", "status"]).run().expect(1);
    assert_eq!(world.live(), None);
}
