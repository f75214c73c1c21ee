//! When no other account can go on, an `exec` waits for the first reset, if that is wished.

use std::time::{Duration, Instant};

use codex_pool_core::files::PoolLock;
use codex_pool_core::paths::PoolPaths;
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::backend::{Limit, Usage};
use testkit::{Cmd, Pty, SOON, World, children, wait_until};

use crate::world::{Carry, assert_one_conversation, each, events, newest};

/// Alice alone, whose limit comes after two answers and is over after so many seconds.
fn limit_for(world: &World, seconds: i64) {
    let backend = world.backend();
    let mut usage = Usage::percent(40.0, 40.0);
    usage.primary = usage.primary.map(|window| window.resets_in(seconds));
    backend.set_usage("alice", usage);
    backend.limit_after("alice", 2, Limit::Refuse);
}

#[test]
fn single_account_goes_on_after_its_reset() {
    each(&["alice"], |version, world| {
        for json in [false, true] {
            world.forget();
            world.rank(&["alice"]);
            limit_for(&world, 20);
            let mode: &[&str] = if json { &["--json"] } else { &[] };
            let running = world
                .exec_with(&[mode, &["do the task"]].concat())
                .env("CODEX_POOL_CARRY_WAIT", "1h")
                .spawn();
            wait_until("it to wait", SOON, || {
                running.stderr().contains("; waiting for alice, who resets in ")
            });
            assert_eq!(world.backend().report().turns.iter().filter(|turn| turn.status == 200).count(), 2);
            world.backend().set_usage("alice", Usage::percent(0.0, 40.0));
            let output = running.wait().ok();
            assert!(output.stderr.contains("codex-pool: alice goes on"), "{version}: {output}");
            if json {
                assert_one_conversation(&output, version);
            } else {
                assert_eq!(output.stdout, "done by alice\n", "{version}");
            }
            world.assert_done(&[("alice", 4)], version);
        }
    });
}

#[test]
fn reset_that_is_too_far_away_is_not_waited_for() {
    each(&["alice"], |version, world| {
        limit_for(&world, 3_600);
        world.settings("background_refresh = false\ncarry_wait = \"30m\"\n");
        let output = world.exec_with(&["do the task"]).run().expect(1);
        assert!(
            output.stderr.contains("no other account can go on; alice resets first"),
            "{version}: {output}"
        );
    });
}

#[test]
fn waiting_shim_dies_by_the_signal_and_holds_no_home() {
    each(&["alice"], |version, world| {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            world.forget();
            world.rank(&["alice"]);
            limit_for(&world, 600);
            let running = world.exec_with(&["do the task"]).env("CODEX_POOL_CARRY_WAIT", "1h").spawn();
            wait_until("it to wait", SOON, || {
                running.stderr().contains("; waiting for alice, who resets in ")
            });
            wait_until("its entry to go", SOON, || {
                let mut launches = std::fs::read_dir(world.pool_home().join("launches")).expect("a folder");
                !launches.any(|entry| {
                    entry
                        .expect("an entry")
                        .file_name()
                        .to_string_lossy()
                        .contains(&format!("-{}-", running.pid()))
                })
            });
            running.signal(signal);
            assert_eq!(running.wait().signal(), Some(signal as i32), "{version}");
        }
    });
}

#[test]
fn terminal_shows_a_countdown() {
    each(&["alice"], |_, world| {
        limit_for(&world, 600);
        let run = world.pool(&[
            "run",
            "--carry-wait",
            "1h",
            "--",
            "exec",
            "--skip-git-repo-check",
            "-s",
            "danger-full-access",
            "do the task",
        ]);
        let pty = Pty::spawn(run, 40, 120);
        pty.wait_for_text("going on in 9m", SOON + Duration::from_secs(1));
        pty.signal(Signal::SIGTERM);
    });
}

