//! The pool on disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde_json::json;
use testkit::files::{mode, set_age, set_mode};
use testkit::{NOBODY, Sandbox, World};

use super::clinic::{diagnose, doctor, edit_json, healthy, mark};

/// A user who is not root.
#[test]
fn files_that_others_may_read_are_made_private() {
    let world = healthy();
    let alice = world.stored_path("alice");
    let live = world.codex_home().join("auth.json");
    set_mode(&alice, 0o644);
    doctor(&world, &[]).has("permissions", "warn", alice.to_str().expect("UTF-8"));
    set_mode(&world.pool_home(), 0o755);
    set_mode(&live, 0o644);
    let fix = doctor(&world, &[]).has("permissions", "fail", "and 2 more");
    assert_eq!(fix, "`codex-pool doctor --fix`");
    doctor(&world, &["--fix"]).well("permissions");
    assert_eq!([mode(&alice), mode(&live), mode(&world.pool_home())], [0o600, 0o600, 0o700]);
    assert_eq!(mode(&world.shim()) & 0o100, 0o100, "programs stay executable");
}

#[test]
fn file_in_the_pools_place_is_named() {
    let world = World::from(Sandbox::builder().without_pool().build());
    fs::write(world.pool_home(), "").expect("a file");
    let fix = doctor(&world, &["--fix"]).has("pool", "fail", "is not a directory");
    assert_eq!(fix, "move it away");
}

#[test]
fn files_of_other_users_and_read_only_folders_are_named() {
    // Only root may give files away, and root may write everywhere.
    if !nix::unistd::geteuid().is_root() {
        return sealed(&healthy(), None);
    }
    let world = healthy();
    let chown = |path: PathBuf| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    give_away(&world, &chown);
    std::os::unix::fs::chown(world.stored_path("bob"), Some(0), Some(0)).expect("chown");
    let as_user = || {
        let mut command = world.pool(&["doctor", "--json"]);
        command.inner().uid(NOBODY).gid(NOBODY);
        command
    };
    let fix = diagnose(as_user()).has("permissions", "fail", "belongs to another user");
    assert!(fix.contains("sudo chown -R"), "{fix}");
    chown(world.stored_path("bob"));
    sealed(&world, Some(NOBODY));
}

/// Everything below HOME gets another owner.
fn give_away(world: &World, chown: &impl Fn(PathBuf)) {
    let mut folders = vec![world.home().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            match entry.file_type().expect("its kind") {
                kind if kind.is_dir() => folders.push(entry.path()),
                // Programs are links to those of the build.
                kind if kind.is_file() && entry.metadata().expect("stat").nlink() == 1 => chown(entry.path()),
                _ => {}
            }
        }
        chown(folder);
    }
}

fn sealed(world: &World, user: Option<u32>) {
    for (dir, about) in [(world.pool_home().join("auth"), "permissions"), (world.codex_home(), "codex-home")]
    {
        set_mode(&dir, 0o500);
        let mut command = world.pool(&["doctor", "--json"]);
        if let Some(user) = user {
            command.inner().uid(user).gid(user);
        }
        let fix = diagnose(command).has(about, "fail", "cannot be written");
        assert!(fix.contains("chmod u+rwx"), "{fix}");
        set_mode(&dir, 0o700);
    }
}

#[test]
fn registry_that_lost_accounts_gets_them_back() {
    let world = healthy();
    let registry = world.pool_home().join("accounts.json");
    edit_json(&registry, |json| {
        json["accounts"].as_array_mut().expect("accounts").retain(|a| a["label"] != "bob");
    });
    doctor(&world, &[]).has("registry", "fail", "has lost 1 account");
    doctor(&world, &["--fix"]).well("registry");
    world.id("bob");
    fs::remove_file(&registry).expect("remove the registry");
    doctor(&world, &[]).has("registry", "fail", "is missing, and with it 2 accounts");
    doctor(&world, &["--fix"]).well("registry");
    world.pool(&["list"]).run().ok().says("alice").says("bob");
}

#[test]
fn corrupt_registry_is_never_replaced_and_the_way_out_works() {
    let world = healthy();
    let registry = world.pool_home().join("accounts.json");
    fs::write(&registry, "{\"version\": 2, \"acc").expect("break it");
    let fix = doctor(&world, &["--fix"]).has("registry", "fail", "corrupt");
    assert_eq!(fs::read_to_string(&registry).expect("still there"), "{\"version\": 2, \"acc");
    // The command that it names.
    let typed = fix.split('`').nth(1).expect("a command");
    world.cmd("sh").args(["-c", typed]).run().ok();
    doctor(&world, &[]).well("registry");
    world.pool(&["list"]).run().ok().says("alice").says("bob");
}

#[test]
fn registry_of_another_version_says_what_to_do() {
    let world = healthy();
    let registry = world.pool_home().join("accounts.json");
    edit_json(&registry, |json| json["version"] = 3.into());
    assert!(doctor(&world, &[]).has("registry", "fail", "version 3").contains("codex-pool update"));
    fs::write(&registry, json!({"version": 1, "accounts": []}).to_string()).expect("an old one");
    assert!(doctor(&world, &[]).has("registry", "warn", "version 1").contains("codex-pool list"));
    fs::remove_file(&registry).expect("remove it");
    fs::create_dir(&registry).expect("a folder in its place");
    doctor(&world, &[]).has("registry", "fail", "cannot read");
}

#[test]
fn document_of_no_account_is_named() {
    let world = healthy();
    fs::write(world.pool_home().join("auth/aaaaaaaaaa.json"), "{}").expect("a stray document");
    doctor(&world, &[]).has("registry", "warn", "aaaaaaaaaa.json is no auth.json");
}

