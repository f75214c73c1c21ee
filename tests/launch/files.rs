//! `auth.json` and CODEX_HOME in every odd state: Codex starts, the pool stays whole, and no document is lost.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use testkit::backend::LoginSpec;
use testkit::files::set_age;
use testkit::{SOON, World, answered, wait_for};

use crate::{ALL, BOB_FIRST, drop_privileges};

fn world() -> World {
    let world = World::new(&ALL);
    world.usage(&BOB_FIRST);
    world
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").mode() & 0o7777
}

#[test]
fn login_that_is_just_being_written_is_waited_for_and_adopted() {
    let world = world();
    world.backend().add("dave");
    let login = world.backend().auth_json("dave");
    let parts: Vec<&[u8]> = login.as_bytes().chunks(login.len() / 20).collect();
    let mut file = fs::File::create(world.codex_home().join("auth.json")).expect("make the file");
    file.write_all(parts[0]).expect("begin");
    let launch = world.exec().spawn();
    for part in &parts[1..] {
        // A slow writer.
        std::thread::sleep(Duration::from_millis(30));
        file.write_all(part).expect("go on");
    }
    answered(launch.wait(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "the home was free in the end");
    assert_eq!(world.stored("dave"), login);
    assert!(world.lost_found().is_empty());
}

#[test]
fn tokens_that_a_session_is_just_writing_are_waited_for() {
    let world = World::new(&["bob"]);
    let backend = world.backend();
    backend.add("alice");
    world.import("alice", &backend.auth_json_with("alice", &LoginSpec::expires_in(-60)));
    let session = world.exec_as("alice").env("STANDIN_SLOW_WRITE", "1000").spawn();
    let partial = || serde_json::from_str::<serde_json::Value>(&world.live()?).is_err().then_some(());
    wait_for("a partial file", SOON, partial);
    answered(world.exec_as("bob").run(), "bob");
    answered(session.wait(), "alice");
    assert_eq!(backend.report().refreshes_of("alice").len(), 1);
    assert!(world.lost_found().iter().all(|(name, _)| !name.contains("broken")));
    world.assert_nothing_lost(&["alice", "bob"]);
}

#[test]
fn half_written_login_in_a_free_home_goes_to_lost_and_found() {
    let world = world();
    let half = &world.backend().auth_json("alice")[..500];
    world.write_live(half);
    set_age(&world.codex_home().join("auth.json"), 60);
    answered(world.exec().run(), "bob");
    let lost = world.lost_found();
    assert!(matches!(lost.as_slice(), [(name, text)] if name.contains("broken") && text == half), "{lost:?}");
    world.assert_nothing_lost(&["bob", "carol"]);
}

#[test]
fn half_written_login_in_a_home_in_use_stays_where_it_is() {
    let world = world();
    let session = world.hold(world.exec_as("alice").env("STANDIN_REREAD", "1"));
    let whole = world.live().expect("alice's login");
    let half = &whole[..500];
    world.write_live(half);
    set_age(&world.codex_home().join("auth.json"), 60);
    answered(world.exec().run(), "bob");
    assert_eq!(world.live().as_deref(), Some(half), "the session in the home may finish it");
    world.write_live(&whole);
    world.open_gate();
    answered(session.wait(), "alice");
    world.assert_nothing_lost(&ALL);
}

#[test]
fn empty_login_is_replaced() {
    let world = world();
    world.write_live("");
    set_age(&world.codex_home().join("auth.json"), 60);
    answered(world.exec().run(), "bob");
    assert!(world.lost_found().is_empty());
}

#[test]
fn json_that_is_no_login_is_kept_aside() {
    let world = world();
    for text in ["{}", "[1, 2]", "null", "{\"tokens\": {\"access_token\": \"x\"}}"] {
        world.write_live(text);
        set_age(&world.codex_home().join("auth.json"), 60);
        answered(world.exec().run(), "bob");
        assert!(world.lost_found().iter().any(|(_, kept)| kept == text), "{text}");
    }
}

#[test]
fn directory_in_place_of_the_login_stays_and_codex_gets_an_own_home() {
    let world = world();
    let place = world.codex_home().join("auth.json");
    fs::create_dir(&place).expect("make a folder");
    fs::write(place.join("precious"), "mine").expect("write a file");
    answered(world.exec().run(), "bob");
    assert_eq!(fs::read_to_string(place.join("precious")).expect("still there"), "mine");
    world.assert_nothing_lost(&ALL);
}

#[test]
fn pipe_in_the_place_of_the_login_does_not_block_the_launch() {
    let world = world();
    let place = world.codex_home().join("auth.json");
    nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).expect("make a pipe");
    answered(world.exec().run(), "bob");
    assert!(place.symlink_metadata().is_ok());
}