#[test]
fn wait_in_vain_ends_as_codex_did_and_says_why() {
    let Some(world) = newest(&["alice"]) else { return };
    let waits = |mode: &[&str], time: &str| {
        world.forget();
        world.rank(&["alice"]);
        limit_for(&world, 15);
        let cmd = world.exec_with(&[mode, &["do the task"]].concat()).env("CODEX_POOL_CARRY_WAIT", time);
        let running = cmd.spawn();
        wait_until("it to wait", SOON, || running.stderr().contains("; waiting for alice, who resets in "));
        running
    };
    for mode in [&[][..], &["--json"]] {
        let running = waits(mode, "1h");
        world.pool(&["disable", "alice"]).run().ok();
        let output = running.wait().expect(1);
        assert!(output.stderr.ends_with("codex-pool: no other account can go on\n"), "{output}");
        if !mode.is_empty() {
            let last = events(&output.stdout).pop().expect("an event");
            assert_eq!(last["type"], "turn.failed", "{output}");
        }
        world.pool(&["enable", "alice"]).run().ok();
    }
    let running = waits(&[], "1h");
    // The week is full by now.
    world.cache_usage(&[("alice", 100.0, 100.0)], 0);
    let output = running.wait().expect(1);
    assert!(output.stderr.contains("no other account can go on; alice resets first, in 23h"), "{output}");
    assert_eq!(world.pool(&["list", "--json"]).run().ok().json()["moves"][0]["to"], Value::Null);
}

#[test]
fn pool_that_is_locked_for_seconds_delays_the_next_run() {
    let Some(world) = newest(&["alice", "bob"]) else { return };
    world.limit("alice", 2);
    let hold = world.backend().hold("alice");
    let running = world.exec_with(&["--json", "do the task"]).spawn();
    hold.wait_for(1, SOON);
    let lock = PoolLock::acquire(&PoolPaths::new(world.pool_home()), SOON).expect("a lock").expect("free");
    drop(hold);
    wait_until("the end of the first run", SOON, || children(running.pid()).is_empty());
    // Longer than a launch waits.
    let began = Instant::now();
    wait_until("some time", SOON, || began.elapsed() > Duration::from_secs(3));
    drop(lock);
    let output = running.wait().ok();
    assert_one_conversation(&output, "once the pool was free");
    world.assert_done(&[("alice", 2), ("bob", 2)], "once the pool was free");
}

#[test]
fn session_does_not_go_on_without_the_pool() {
    let Some(world) = newest(&["alice", "bob"]) else { return };
    world.limit("alice", 2);
    let running = as_if_moved_twice(&world).spawn();
    wait_until("it to wait", SOON, || running.stderr().contains("reached their limits within a minute"));
    let registry = world.pool_home().join("accounts.json");
    let kept = std::fs::read(&registry).expect("a registry");
    std::fs::write(&registry, "{ broken").expect("break it");
    let output = running.wait().expect(1);
    assert!(
        output.stderr.contains("this session cannot go on: the pool's accounts.json is corrupt"),
        "{output}"
    );
    let id = world.rollouts()[0].file_stem().expect("a name").to_string_lossy()[28..].to_owned();
    assert!(output.stderr.contains(&format!("codex exec resume {id} continue")), "{output}");
    std::fs::write(&registry, kept).expect("repair it");
    let output = world.exec_with(&["resume", &id, "continue"]).run().ok();
    assert_eq!(output.stdout, "done by bob\n", "{output}");
    world.assert_done(&[("alice", 2), ("bob", 2)], "later");
}

/// An `exec` that is told that this process has moved twice, 52 s ago.
fn as_if_moved_twice(world: &World) -> Cmd {
    let script = r#"
        boot=$(tr -d - < /proc/sys/kernel/random/boot_id); space=$(readlink /proc/self/ns/pid | tr -dc 0-9)
        stat=$(cat /proc/$$/stat); set -- ${stat##*) }; now=$(date +%s%3N)
        process="$boot-$space-$$-${20}"; moves="[$((now - 52000)),$((now - 51000))]"
        export CODEX_POOL_CARRIED="{\"process\":\"$process\",\"moves\":$moves}"
        exec codex exec --skip-git-repo-check -s danger-full-access "do the task"
    "#;
    world.cmd("sh").args(["-ec", script])
}

#[test]
fn third_move_within_a_minute_waits() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        let began = Instant::now();
        let output = as_if_moved_twice(&world).run().ok();
        assert!(output.stderr.contains("two accounts have reached their limits within a minute"), "{output}");
        assert_eq!(output.stdout, "done by bob\n", "{version}");
        // Without the pause it takes a second or so.
        assert!(began.elapsed() >= Duration::from_millis(7_900), "{version}: {:?}", began.elapsed());
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}
