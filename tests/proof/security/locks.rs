//! Locks that need no right to write: of a neighbour, or of a tool in Codex's read-only sandbox.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use testkit::backend::{LoginSpec, Route, UserSpec};
use testkit::files::{lock_as_reader, set_mode};
use testkit::{Neighbour, World, answered, wait_until};

use super::Stop;
use super::neighbour::{Lock, holds, neighbour_holds, write};

/// Returns a world whose main home has alice and is free, and in which bob is the pick.
fn about_to_switch() -> World {
    let world = World::logged_in(&["alice", "bob"]);
    world.rank(&["bob", "alice"]);
    world
}

#[test]
fn neighbours_locks_do_not_make_a_home_look_used() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = about_to_switch();
    let home = world.codex_home();
    let thread = "thread-writer-locks/01a20399-89f9-7f61-a9c3-c721a01b72f4.lock";
    let places = [
        (home.join("state_5.sqlite-shm"), vec![Lock::OfProcess, Lock::OfFile]),
        (home.join("sqlite/state_5.sqlite-shm"), vec![Lock::OfProcess, Lock::OfFile]),
        (home.join("app-server-daemon/daemon.lock"), vec![Lock::Flock]),
        (home.join(thread), vec![Lock::Flock]),
    ];
    for (file, locks) in places {
        write(&file, "what SQLite has there, or Codex");
        // As Codex makes it.
        set_mode(file.parent().expect("a folder"), 0o755);
        for lock in locks {
            world.make_live("alice");
            world.rank(&["bob", "alice"]);
            // Ours count. SQLite has none of an open file.
            if lock != Lock::OfFile {
                let ours = holds(world.cmd("sleep").arg("600"), &file, lock);
                answered(world.exec().run(), "bob");
                assert_eq!(world.live_owner().as_deref(), Some("alice"), "{lock:?} of {}", file.display());
                drop(ours);
            }
            let theirs = neighbour_holds(&neighbour, &world, &file, lock);
            answered(world.exec().run(), "bob");
            assert_eq!(world.live_owner().as_deref(), Some("bob"), "{lock:?} of {}", file.display());
            let doctor = world.pool(&["doctor"]).run();
            let advice = format!("chmod 700 '{}'", home.display());
            assert!(
                doctor.stdout.contains("another user holds locks") && doctor.stdout.contains(&advice),
                "{doctor}"
            );
            drop(theirs);
        }
    }
}

/// Where a database has no write-ahead log, there is no lasting lock: whoever has it open uses it.
#[test]
fn database_that_a_neighbour_has_open_does_not_make_a_home_look_used() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = about_to_switch();
    let file = world.codex_home().join("state_5.sqlite");
    let header = [&b"SQLite format 3\0\x10\0"[..], &[1, 1], &[0; 80]].concat();
    fs::write(&file, header).expect("write a database");
    let ours = holds(world.cmd("sleep").arg("600"), &file, Lock::None);
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    drop(ours);
    let _theirs = neighbour_holds(&neighbour, &world, &file, Lock::None);
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn neighbours_lock_does_not_make_a_session_look_open() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = World::probe(&["alice", "bob"]);
    let thread = "01a20399-89f9-7f61-a9c3-c721a01b72f4";
    let lock = world.codex_home().join(format!("thread-writer-locks/{thread}.lock"));
    write(&lock, "");
    let _theirs = neighbour_holds(&neighbour, &world, &lock, Lock::Flock);
    for words in [["resume", thread].as_slice(), &["exec", "resume", thread, "hi"]] {
        let output = world.codex(words).env("CODEX_POOL_VERBOSE", "1").run().ok();
        assert!(!output.stderr.contains("open in a running Codex"), "{output}");
    }
}

/// A pool that can be read, as the earlier program made it.
#[test]
fn neighbour_that_can_read_the_pool_does_not_hold_its_locks() {
    let Some(neighbour) = Neighbour::new() else { return };
    let world = about_to_switch();
    let pool = world.pool_home();
    write(&pool.join("refresh.lock"), "");
    set_mode(&pool, 0o755);
    for lock in [Lock::Flock, Lock::OfProcess, Lock::OfFile] {
        world.make_live("alice");
        world.rank(&["bob", "alice"]);
        let held: Vec<_> = ["pool.lock", "refresh.lock"]
            .map(|name| pool.join(name))
            .iter()
            .map(|file| {
                set_mode(file, 0o644);
                neighbour_holds(&neighbour, &world, file, lock)
            })
            .collect();
        let output = answered(world.exec().run(), "bob");
        assert!(output.stderr.is_empty() && output.took < Duration::from_secs(2), "{lock:?}: {output}");
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{lock:?}");
        world.pool(&["refresh"]).run().ok();
        drop(held);
    }
}

