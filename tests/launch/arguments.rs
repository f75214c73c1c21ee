//! The arguments that the shim adds, and no others, and that they do what they are for.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::files::write_script;
use testkit::{Codex, SOON, Sandbox, World, answered, now, wait_until};

use crate::BOB_FIRST;

/// Returns a Codex whose help says that, and which otherwise says its arguments, one per line.
fn says_arguments(help: &str) -> World {
    let world = World::with(Codex::Missing, &["alice", "bob"]);
    let script = format!("[ \"$1\" = --help ] && {{ echo '{help}'; exit; }}\nfor a; do echo \"$a\"; done");
    write_script(&world.root().join("bin/codex"), &script);
    world.usage(&BOB_FIRST[..2]);
    world
}

/// Returns what Codex gets when this is typed.
#[track_caller]
fn typed(world: &World, args: &[&str]) -> Vec<String> {
    world.codex(args).run().ok().stdout.lines().map(str::to_owned).collect()
}

fn store(world: &Sandbox, value: &str) {
    world.edit_config(|config| {
        config.insert("cli_auth_credentials_store".to_owned(), value.into());
    });
}

/// Pretends that this process is the background server of a CODEX_HOME, and that it holds no thread.
fn pretend_server(codex_home: &Path, pid: u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .nth(19)
        .expect("a start")
        .parse()
        .expect("a number");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let record = json!({"pid": pid, "processIdentity": {"bootId": boot.trim(), "startTicks": ticks}});
    fs::create_dir_all(codex_home.join("app-server-daemon")).expect("make a folder");
    fs::write(codex_home.join("app-server-daemon/daemon.pid"), record.to_string()).expect("write daemon.pid");
}

/// Dates the time since when the homes hold their accounts. (What the system says of a process's start is precise
/// to a second only.)
fn placed_ago(world: &World, seconds: i64) {
    let path = world.pool_home().join("state.json");
    let text = fs::read_to_string(&path).expect("the state");
    let mut state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (_, codex_home) in state["homes"].as_object_mut().expect("homes") {
        codex_home["since"] = (now() - seconds).into();
    }
    fs::write(&path, state.to_string()).expect("write the state");
}

#[test]
fn arguments_stay_where_nothing_is_needed() {
    let world = says_arguments("--no-daemon");
    for args in [&["exec", "hi"][..], &["hi"], &["-c", "a=b", "resume", "--last"], &["--", "-c"]] {
        assert_eq!(typed(&world, args), args);
    }
    store(&world, "file");
    assert_eq!(typed(&world, &["exec", "hi"]), ["exec", "hi"]);
}

#[test]
fn credential_store_other_than_the_file_is_overridden() {
    const FILE: &str = "cli_auth_credentials_store=\"file\"";
    let world = says_arguments("--no-daemon");
    for other in ["keyring", "auto", "ephemeral"] {
        store(&world, other);
        assert_eq!(typed(&world, &["exec", "hi"]), ["-c", FILE, "exec", "hi"], "{other}");
    }
    assert_eq!(typed(&world, &["exec", "-c", "a=b", "hi"]), ["exec", "-c", "a=b", "-c", FILE, "hi"]);
    assert_eq!(typed(&world, &["--", "-c"]), ["-c", FILE, "--", "-c"]);
    assert_eq!(typed(&world, &["mcp", "list"]), ["mcp", "list"], "no account, no addition");
    store(&world, "file");
    let typed_by_user = "cli_auth_credentials_store=keyring";
    assert_eq!(typed(&world, &["-c", typed_by_user, "exec"]), ["-c", typed_by_user, "-c", FILE, "exec"]);
}

#[test]
fn picked_account_answers_with_the_key_ring_as_the_store() {
    let Some(world) = World::real(&["alice", "bob", "carol"]) else { return };
    world.usage(&BOB_FIRST);
    for other in ["keyring", "auto", "ephemeral"] {
        store(&world, other);
        answered(world.exec().run(), "bob");
        answered(world.exec_as("carol").run(), "carol");
    }
    world.ask(&mut world.terminal(world.codex(&[])), "bob");
    world.assert_nothing_lost(&["alice", "bob", "carol"]);
}

#[test]
fn server_of_the_account_is_joined_and_any_other_avoided() {
    let world = says_arguments("--no-daemon");
    assert_eq!(typed(&world, &["one"]), ["one"]);
    let mut server = world.cmd("sleep").arg("1000").spawn();
    pretend_server(&world.codex_home(), server.pid());
    // It started after bob was placed, so it serves bob.
    placed_ago(&world, 100);
    assert_eq!(typed(&world, &["two"]), ["two"]);
    // It is older than bob's time in the home: its account is unknown.
    placed_ago(&world, -100);
    for args in [&["hi"][..], &["resume", "--last"], &["fork"], &["agents"], &["-m", "o3"]] {
        assert_eq!(typed(&world, args)[0], "--no-daemon", "{args:?}");
        assert_eq!(typed(&world, args)[1..], *args);
    }
    for args in [
        &["exec", "hi"][..],
        &["--no-daemon", "x"],
        &["-c", "a=b", "x"],
        &["--remote", "ws://x", "x"],
        &["review"],
    ] {
        assert_eq!(typed(&world, args), args, "these do not attach");
    }
    assert!(server.is_running());
}

#[test]
fn codex_that_does_not_know_no_daemon_does_not_get_it() {
    let world = says_arguments("an older Codex");
    assert_eq!(typed(&world, &["one"]), ["one"]);
    let server = world.cmd("sleep").arg("1000").spawn();
    pretend_server(&world.codex_home(), server.pid());
    placed_ago(&world, -100);
    assert_eq!(typed(&world, &["two"]), ["two"]);
}

#[test]
fn trusted_hooks_stay_trusted_in_an_own_home() {
    let world = says_arguments("--no-daemon");
    let base = world.codex_home();
    let key = format!("{}/hooks.json:pre_tool_use:0:0", base.display());
    world.edit_config(|config| {
        let entry: toml::Table = "trusted_hash = \"sha256:abc\"".parse().expect("TOML");
        let state = toml::Table::from_iter([(key.clone(), entry.into())]);
        config.insert("hooks".into(), toml::Table::from_iter([("state".to_owned(), state.into())]).into());
    });
    let gate = world.root().join("gate");
    let script = "while [ ! -e \"$GATE\" ]; do sleep 0.05; done";
    let run =
        world.pool(&["run", "alice", "--program", "/bin/sh", "--", "-c", script]).env("GATE", &gate).spawn();
    wait_until("alice's session", SOON, || world.account("alice")["sessions"] == 1);
    let args = typed(&world, &["exec", "hi"]);
    let home: PathBuf = world.pool_home().join("homes");
    assert_eq!((args[0].as_str(), &args[2..]), ("-c", &["exec".to_owned(), "hi".to_owned()][..]));
    assert!(args[1].starts_with(&format!("hooks.state={{\"{}", home.display())), "{args:?}");
    assert!(args[1].ends_with("/hooks.json:pre_tool_use:0:0\"={trusted_hash=\"sha256:abc\"}}"), "{args:?}");
    fs::write(&gate, "").expect("open the gate");
    run.wait().ok();
    assert_eq!(typed(&world, &["exec", "hi"]), ["exec", "hi"], "not on the main home");
}