#[test]
fn process_that_holds_a_lock_is_named() {
    let world = healthy();
    doctor(&world, &[]).well("lock");
    for name in ["pool.lock", "refresh.lock"] {
        let _lock = testkit::files::lock(&world.pool_home().join(name));
        let fix = doctor(&world, &[]).has("lock", "warn", &format!("{name} is held by"));
        if cfg!(target_os = "linux") {
            assert!(fix.contains(&format!("kill {}", std::process::id())), "{fix}");
        }
    }
    doctor(&world, &[]).well("lock");
}

#[test]
fn killed_login_is_undone() {
    let world = healthy();
    let (live, alice) = (world.codex_home().join("auth.json"), world.id("alice"));
    let before = world.live();
    fs::remove_file(&live).expect("moved aside by the login");
    mark(&world, json!({"kind": "login", "account": alice, "home": live}));
    edit_json(&world.pool_home().join("state.json"), |state| state["homes"] = json!({}));
    doctor(&world, &[]).has(
        "unfinished",
        "warn",
        "a `codex login` was killed before its end (alice was live)",
    );
    doctor(&world, &["--fix"]).well("unfinished");
    assert_eq!(world.live(), before, "the login that was live is back");
}

#[test]
fn interrupted_refresh_is_told_with_what_finds_out() {
    let world = healthy();
    mark(&world, json!({"kind": "renewal", "account": world.id("bob")}));
    let fix = doctor(&world, &["--fix"]).has("unfinished", "warn", "a token renewal of bob");
    assert!(fix.contains("codex-pool refresh bob") && fix.contains("codex-pool reauth bob"), "{fix}");
}

#[test]
fn answer_that_could_not_be_stored_is_put_in_its_place() {
    let world = healthy();
    let bob = world.id("bob");
    let newer = world.backend().auth_json("bob");
    let shelf = world.pool_home().join(format!("lost+found/4000000000-{bob}-renewed.json"));
    world.write_private(&shelf, &newer);
    set_mode(shelf.parent().expect("a folder"), 0o700);
    doctor(&world, &[]).has("unfinished", "warn", "lost+found");
    doctor(&world, &["--fix"]).well("unfinished");
    assert_eq!(fs::read_to_string(world.stored_path("bob")).expect("a document"), newer);
}

#[test]
fn ledger_that_cannot_be_read_is_named() {
    let world = healthy();
    let ledger = world.pool_home().join("launches");
    let _ = fs::remove_dir_all(&ledger);
    fs::write(&ledger, "").expect("a file in its place");
    set_mode(&ledger, 0o600);
    doctor(&world, &[]).has("unfinished", "fail", "ledger cannot be read");
}

#[test]
fn crash_leftovers_are_cleared_and_no_login_is_lost() {
    let world = healthy();
    world.backend().add("carol");
    let pool = world.pool_home();
    fs::write(pool.join("usage.json"), "{\"accounts\": 3").expect("a damaged cache");
    let aside = pool.join("state.json.corrupt");
    world.write_private(&aside, "old");
    set_age(&aside, 31 * 86_400);
    let temporary = pool.join("auth/.aaaaaaaaaa.json.codex-pool.tmp");
    world.write_private(&temporary, "half");
    set_age(&temporary, 3_600);
    world.write_private(&pool.join("lost+found/1000-unknown-replaced-abc.json"), "{}");
    // Of processes of another boot, as `codex login` makes one and as `codex-pool add` does.
    let home = pool.join("homes/somewhere/login-0-0-1-1");
    world.write_private(&home.join("auth.json"), &world.backend().auth_json("carol"));
    let private = pool.join("homes/somewhere/login-0-0-1-2");
    world.write_private(&private.join("auth.json"), "not whole");
    for folder in [
        "lost+found",
        "homes",
        "homes/somewhere",
        "homes/somewhere/login-0-0-1-1",
        "homes/somewhere/login-0-0-1-2",
    ] {
        set_mode(&pool.join(folder), 0o700);
    }
    let diagnosis = doctor(&world, &[]);
    for what in [
        "usage.json is damaged",
        "state.json.corrupt",
        ".codex-pool.tmp",
        "1000-unknown",
        "login-0-0-1-1",
        "login-0-0-1-2",
    ] {
        diagnosis.has("leftovers", "warn", what);
    }
    let diagnosis = doctor(&world, &["--fix"]);
    diagnosis.well("leftovers");
    assert!(!home.exists() && !private.exists() && !temporary.exists() && !aside.exists());
    assert_eq!(
        world.backend().owner(&fs::read_to_string(world.stored_path("carol")).expect("kept")).as_deref(),
        Some("carol")
    );
    world.pool(&["list"]).run().ok().says("alice").says("bob").says("carol");
}

#[test]
fn conflict_copies_of_a_sync_tool_are_named() {
    let world = healthy();
    doctor(&world, &[]).well("sync-conflicts");
    let pool = world.pool_home();
    let copies = [
        pool.join("accounts.sync-conflict-20261125-101112-ABCDEFG.json"),
        world.stored_path("bob").with_extension("sync-conflict-20261125-101112-ABCDEFG.json"),
        world.codex_home().join("auth (Ann's conflicted copy 2026-11-25).json"),
    ];
    for copy in &copies {
        world.write_private(copy, "{}");
    }
    let diagnosis = doctor(&world, &[]);
    for copy in &copies {
        let fix = diagnosis.has("sync-conflicts", "warn", &copy.display().to_string());
        assert!(fix.contains("out of the sync tool"), "{fix}");
    }
}
