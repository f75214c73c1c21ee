//! The user's CODEX_HOME.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use testkit::backend::{LoginSpec, UserSpec, account_id};
use testkit::files::set_age;
use testkit::{Running, World};

use super::clinic::{diagnose, doctor, edit_json, healthy};

#[test]
fn login_that_is_not_in_the_pool_is_announced() {
    let world = healthy();
    world.backend().add("carol");
    world.write_live(&world.backend().auth_json("carol"));
    doctor(&world, &[]).has("auth.json", "warn", "a login of carol@");
    fs::remove_file(world.codex_home().join("auth.json")).expect("remove it");
    doctor(&world, &[]).has("auth.json", "ok", "the next launch puts an account there");
}

#[test]
fn document_that_names_another_account_than_its_token_is_named() {
    let world = healthy();
    let spec = LoginSpec { account_id: Some(account_id("bob")), ..LoginSpec::default() };
    world.write_live(&world.backend().auth_json_with("alice", &spec));
    let fix = doctor(&world, &[]).has("auth.json", "warn", "names another account than its token");
    world.cmd("sh").args(["-c", fix.split('`').nth(1).expect("a command")]).run().ok();
    world.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok();
    doctor(&world, &[]).well("auth.json");
}

#[test]
fn broken_unmanaged_or_unreadable_document_is_named() {
    let world = healthy();
    let live = world.codex_home().join("auth.json");
    world.write_live("{\"tokens\": {\"acc");
    set_age(&live, 60);
    doctor(&world, &[]).has("auth.json", "warn", "is not a whole auth.json");
    set_age(&live, -1);
    doctor(&world, &[]).has("auth.json", "warn", "is being written");
    world.write_live(&json!({"agent_identity": {"id": "x"}}).to_string());
    doctor(&world, &[]).has("auth.json", "warn", "which is never overwritten");
    fs::remove_file(&live).expect("remove it");
    symlink("auth.json", &live).expect("a link to itself");
    doctor(&world, &[]).has("auth.json", "fail", "cannot be read");
}

#[test]
fn lock_that_codex_cannot_take_is_named() {
    let world = healthy();
    doctor(&world, &[]).well("codex-locks");
    let lock = world.codex_home().join("auth.lock");
    fs::create_dir(&lock).expect("put something in its place");
    let fix = doctor(&world, &[]).has("codex-locks", "fail", "loses its login");
    // The pool does without.
    world.codex(&["exec", "--skip-git-repo-check", "hi"]).env("CODEX_POOL_ACCOUNT", "bob").run().ok();
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    world.cmd("sh").args(["-c", fix.split('`').nth(1).expect("a command")]).run().ok();
    doctor(&world, &[]).well("codex-locks");
}

#[test]
fn credential_store_other_than_the_file_is_named() {
    let world = healthy();
    for store in ["keyring", "auto", "ephemeral"] {
        world.edit_config(|config| {
            config.insert("cli_auth_credentials_store".into(), store.into());
        });
        let fix = doctor(&world, &[]).has("credential-store", "warn", store);
        assert!(fix.contains("config.toml"), "{fix}");
    }
}

#[test]
fn restrictions_that_exclude_accounts_are_named() {
    let world = healthy();
    world.edit_config(|config| {
        config.insert("forced_chatgpt_workspace_id".into(), account_id("alice").into());
    });
    doctor(&world, &[]).has("restrictions", "warn", "forbids bob here");
    world.edit_config(|config| {
        config.insert("forced_login_method".into(), "api".into());
    });
    let fix = doctor(&world, &[]).has("restrictions", "fail", "forbids every account");
    assert!(fix.contains("codex-pool add"), "{fix}");
    fs::write(world.codex_home().join("config.toml"), "forced_login_method = broken").expect("break it");
    doctor(&world, &[]).has("restrictions", "fail", "Codex itself refuses it");
}

#[test]
fn codex_home_that_is_not_there_is_named() {
    let world = healthy();
    let diagnosis = diagnose(world.pool(&["doctor", "--json"]).env("CODEX_HOME", "/nowhere/codex"));
    diagnosis.has("codex-home", "fail", "/nowhere/codex, which is not a directory");
    diagnosis.well("registry");
}

/// Makes a process that lives as long as the test the main home's background server.
fn start_server(world: &World) -> Running {
    let server = world.cmd("sleep").arg("600").spawn();
    let file = world.codex_home().join("app-server-daemon/daemon.pid");
    world.write_private(&file, &json!({"pid": server.pid()}).to_string());
    server
}

#[test]
fn background_server_of_another_account_is_named() {
    let world = healthy();
    doctor(&world, &[]).has("background-server", "ok", "none runs");
    let server = start_server(&world);
    let pid = server.pid();
    let state = world.pool_home().join("state.json");
    let codex_home = world.codex_home().join("auth.json").to_string_lossy().into_owned();
    let with_home = |since: i64| edit_json(&state, |json| json["homes"][&codex_home]["since"] = since.into());
    with_home(4_000_000_000);
    doctor(&world, &[]).has("background-server", "warn", "answers as an unknown account");
    with_home(0);
    doctor(&world, &[]).has("background-server", "ok", &format!("pid {pid} answers as alice"));
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
        let ticks: u64 = stat.split(' ').nth(21).and_then(|t| t.parse().ok()).expect("its start");
        let bob = world.id("bob");
        edit_json(&state, |json| {
            json["homes"][&codex_home]["server"] = json!({"pid": pid, "start_ticks": ticks, "account": bob});
        });
        let fix = doctor(&world, &[]).has("background-server", "warn", "still answers as bob");
        assert!(fix.contains("codex app-server daemon restart"), "{fix}");
    }
}

#[test]
fn pool_that_cannot_have_own_homes_is_named() {
    let world = healthy();
    let inside = diagnose(world.pool(&["doctor", "--json"]).env("TMPDIR", world.home()));
    let fix = inside.has("parallel", "warn", "the pool is in a temporary folder");
    assert!(fix.contains("CODEX_POOL_HOME"), "{fix}");
    fs::write(world.pool_home().join("config.toml"), "parallel = \"off\"\n").expect("settings");
    doctor(&world, &[]).has("parallel", "ok", "off");
}

#[test]
fn members_of_one_workspace_are_excluded_together() {
    let world = healthy();
    let team = |name: &str| UserSpec::new(name).workspace("team");
    for name in ["dora", "emil"] {
        world.backend().add_user(name, team(name));
        world.pool(&["import", "-"]).stdin(world.backend().auth_json(name)).run().ok();
    }
    world.edit_config(|config| {
        config.insert("forced_chatgpt_workspace_id".into(), "team".into());
    });
    doctor(&world, &[]).has("restrictions", "warn", "forbids alice, bob here");
}

#[test]
fn login_file_with_a_second_name_is_named() {
    let world = healthy();
    doctor(&world, &[]).well("auth.json");
    fs::hard_link(world.codex_home().join("auth.json"), world.home().join("backup.json"))
        .expect("a hard link");
    let fix = doctor(&world, &[]).has("auth.json", "warn", "has 2 names (hard links)");
    let found = world.cmd("sh").args(["-c", fix.split('`').nth(1).expect("a command")]).run().ok();
    assert!(found.stdout.contains("backup.json"), "{found}");
}