#[test]
fn login_that_is_too_large_or_unreadable_is_left_alone() {
    let world = world();
    let place = world.codex_home().join("auth.json");
    fs::write(&place, "x".repeat(2 << 20)).expect("write a large file");
    set_age(&place, 60);
    answered(world.exec().run(), "bob");
    assert_eq!(fs::metadata(&place).expect("still there").len(), 2 << 20);
    world.write_live(&world.stored("alice"));
    fs::set_permissions(&place, fs::Permissions::from_mode(0o000)).expect("forbid it");
    answered(drop_privileges(world.exec()).run(), "bob");
    assert_eq!(mode(&place), 0);
}

#[test]
fn users_link_is_written_through() {
    let world = world();
    let (place, target) = (world.codex_home().join("auth.json"), world.home().join("dotfiles/auth.json"));
    world.write_private(&target, &world.stored("alice"));
    symlink("../dotfiles/auth.json", &place).expect("link");
    answered(world.exec().run(), "bob");
    assert_eq!(fs::read_link(&place).expect("still a link"), Path::new("../dotfiles/auth.json"));
    assert!(target.symlink_metadata().expect("a file").is_file());
    assert_eq!(fs::read_to_string(&target).expect("bob's login"), world.stored("bob"));
    // A session rotates the tokens through the link; they come back.
    world.backend().reject_access_tokens("bob");
    answered(world.exec().run(), "bob");
    answered(world.exec_as("alice").run(), "alice");
    answered(world.exec_as("bob").run(), "bob");
    assert!(place.is_symlink());
    world.assert_nothing_lost(&ALL);
}

#[test]
fn users_dangling_link_gets_its_target() {
    let world = world();
    let place = world.codex_home().join("auth.json");
    let target = world.home().join("dotfiles/auth.json");
    fs::create_dir(world.home().join("dotfiles")).expect("make a folder");
    symlink(&target, &place).expect("link");
    answered(world.exec().run(), "bob");
    assert!(place.is_symlink());
    assert_eq!(fs::read_to_string(&target).expect("bob's login"), world.stored("bob"));
    assert_eq!(mode(&target), 0o600);
}

#[test]
fn link_to_nowhere_or_itself_stays_and_codex_gets_an_own_home() {
    for target in ["/nowhere/at/all/auth.json", "auth.json"] {
        let world = world();
        let place = world.codex_home().join("auth.json");
        symlink(target, &place).expect("link");
        answered(world.exec().run(), "bob");
        assert_eq!(fs::read_link(&place).expect("still a link"), Path::new(target));
        world.assert_nothing_lost(&ALL);
    }
}

#[test]
fn link_into_the_pool_is_ours_and_is_replaced() {
    let world = world();
    let place = world.codex_home().join("auth.json");
    symlink(world.stored_path("alice"), &place).expect("link");
    answered(world.exec().run(), "bob");
    assert!(place.symlink_metadata().expect("a file").is_file());
    assert_eq!(world.backend().owner(&world.stored("alice")).as_deref(), Some("alice"));
    world.assert_nothing_lost(&ALL);
}

