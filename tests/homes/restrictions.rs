//! Codex deletes a login that its configuration forbids. Whichever layer the restriction comes from, it never finds
//! such a login from the pool.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::backend::{Step, account_id};
use testkit::{Cmd, Output, World, answered};

use crate::rpc::Editor;
use crate::world::{TWO, worlds};

const EXEC: [&str; 3] = ["exec", "--skip-git-repo-check", "hi"];

/// Returns a configuration that allows this user's workspace only.
fn only(user: &str) -> String {
    format!("forced_chatgpt_workspace_id = \"{}\"\n", account_id(user))
}

/// Codex, through the shim, with a setting on its command line. Without a login it does not try for long.
fn with(world: &World, setting: &str) -> Cmd {
    let impatient =
        ["request_max_retries", "stream_max_retries"].map(|k| format!("model_providers.lab.{k}=0"));
    let settings = [setting, &impatient[0], &impatient[1]].map(|setting| ["-c", setting]).concat();
    world.codex(&[&settings, &EXEC[..]].concat())
}

/// Puts settings before those that are there.
fn prepend(path: &Path, text: &str) {
    let there = fs::read_to_string(path).unwrap_or_default();
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    fs::write(path, format!("{text}{there}")).expect("write the configuration");
}

/// Requires that no login was deleted or revoked, neither in the pool nor the live one.
#[track_caller]
fn nothing_deleted(world: &World) {
    let live = world.live().unwrap_or_else(|| panic!("{}: the live login was deleted", world.version()));
    assert!(world.backend().is_good(&live), "{}", world.version());
    for account in world.list() {
        assert_ne!(account["state"], "reauth_required", "{}: {account}", world.version());
    }
    assert!(world.backend().report().revocations.is_empty(), "{}", world.version());
    world.assert_nothing_lost(&TWO);
}

/// Requires that Codex starts without a login, since no account of the pool may be used, and that the user is told.
#[track_caller]
fn without_login(world: &World, output: Output) {
    assert!(!output.stdout.contains("hello from"), "{}: {output}", world.version());
    assert!(
        output.stderr.contains("allows none of the pool's accounts here"),
        "{}: {output}",
        world.version()
    );
    nothing_deleted(world);
}

#[test]
fn codex_without_the_shim_deletes_a_forbidden_login() {
    // Else the rest shows nothing.
    for world in worlds(&TWO) {
        prepend(&world.codex_home().join("config.toml"), &only("bob"));
        world.foreign_exec().run().expect(1);
        assert_eq!(world.live(), None, "{}", world.version());
    }
}

#[test]
fn users_own_settings_exclude_an_account() {
    for world in worlds(&TWO) {
        prepend(&world.codex_home().join("config.toml"), &only("bob"));
        answered(world.exec().run(), "bob");
        nothing_deleted(&world);
        let output = world.exec_as("alice").run().expect(4);
        assert!(output.stderr.contains("forbidden here by Codex's configuration"), "{output}");
        nothing_deleted(&world);
    }
}

#[test]
fn profile_an_override_and_a_trusted_project_exclude_an_account() {
    for world in worlds(&TWO) {
        let codex = |more: &[&str]| world.codex(&[more, &EXEC[..]].concat());
        let profile = codex(&["-p", "corp"]);
        prepend(&world.codex_home().join("corp.config.toml"), &only("bob"));
        let setting = only("bob").trim().replace(' ', "");
        let overridden = codex(&["-c", &setting]);
        for (cmd, layer) in [(profile, "-p"), (overridden, "-c")] {
            world.make_live("alice");
            let output = answered(cmd.run(), "bob");
            nothing_deleted(&world);
            assert_eq!(world.live_owner().as_deref(), Some("bob"), "{layer}: {output}");
        }
        world.make_live("alice");
        let project = world.work().join(".codex/config.toml");
        prepend(&project, &only("bob"));
        answered(world.exec().run(), "bob");
        nothing_deleted(&world);
        // What a project says counts only where the user trusts it.
        fs::remove_file(&project).expect("remove the project's settings");
        let strange = world.root().join("strange");
        prepend(&strange.join(".codex/config.toml"), &only("bob"));
        answered(world.exec_as("alice").current_dir(&strange).run(), "alice");
        nothing_deleted(&world);
    }
}

/// Returns a program that finds these settings in `/etc/codex`: everything else of `/etc` is as it is. `None` where a
/// process may not have file systems of its own.
fn with_system_settings(world: &World, name: &str, text: &str) -> Option<Cmd> {
    let (etc, own) = (world.root().join("etc"), world.root().join("system"));
    let own_codex = own.join("codex");
    fs::create_dir_all(&etc).expect("make a folder");
    let _ = fs::remove_dir_all(&own);
    fs::create_dir_all(&own_codex).expect("make a folder");
    for entry in fs::read_dir("/etc").expect("list /etc").flatten().filter(|e| e.file_name() != "codex") {
        symlink(etc.join(entry.file_name()), own.join(entry.file_name())).expect("make a link");
    }
    fs::write(own_codex.join(name), text).expect("write the settings");
    let script = "mount --bind /etc \"$0\" && mount --bind \"$1\" /etc && shift && exec \"$@\"";
    Some(world.unshare(&["-m"])?.args(["sh", "-c", script]).arg(&etc).arg(&own))
}

