//! Whatever is wrong with the pool, Codex starts untouched with one line on stderr, and the pool stays as it was. Only
//! an account asked for by name fails the launch.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::{Codex, Output, SOON, World, answered, bins, wait_until};

use crate::{ALL, BOB_FIRST, drop_privileges};

/// Alice is live, and bob ranks first.
fn world() -> World {
    let world = World::new(&ALL);
    answered(world.exec_as("alice").run(), "alice");
    world.usage(&BOB_FIRST);
    world
}

/// Requires that Codex starts on the live account with one line that says `why`, and that a named one fails.
#[track_caller]
fn starts_untouched(world: &World, why: &str) {
    let before = world.live();
    let output = answered(world.exec().run(), "alice");
    assert!(output.stderr.contains(why), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(output.stderr.contains("Codex starts without the pool"), "{output}");
    let output = world.exec_as("bob").run().expect(4);
    assert!(output.stderr.contains("`bob` was asked for") && output.stderr.contains(why), "{output}");
    let output = world.pool(&["run", "bob", "--", "exec", "hi"]).run().expect(4);
    assert!(output.stderr.contains(why), "{output}");
    assert_eq!(world.live(), before);
}

#[test]
fn login_from_the_environment_touches_no_home_and_is_said() {
    let world = World::new(&["alice", "bob"]);
    world.rank(&["bob", "alice"]);
    world.make_live("alice");
    let key = |cmd: testkit::Cmd| cmd.env("CODEX_API_KEY", "sk-from-the-environment");
    let before = world.live();
    let output = key(world.exec()).env("CODEX_POOL_VERBOSE", "1").run();
    assert!(output.stderr.contains("takes its login from CODEX_API_KEY"), "{output}");
    assert!(!output.stderr.contains("bob"), "{output}");
    assert_eq!(world.live(), before, "the home is as it was");
    for (name, value) in [("CODEX_ACCESS_TOKEN", "x"), ("OPENAI_IDENTITY_TOKEN_FILE", "/x")] {
        world.exec().env(name, value).env("OPENAI_FEDERATION_RULE_ID", "r").run();
        assert_eq!(world.live(), before, "{name}");
    }
    for command in ["list", "why"] {
        let shown = key(world.pool(&[command])).run().ok();
        assert!(
            shown.stdout.contains("CODEX_API_KEY is set: `codex exec` takes its login from there"),
            "{shown}"
        );
        assert_eq!(key(world.pool(&[command, "--json"])).run().ok().json()["identity_from"], "CODEX_API_KEY");
    }
    assert!(world.pool(&["list", "--json"]).run().ok().json()["identity_from"].is_null());
    // Interfaces ignore the key, and so does the shim for them. A file alone is no identity.
    let file = world.exec().env("OPENAI_IDENTITY_TOKEN_FILE", "/x").run();
    answered(file, "bob");
    world.make_live("alice");
    key(world.codex(&["hi"])).run();
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    // An account that was asked for by name cannot answer.
    let named = key(world.exec_as("alice")).run().expect(4);
    assert!(named.stderr.contains("CODEX_API_KEY"), "{named}");
}

#[test]
fn corrupt_registry_is_named_with_the_repair_and_never_replaced() {
    for text in ["{ broken", "", "[]", "{\"version\": 2, \"accounts\": [{}]}", "\u{0}\u{0}\u{0}"] {
        let world = world();
        let registry = world.pool_home().join("accounts.json");
        let good = fs::read_to_string(&registry).expect("the registry");
        fs::write(&registry, text).expect("break it");
        starts_untouched(&world, "accounts.json is corrupt");
        let output = world.pool(&["list"]).run().expect(1);
        assert!(
            output.stderr.contains("accounts.json") && output.stderr.contains("codex-pool doctor --fix"),
            "{output}"
        );
        assert_eq!(fs::read_to_string(&registry).expect("the registry"), text);
        fs::write(&registry, good).expect("restore it");
        answered(world.exec().run(), "bob");
        world.assert_nothing_lost(&ALL);
    }
}

#[test]
fn registry_of_a_newer_version_changes_nothing() {
    let world = world();
    let registry = world.pool_home().join("accounts.json");
    let newer =
        fs::read_to_string(&registry).expect("the registry").replacen("\"version\":2", "\"version\":3", 1);
    fs::write(&registry, &newer).expect("write it");
    starts_untouched(&world, "newer than this codex-pool knows");
    world.pool(&["use", "carol"]).run().expect(1);
    assert_eq!(fs::read_to_string(&registry).expect("the registry"), newer);
}

#[test]
fn registry_that_is_a_folder_or_missing_loses_nothing() {
    let world = world();
    let registry = world.pool_home().join("accounts.json");
    let good = fs::read(&registry).expect("the registry");
    fs::remove_file(&registry).expect("remove it");
    fs::create_dir(&registry).expect("make a folder");
    starts_untouched(&world, "accounts.json");
    fs::remove_dir(&registry).expect("remove it");
    // Missing is empty: what is live is adopted again.
    answered(world.exec().run(), "alice");
    fs::write(&registry, good).expect("restore it");
    answered(world.exec().run(), "bob");
    world.assert_nothing_lost(&ALL);
}

#[test]
fn corrupt_caches_are_set_aside_and_rebuilt() {
    let world = world();
    for (file, text) in
        [("usage.json", "{ broken"), ("state.json", "\u{1}"), ("usage.json", ""), ("state.json", "[true]")]
    {
        let path = world.pool_home().join(file);
        fs::write(&path, text).expect("break it");
        let output = world.exec().run().ok();
        assert_eq!(output.stderr, "", "{file}");
        assert_eq!(fs::read_to_string(path.with_extension("json.corrupt")).expect("set aside"), text);
        world.usage(&BOB_FIRST);
        answered(world.exec().run(), "bob");
        answered(world.exec_as("alice").run(), "alice");
    }
    world.assert_nothing_lost(&ALL);
}

#[test]
fn wrong_settings_are_reported_and_not_fatal() {
    let world = world();
    for (text, said) in [("policy =", "not valid TOML"), ("policy = 5", "`policy` must be")] {
        world.settings(text);
        let output = answered(world.exec().run(), "bob");
        assert!(output.stderr.contains(said) && output.stderr.lines().count() == 1, "{output}");
    }
    // A setting of another version is told by the doctor, not by each launch.
    world.settings("nonsense = 1");
    assert_eq!(answered(world.exec().run(), "bob").stderr, "");
    assert!(world.pool(&["doctor"]).run().stdout.contains("unknown setting `nonsense`"));
    // Those of codex-pool 0.1 are known, and nobody needs to hear of them.
    world
        .settings("version = 1\ndefault_watch_interval_seconds = 30\n[proxy]\nlisten = \"127.0.0.1:4141\"\n");
    assert_eq!(answered(world.exec().run(), "bob").stderr, "");
    let doctor = world.pool(&["doctor", "--verbose"]).run().stdout;
    assert!(!doctor.contains("unknown") && !doctor.contains("proxy"), "{doctor}");
}

#[test]
fn unreadable_ledger_means_that_nothing_is_swapped() {
    let world = world();
    let ledger = world.pool_home().join("launches");
    fs::remove_dir_all(&ledger).expect("remove it");
    fs::write(&ledger, "no folder").expect("write a file");
    let before = world.live();
    answered(world.exec().run(), "alice");
    assert_eq!(world.live(), before);
    world.exec_as("bob").run().expect(4);
    fs::remove_file(&ledger).expect("remove it");
    // Entries can be made, but those of others cannot be seen.
    fs::create_dir(&ledger).expect("make it");
    let mode = |mode| fs::set_permissions(&ledger, fs::Permissions::from_mode(mode)).expect("mode");
    mode(0o300);
    answered(drop_privileges(world.exec()).run(), "bob");
    assert_eq!(world.live(), before, "bob is in a home of his own");
    mode(0o700);
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn launch_whose_entry_cannot_be_read_may_be_in_any_home() {
    let world = world();
    let session = world.hold(world.exec_as("alice"));
    let entries = fs::read_dir(world.pool_home().join("launches")).expect("the ledger");
    for entry in entries {
        fs::write(entry.expect("an entry").path(), "{ broken").expect("break it");
    }
    let before = world.live();
    answered(world.exec().run(), "bob");
    assert_eq!(world.live(), before, "bob is in a home of his own");
    world.open_gate();
    answered(session.wait(), "alice");
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn lock_held_by_a_stopped_process_delays_codex_by_two_seconds_at_most() {
    let world = world();
    let lock = world.pool_home().join("pool.lock");
    let (locked, never) = (world.root().join("locked"), world.root().join("never"));
    let holder = world.cmd(bins::standin_probe()).env("PROBE_LOCK", &lock).env("PROBE_OUT", &locked);
    let holder = holder.env("PROBE_HOLD", never).spawn();
    wait_until("the lock", SOON, || locked.exists());
    holder.signal_group(Signal::SIGSTOP);
    let before = world.live();
    let output = answered(world.exec().run(), "alice");
    assert!(output.took >= Duration::from_secs(2) && output.took < Duration::from_secs(10), "{output}");
    assert!(output.stderr.contains("locked for 2 s") && output.stderr.lines().count() == 1, "{output}");
    assert_eq!(world.live(), before);
    let output = world.exec_as("bob").run().expect(4);
    assert!(output.stderr.contains("`bob` was asked for"), "{output}");
    drop(holder);
    answered(world.exec().run(), "bob");
}

#[test]
fn launch_that_went_on_without_the_lock_is_not_swapped_away() {
    let world = world();
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    let session = world.hold(world.exec().env("STANDIN_REREAD", "1"));
    drop(lock);
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    world.open_gate();
    answered(session.wait(), "alice");
}

#[test]
fn codex_starts_without_a_pool_and_no_pool_is_made() {
    let world = world();
    fs::rename(world.pool_home(), world.root().join("away")).expect("take the pool away");
    let output = answered(world.cmd(world.root().join("away/bin/codex")).args(["exec", "hi"]).run(), "alice");
    assert!(
        output.stderr.contains("there is no pool at") && output.stderr.contains("codex-pool init"),
        "{output}"
    );
    assert!(!world.pool_home().exists());
}

#[test]
fn empty_pool_says_nothing_and_adopts_the_live_login() {
    let world = World::new(&[]);
    let output = world.exec().run().expect(1);
    assert!(output.stderr.contains("Not logged in") && !output.stderr.contains("codex-pool: "), "{output}");
    world.backend().add("dave");
    world.write_live(&world.backend().auth_json("dave"));
    assert_eq!(answered(world.exec().run(), "dave").stderr, "");
    assert_eq!(world.account("dave")["live"], true);
}

#[test]
fn codex_starts_without_home() {
    let world = world();
    let without = |cmd: testkit::Cmd| cmd.env_remove("HOME");
    let output = answered(without(world.exec().env("CODEX_HOME", world.codex_home())).run(), "alice");
    assert!(output.stderr.contains("HOME is not set") && output.stderr.lines().count() == 1, "{output}");
    without(world.exec_as("bob").env("CODEX_HOME", world.codex_home())).run().expect(4);
    // Both folders are named: nothing is missing.
    let named = world.exec().env("CODEX_HOME", world.codex_home()).env("CODEX_POOL_HOME", world.pool_home());
    assert_eq!(answered(without(named).run(), "bob").stderr, "");
    let probe = World::with(Codex::Probe, &["alice"]);
    let out = probe.root().join("record.json");
    let output =
        without(probe.exec().env("PROBE_OUT", &out).env("CODEX_POOL_HOME", probe.pool_home())).run().ok();
    assert!(output.stderr.contains("neither HOME nor CODEX_HOME"), "{output}");
    assert!(out.exists());
}

#[test]
fn pool_that_cannot_be_written_does_not_stop_codex() {
    let world = world();
    let folders = [world.pool_home(), world.pool_home().join("auth"), world.pool_home().join("launches")];
    let set = |mode| {
        folders.iter().for_each(|f| fs::set_permissions(f, fs::Permissions::from_mode(mode)).expect("mode"))
    };
    set(0o500);
    let before = world.live();
    let output = answered(drop_privileges(world.exec()).run(), "alice");
    assert!(output.stderr.contains("permission denied"), "{output}");
    drop_privileges(world.exec_as("bob")).run().expect(4);
    set(0o000);
    answered(drop_privileges(world.exec()).run(), "alice");
    set(0o700);
    assert_eq!(world.live(), before);
    world.assert_nothing_lost(&ALL);
    answered(world.exec().run(), "bob");
}

/// Runs a script with file systems of its own. `None` without root and user namespaces: then there is no full disk.
fn with_own_mounts(world: &World, script: &str) -> Option<Output> {
    let cmd = world.unshare(&["-m"])?.args(["sh", "-ec", script]);
    let cmd = cmd.env("POOL", world.pool_home()).env("BASE", world.codex_home());
    Some(cmd.env("SAVED", world.root().join("saved")).run().ok())
}

#[test]
fn full_disk_under_the_pool_does_not_stop_codex_and_loses_nothing() {
    let world = world();
    world.backend().add("dave");
    world.write_live(&world.backend().auth_json("dave"));
    let script = r#"
        cp -a "$POOL" "$SAVED"
        mount -t tmpfs -o size=128k none "$POOL"
        mkdir "$POOL/bin"; mount --bind "$SAVED/bin" "$POOL/bin"
        for f in accounts.json state.json usage.json auth pool.lock; do cp -a "$SAVED/$f" "$POOL/"; done
        cat /dev/zero > "$POOL/ballast" 2>/dev/null || true
        codex exec hi; echo "status $?"
        CODEX_POOL_ACCOUNT=bob codex exec hi || echo "named $?"
        rm "$POOL/ballast"
        codex exec hi
    "#;
    let Some(output) = with_own_mounts(&world, script) else { return };
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines, ["hello from dave", "status 0", "named 4", "hello from bob"], "{output}");
    let complaints: Vec<&str> = output.stderr.lines().filter(|l| l.starts_with("codex-pool: ")).collect();
    assert!(complaints.len() == 2 && complaints.iter().all(|l| l.contains("no space left")), "{output}");
}

#[test]
fn full_disk_under_codex_home_leaves_the_login_that_is_there() {
    let world = world();
    let script = r#"
        cp -a "$BASE" "$SAVED"
        mount -t tmpfs -o size=64k none "$BASE"
        cp -a "$SAVED/." "$BASE/"
        cat /dev/zero > "$BASE/ballast" 2>/dev/null || true
        codex exec hi
        CODEX_POOL_ACCOUNT=bob codex exec hi || echo "named $?"
        cmp "$BASE/auth.json" "$SAVED/auth.json"
        [ "$(ls -A "$BASE" | grep -c codex-pool)" = 0 ]
        rm "$BASE/ballast"
        codex exec hi
    "#;
    let Some(output) = with_own_mounts(&world, script) else { return };
    assert_eq!(output.stdout, "hello from alice\nnamed 4\nhello from bob\n", "{output}");
    assert!(output.stderr.contains("no space left on device"), "{output}");
}

#[test]
fn broken_copy_in_the_pool_is_reported_and_the_others_go_on() {
    let world = world();
    fs::write(world.stored_path("bob"), "{ broken").expect("break bob's document");
    let output = world.exec().run().ok();
    assert!(output.stderr.contains("codex-pool reauth"), "{output}");
    world.exec_as("bob").run().expect(4);
    answered(world.exec_as("carol").run(), "carol");
    answered(world.exec_as("alice").run(), "alice");
    world.backend().assert_clean();
}

#[test]
fn secrets_are_in_no_output_and_in_no_readable_file() {
    let world = world();
    let mut text = String::new();
    for cmd in [
        world.exec().env("CODEX_POOL_VERBOSE", "1"),
        world.exec_as("stranger"),
        world.pool(&["list", "--json"]),
        world.pool(&["why"]),
        world.pool(&["use", "carol"]),
        world.exec().env("CODEX_POOL_VERBOSE", "1"),
    ] {
        let output = cmd.run();
        text.push_str(&output.stdout);
        text.push_str(&output.stderr);
    }
    let mut folders = vec![world.pool_home()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("list").map(|e| e.expect("an entry")) {
            let meta = entry.metadata().expect("metadata");
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.permissions().mode() & 0o077 != 0 {
                text.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).expect("read")));
            }
        }
    }
    for secret in world.backend().secrets() {
        assert!(!text.contains(&secret), "a secret is out");
    }
}