#[test]
fn tool_that_can_only_read_the_pool_does_not_hold_its_locks() {
    let world = about_to_switch();
    let pool = world.pool_home();
    let lock = |name| lock_as_reader(&pool.join(name)).expect("it is free");
    write(&pool.join("refresh.lock"), "");
    for round in 1..4 {
        world.make_live("alice");
        world.add_as("carol", UserSpec::new("carol"), &LoginSpec::expires_in(3600));
        let _held = [lock("pool.lock"), lock("refresh.lock")];
        let output = answered(world.exec().run(), "bob");
        assert!(output.stderr.is_empty() && output.took < Duration::from_secs(2), "{output}");
        assert_eq!(world.live_owner().as_deref(), Some("bob"));
        answered(world.exec_as("alice").run(), "alice");
        world.pool(&["refresh"]).run().ok();
        assert_eq!(world.backend().report().refreshes_of("carol").len(), round);
        let doctor = world.pool(&["doctor", "-v"]).run();
        assert!(doctor.stdout.contains("the pool's locks are free"), "{doctor}");
        world.pool(&["rm", "--yes", "carol"]).run().ok();
    }
    let names = fs::read_dir(&pool).expect("the pool").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".codex-pool.")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A lock is also one while such a tool tries to get in between.
#[test]
fn refreshes_stay_one_at_a_time_while_a_tool_locks_what_it_can_read() {
    let users = ["alice", "bob"];
    let world = World::new(&[]);
    for name in users {
        world.add_as(name, UserSpec::new(name), &LoginSpec::expires_in(3600));
    }
    world.backend().set_latency(Route::Token, Duration::from_millis(100));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let names = ["pool.lock", "refresh.lock"];
                let held = names
                    .map(|name| world.pool_home().join(name))
                    .map(|path| path.exists().then(|| lock_as_reader(&path)));
                std::thread::sleep(Duration::from_millis(1));
                drop(held);
            }
        });
        let refreshes: Vec<_> = (0..6).map(|_| world.pool(&["refresh"]).spawn()).collect();
        refreshes.into_iter().for_each(|refresh| drop(refresh.wait().ok()));
    });
    assert_eq!(world.backend().report().refreshes.len(), users.len());
    world.assert_nothing_lost(&users);
}

/// A launch that has ended, and whose entry such a tool locks: it does not run.
#[test]
fn tool_that_can_only_read_the_ledger_keeps_no_launch_in_it() {
    let world = about_to_switch();
    let gone = world.cmd("true").spawn();
    let pid = gone.pid();
    gone.wait().ok();
    let session = world.hold(world.exec_as("alice"));
    let launches = world.pool_home().join("launches");
    let entry = fs::read_dir(&launches).expect("the ledger").flatten().next().expect("an entry").path();
    let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
    let mut parts: Vec<_> = name.split('-').map(str::to_owned).collect();
    parts[2] = pid.to_string();
    let dead = launches.join(parts.join("-"));
    fs::copy(&entry, &dead).expect("an entry of a launch that has ended");
    world.open_gate();
    answered(session.wait(), "alice");
    let _held = lock_as_reader(&dead).expect("it is free");
    answered(world.exec().run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
}

#[test]
fn program_of_the_pool_that_holds_a_lock_is_named_by_its_pid() {
    let world = World::new(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(3600));
    world.backend().set_latency(Route::Token, Duration::from_secs(10));
    let refresh = world.pool(&["refresh"]).spawn();
    let named = format!("refresh.lock is held by codex-pool (pid {})", refresh.pid());
    wait_until("a doctor who names it", Duration::from_secs(8), || {
        let doctor = world.pool(&["doctor"]).run();
        doctor.stdout.contains(&named) || !cfg!(target_os = "linux")
    });
}

/// That is what an agent in Codex's sandbox finds that follows the skill.
#[test]
fn pool_that_can_only_be_read_is_read() {
    let world = World::logged_in(&["alice", "bob"]);
    let Some(unshare) = world.unshare(&["-m"]) else { return };
    let before = world.pool(&["list", "--json"]).run().ok().json();
    let script = "mount --bind \"$HOME\" \"$HOME\" && mount -o remount,ro,bind \"$HOME\" && exec codex-pool list --json";
    let list = unshare.args(["sh", "-c", script]).run().ok().json();
    let labels = |list: &Value| -> Vec<Value> {
        list["accounts"]
            .as_array()
            .expect("accounts")
            .iter()
            .map(|account| account["label"].clone())
            .collect()
    };
    assert_eq!(labels(&list), labels(&before));
}