#[test]
fn systems_settings_exclude_an_account() {
    for world in worlds(&TWO) {
        for name in ["config.toml", "managed_config.toml"] {
            world.make_live("alice");
            let Some(inside) = with_system_settings(&world, name, &only("bob")) else { return };
            // Codex sees them, too: past the shim it deletes.
            let alice = world.live().expect("a live login");
            inside.arg(world.real_path()).args(EXEC).run().expect(1);
            assert_eq!(world.live(), None, "{}: {name}", world.version());
            world.write_live(&alice);
            let inside = with_system_settings(&world, name, &only("bob")).expect("as before");
            answered(inside.arg("codex").args(EXEC).run(), "bob");
            nothing_deleted(&world);
        }
    }
}

#[test]
fn codex_starts_without_a_login_where_no_account_is_allowed() {
    for world in worlds(&TWO) {
        without_login(&world, with(&world, only("stranger").trim()).run());
        without_login(&world, with(&world, "forced_login_method=\"api\"").run());
        // Nor is there one when the main home is in use, or there can be no own homes.
        let session = Editor::open(world.codex(&["app-server"]));
        without_login(&world, with(&world, "forced_login_method=\"api\"").run());
        fs::write(world.pool_home().join("config.toml"), "parallel = \"off\"\n").expect("write settings");
        without_login(&world, with(&world, "forced_login_method=\"api\"").run());
        without_login(&world, with(&world, "forced_login_method=\"api\"").env("TMPDIR", world.home()).run());
        session.close();
        answered(world.exec().run(), "alice");
    }
}

#[test]
fn running_session_keeps_its_login_beside_a_launch_that_forbids_it() {
    for world in worlds(&TWO) {
        let mut session = Editor::open(world.codex(&["app-server"]));
        session.ask(&world, "hello from alice");
        let setting = only("bob").trim().to_owned();
        answered(with(&world, &setting).run(), "bob");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        fs::write(world.pool_home().join("config.toml"), "parallel = \"off\"\n").expect("write settings");
        // Staying would make Codex delete the login under the session.
        answered(with(&world, &setting).run(), "bob");
        nothing_deleted(&world);
        session.ask(&world, "hello from alice");
        session.close();
    }
}

#[test]
fn login_in_an_own_home_is_not_deleted_either() {
    for world in worlds(&TWO) {
        let alice = Editor::open(world.codex(&["app-server"]));
        let mut bob = Editor::open(world.codex(&["app-server"]).env("CODEX_POOL_ACCOUNT", "bob"));
        bob.ask(&world, "hello from bob");
        let home = world.own_home("bob");
        let forbidden = [
            with(&world, only("alice").trim()),
            with(&world, only("alice").trim()).env("CODEX_HOME", &home),
            with(&world, only("alice").trim()).env("CODEX_POOL_ACCOUNT", "bob"),
            with(&world, only("stranger").trim()).env("CODEX_HOME", &home),
        ];
        for cmd in forbidden {
            let output = cmd.run();
            assert!(!output.stdout.contains("hello from bob"), "{}: {output}", world.version());
            assert_eq!(world.owner_at(&home).as_deref(), Some("bob"), "{}: {output}", world.version());
            nothing_deleted(&world);
        }
        bob.ask(&world, "hello from bob");
        alice.close();
        bob.close();
    }
}

#[test]
fn codex_inside_a_session_does_not_delete_its_login() {
    for world in worlds(&TWO) {
        let setting = only("bob").trim().replace('"', "\\\"");
        let inner = format!("codex -c \"{setting}\" exec --skip-git-repo-check inner > inner.txt 2>&1");
        world.backend().script("alice", [Step::Shell(inner)]);
        let outer = ["exec", "--skip-git-repo-check", "-s", "danger-full-access", "outer"];
        answered(world.codex(&outer).run(), "alice");
        let inner = fs::read_to_string(world.work().join("inner.txt")).expect("the inner one's output");
        assert!(inner.contains("hello from bob"), "{}: {inner}", world.version());
        nothing_deleted(&world);
    }
}

#[test]
fn session_of_a_forbidden_account_goes_on_as_another_with_a_line() {
    for world in worlds(&TWO).filter(|world| world.version() >= "0.159") {
        answered(world.exec().run(), "alice");
        let report = world.backend().report();
        let session = report.turns[0].session().expect("a session");
        let setting = only("bob").trim().to_owned();
        let args = ["-c", &setting, "exec", "--skip-git-repo-check", "resume", session, "go on"];
        let output = answered(world.codex(&args).run(), "bob");
        assert!(output.stderr.contains("this session is alice's"), "{output}");
        nothing_deleted(&world);
    }
}

#[test]
fn pinned_account_that_is_disabled_and_forbidden_is_not_used() {
    for world in worlds(&TWO) {
        world.pool(&["use", "alice"]).run().ok();
        world.pool(&["disable", "alice"]).run().ok();
        let setting = only("bob").trim().to_owned();
        let output = answered(with(&world, &setting).run(), "bob");
        assert!(output.stderr.contains("the pinned account alice cannot be used"), "{output}");
        nothing_deleted(&world);
    }
}