#[test]
fn auth_json_is_private_after_a_swap_and_nothing_is_left_beside_it() {
    let world = world();
    world.write_live(&world.stored("alice"));
    let place = world.codex_home().join("auth.json");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o644)).expect("open it");
    fs::write(world.codex_home().join(".auth.json.codex-pool.tmp"), "left by a crash").expect("write");
    let output = world.cmd("/bin/sh").args(["-c", "umask 0; exec codex exec hi"]).run();
    answered(output, "bob");
    assert_eq!(mode(&place), 0o600);
    let left: Vec<_> =
        fs::read_dir(world.codex_home()).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().contains("codex-pool")), "{left:?}");
    for file in ["accounts.json", "state.json", "usage.json", "pool.lock"] {
        assert_eq!(mode(&world.pool_home().join(file)), 0o600, "{file}");
    }
    for folder in ["", "auth", "launches"] {
        assert_eq!(mode(&world.pool_home().join(folder)), 0o700, "{folder}");
    }
    assert_eq!(mode(&world.stored_path("alice")), 0o600);
}

#[test]
fn auth_json_is_never_seen_partial_while_the_home_changes_hands() {
    let world = World::new(&["alice", "bob"]);
    answered(world.exec_as("alice").run(), "alice");
    let path = world.codex_home().join("auth.json");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let text = fs::read_to_string(&path).expect("there is always a login");
                seen.insert(world.backend().owner(&text).expect("a whole login"));
            }
            seen
        });
        for name in ["bob", "alice", "bob", "alice", "bob", "alice"] {
            answered(world.exec_as(name).run(), name);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(watcher.join().expect("watched").len(), 2);
    });
}

#[test]
fn read_only_codex_home_is_left_alone_and_the_pick_gets_its_own() {
    let world = world();
    world.write_live(&world.backend().auth_json("alice"));
    let before = world.live();
    fs::set_permissions(world.codex_home(), fs::Permissions::from_mode(0o500)).expect("forbid it");
    let output = answered(drop_privileges(world.exec()).env("CODEX_POOL_VERBOSE", "1").run(), "bob");
    assert!(output.stderr.contains("running as bob; alice stays live: "), "{output}");
    assert!(output.stderr.contains(".codex cannot be written"), "{output}");
    for user in ["carol", "alice", "bob"] {
        answered(drop_privileges(world.exec_as(user)).run(), user);
    }
    assert_eq!(fs::read_dir(world.codex_home()).expect("a folder").count(), 2, "nothing was made there");
    fs::set_permissions(world.codex_home(), fs::Permissions::from_mode(0o700)).expect("allow it");
    assert_eq!(world.live(), before);
    world.assert_nothing_lost(&ALL);
    answered(world.exec().run(), "bob");
}

#[test]
fn codex_home_unset_set_relative_or_through_a_link_is_the_same_place() {
    let world = world();
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    symlink(world.codex_home(), world.root().join("link")).expect("link");
    let names =
        ["../home/.codex".to_owned(), format!("{}/", world.codex_home().display()), "../link".to_owned()];
    for (name, who) in names.iter().zip(["alice", "carol", "alice"]) {
        answered(world.exec_as(who).env("CODEX_HOME", name).run(), who);
        assert_eq!(world.live_owner().as_deref(), Some(who), "{name}");
    }
    answered(world.exec_as("carol").env("CODEX_HOME", "").run(), "carol");
    assert!(!world.pool_home().join("homes").exists(), "it was one home all the time");
}

#[test]
fn absent_codex_home_is_codexs_own_complaint() {
    let Some(world) = World::real(&["alice"]) else { return };
    let absent = world.root().join("absent");
    let direct = world.real_codex(&["exec", "hi"]).env("CODEX_HOME", &absent).run();
    let output = world.codex(&["exec", "hi"]).env("CODEX_HOME", &absent).run();
    assert_eq!((output.code(), &output.stderr), (direct.code(), &direct.stderr));
    assert!(!absent.exists());
}

#[test]
fn default_codex_home_that_was_never_used_is_made() {
    let world = World::new(&["alice"]);
    let config = fs::read_to_string(world.codex_home().join("config.toml")).expect("the config");
    fs::remove_dir_all(world.codex_home()).expect("remove it");
    // The stand-in finds no service without its config and says so; the login is there all the same.
    let output = world.exec().run().expect(1);
    assert_eq!(world.live_owner().as_deref(), Some("alice"), "{output}");
    assert_eq!(mode(&world.codex_home()), 0o700);
    fs::write(world.codex_home().join("config.toml"), config).expect("write the config");
    answered(world.exec().run(), "alice");
}
