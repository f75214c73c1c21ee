//! When no other account can go on, an `exec` waits for the first reset, if that is wished.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::backend::{Limit, Usage};
use testkit::{Pty, SOON, World};

use crate::world::{Carry, assert_one_conversation, each};

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
            testkit::wait_until("it to wait", SOON, || {
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
            testkit::wait_until("it to wait", SOON, || {
                running.stderr().contains("; waiting for alice, who resets in ")
            });
            testkit::wait_until("its entry to go", SOON, || {
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
fn third_move_within_a_minute_waits() {
    each(&["alice", "bob"], |version, world| {
        world.limit("alice", 2);
        // As if this process had moved twice, nearly a minute ago.
        let script = r#"
            boot=$(tr -d - < /proc/sys/kernel/random/boot_id); space=$(readlink /proc/self/ns/pid | tr -dc 0-9)
            stat=$(cat /proc/$$/stat); set -- ${stat##*) }; now=$(date +%s%3N)
            process="$boot-$space-$$-${20}"; moves="[$((now - 57000)),$((now - 56000))]"
            export CODEX_POOL_CARRIED="{\"process\":\"$process\",\"moves\":$moves}"
            exec codex exec --skip-git-repo-check -s danger-full-access "do the task"
        "#;
        let began = Instant::now();
        let output = world.cmd("sh").args(["-ec", script]).run().ok();
        assert!(output.stderr.contains("two accounts have reached their limits within a minute"), "{output}");
        assert_eq!(output.stdout, "done by bob\n", "{version}");
        // Without the pause it takes a second or so.
        assert!(began.elapsed() >= Duration::from_millis(2_900), "{version}: {:?}", began.elapsed());
        world.assert_done(&[("alice", 2), ("bob", 2)], version);
    });
}
