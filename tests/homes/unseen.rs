//! A Codex that gives no lock of SQLite's to see: one that is just starting, one whose databases have no write-ahead log,
//! one that has them in another folder. Its home does not change hands. To find it, processes are looked at, but only
//! before a home would change hands.

use std::fs;
use std::time::Duration;

use testkit::backend::{LoginSpec, Request, Route, Step, UserSpec};
use testkit::{Cmd, SOON, World, answered, wait_until};

use crate::world::{TWO, bob_goes_elsewhere, worlds, worlds_of};

/// Returns a world in which alice is live with a token that has expired, at an issuer that takes so long, and bob is the
/// pick. `None`: there is no real Codex here.
fn about_to_renew(issuer: Duration) -> Option<World> {
    let world = worlds_of(|version| version == "0.169.0", &["bob"]).next()?;
    let expired = LoginSpec { refreshed_ago: 900_000, ..LoginSpec::expires_in(-3600) };
    world.add_as("alice", UserSpec::new("alice"), &expired);
    world.make_live("alice");
    world.rank(&["bob", "alice"]);
    world.backend().set_latency(Route::Token, issuer);
    Some(world)
}

/// Requires that what alice's Codex has got is in the pool, and that nothing is in the way of the next swap.
#[track_caller]
fn nothing_was_dropped(world: &World) {
    world.assert_nothing_lost(&TWO);
    answered(world.exec_as("bob").run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    world.assert_nothing_lost(&TWO);
}

#[test]
fn codex_that_renews_while_it_starts_is_not_swapped_away() {
    let mut renewals = 0;
    for (issuer, later) in [(1000, 0), (300, 50), (1000, 100), (1000, 150), (300, 200), (1000, 300)] {
        let Some(world) = about_to_renew(Duration::from_millis(issuer)) else { return };
        let foreign = world.foreign_exec().spawn();
        std::thread::sleep(Duration::from_millis(later));
        answered(world.exec().run(), "bob");
        // At the very beginning it has not read its login yet, and reads bob's.
        let renewed = world.backend().report().refreshes_of("alice").len();
        answered(foreign.wait(), if renewed == 0 { "bob" } else { "alice" });
        renewals += renewed;
        nothing_was_dropped(&world);
    }
    assert!(renewals >= 3, "only {renewals} had to renew");
}

/// Here the moment is certain: the issuer has the request, and has not answered.
#[test]
fn codex_whose_request_for_tokens_is_under_way_is_not_swapped_away() {
    for command in [&["exec", "--skip-git-repo-check", "hi"][..], &["app-server"]] {
        let Some(world) = about_to_renew(Duration::from_secs(10)) else { return };
        let refreshes = || world.backend().report().refreshes_of("alice").len();
        // The app-server lives as long as its standard input.
        let line = format!("sleep 14 | exec {} {}", world.real_path().display(), command.join(" "));
        let foreign = world.cmd("/bin/sh").args(["-c", &line]).spawn();
        wait_until("a request for tokens", SOON, || refreshes() == 1);
        bob_goes_elsewhere(&world);
        let answered = |request: &Request| request.path == "/oauth/token" && request.took.is_some();
        assert!(!world.backend().report().requests.iter().any(answered), "too late to tell");
        foreign.wait().ok();
        assert_eq!(refreshes(), 1);
        nothing_was_dropped(&world);
    }
}

/// The pool needs the same tokens. If it sent the same refresh token, the login would be lost.
#[test]
fn tokens_that_a_starting_codex_renews_are_waited_for() {
    let Some(world) = about_to_renew(Duration::from_secs(3)) else { return };
    world.link_admin();
    let foreign = world.foreign_exec().spawn();
    wait_until("a request for tokens", SOON, || world.backend().report().refreshes_of("alice").len() == 1);
    let refresh = world.pool(&["refresh", "alice"]).spawn();
    let launch = world.exec_as("alice").spawn();
    refresh.wait().ok();
    answered(launch.wait(), "alice");
    answered(foreign.wait(), "alice");
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1);
    nothing_was_dropped(&world);
}

/// It begins after the processes were looked at, while the next login is being written to a slow disk.
#[cfg(target_os = "linux")]
#[test]
fn codex_that_starts_during_a_swap_is_not_swapped_away() {
    let Some(strace) = testkit::needs("strace") else { return };
    let Some(world) = about_to_renew(Duration::from_secs(10)) else { return };
    let slowly = ["-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=3s"];
    let cmd = || world.cmd(&strace).args(slowly).timeout(Duration::from_secs(60));
    let temp = world.codex_home().join(".auth.json.codex-pool.tmp");
    let launch = cmd().arg(world.shim()).args(["exec", "--skip-git-repo-check", "hi"]).spawn();
    wait_until("bob's login beside alice's", SOON, || temp.exists());
    let foreign = world.foreign_exec().spawn();
    answered(launch.wait(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    answered(foreign.wait(), "alice");
    nothing_was_dropped(&world);
    // A command of the pool gives up.
    world.make_live("alice");
    let hold = world.backend().hold("alice");
    let switch = cmd().arg(world.home().join(".local/bin/codex-pool")).args(["use", "bob"]).spawn();
    wait_until("bob's login beside alice's", SOON, || temp.exists());
    let foreign = world.foreign_exec().spawn();
    let output = switch.wait().expect(1);
    assert!(output.stderr.contains("a Codex is just starting in"), "{output}");
    drop(hold);
    answered(foreign.wait(), "alice");
    world.assert_nothing_lost(&TWO);
}

/// Starts a program that executes a file named `codex` and does nothing for as long as it runs. Its arguments are what
/// the processes are judged by: to a shell, all but the first two are words.
#[cfg(target_os = "linux")]
fn idle_codex(world: &World, called: &str, words: &[&str], change: impl Fn(Cmd) -> Cmd) -> testkit::Running {
    use std::os::unix::process::CommandExt as _;
    let program =
        testkit::files::copy_program(std::path::Path::new("/bin/sh"), &world.root().join("elsewhere/codex"));
    let mut cmd = change(world.cmd(&program).args(["-c", "while :; do sleep 0.1; done"]).args(words));
    cmd.inner().arg0(called);
    let running = cmd.spawn();
    wait_until("the program", SOON, || {
        fs::read(format!("/proc/{}/cmdline", running.pid()))
            .is_ok_and(|line| line.starts_with(called.as_bytes()))
    });
    running
}

#[cfg(target_os = "linux")]
#[test]
fn processes_of_codex_are_told_apart_by_their_arguments_and_environment() {
    let world = World::logged_in(&TWO);
    let as_it_is = |cmd: Cmd| cmd;
    world.make_live("alice");
    let swapped = |running: testkit::Running| {
        answered(world.exec_as("bob").run(), "bob");
        let swapped = world.live_owner().as_deref() == Some("bob");
        drop(running);
        world.make_live("alice");
        swapped
    };
    for (called, words) in [
        ("codex", &["exec", "hi"][..]),
        ("codex", &["app-server"]),
        ("/opt/codex", &["resume", "--last"]),
        ("cx", &["exec", "hi"]),
    ] {
        assert!(!swapped(idle_codex(&world, called, words, as_it_is)), "{called} {words:?}");
    }
    for (called, words) in [
        ("codex", &["app-server", "daemon", "pid-update-loop"][..]),
        ("codex", &["app-server", "proxy"]),
        ("codex", &["queue", "--thread", "x", "--message", "continue"]),
        ("codex", &["mcp", "list"]),
        ("codex-linux-sandbox", &["exec", "hi"]),
        ("apply_patch", &["x"]),
    ] {
        assert!(swapped(idle_codex(&world, called, words, as_it_is)), "{called} {words:?}");
    }
    let elsewhere = world.root().join("other home");
    let other = idle_codex(&world, "codex", &["exec"], |cmd| cmd.env("CODEX_HOME", &elsewhere));
    assert!(swapped(other));
    // The file is gone, or another one is there.
    let updated = idle_codex(&world, "codex", &["exec"], as_it_is);
    fs::remove_file(world.root().join("elsewhere/codex")).expect("remove the program");
    assert!(!swapped(updated));
    // Without HOME, the home is below the folder that the user database names. It is no folder of a test.
    let silent = idle_codex(&world, "codex", &["exec"], |mut cmd| {
        cmd.inner().env_remove("HOME").env_remove("CODEX_HOME");
        cmd
    });
    assert!(swapped(silent));
    // It may be in any home.
    let relative = idle_codex(&world, "codex", &["exec"], |cmd| cmd.env("CODEX_HOME", "relative"));
    assert!(!swapped(relative));
}

/// Requires that a turn of alice's, in a Codex that was started by its full path, keeps its home.
#[track_caller]
fn running_turn_keeps_its_home(world: &World, foreign: Cmd) {
    let backend = world.backend();
    backend.script("alice", [Step::Shell("true".to_owned())]);
    let hold = backend.hold("alice");
    let foreign = foreign.spawn();
    hold.wait_for(1, SOON);
    let output = bob_goes_elsewhere(world);
    assert!(output.stderr.contains("not started through codex-pool"), "{output}");
    backend.reject_access_tokens("alice");
    drop(hold);
    answered(foreign.wait(), "alice");
    assert_eq!(backend.report().refreshes_of("alice").len(), 1, "{}", world.version());
    nothing_was_dropped(world);
}

#[test]
fn turn_whose_databases_have_no_write_ahead_log_keeps_its_home() {
    for world in worlds_of(|version| version == "0.169.0", &TWO) {
        answered(world.foreign_exec().run(), "alice");
        world.real_codex(&["migrate-nfs-db"]).stdin("y\n").run().ok();
        let header = fs::read(world.codex_home().join("state_5.sqlite")).expect("a database");
        assert_eq!(header[18..20], [1, 1], "{}", world.version());
        running_turn_keeps_its_home(&world, world.foreign_exec());
    }
}

#[test]
fn turn_whose_databases_are_in_a_folder_of_the_home_keeps_its_home() {
    for world in worlds(&TWO) {
        let databases = world.codex_home().join("sqlite");
        fs::create_dir(&databases).expect("make a folder");
        running_turn_keeps_its_home(&world, world.foreign_exec().env("CODEX_SQLITE_HOME", &databases));
        assert!(databases.join("state_5.sqlite").exists());
    }
}

/// Returns whether a launch of `codex exec` as that account lists the processes.
#[cfg(target_os = "linux")]
fn looks_at_processes(world: &World, strace: &std::path::Path, label: &str) -> bool {
    let trace = world.root().join("trace");
    let traced = world.cmd(strace).args(["-qq", "-e", "trace=openat,execve", "-o"]).arg(&trace);
    let traced = traced.arg(world.shim()).args(["exec", "--skip-git-repo-check", "hi"]);
    answered(traced.env("CODEX_POOL_ACCOUNT", label).run(), label);
    let trace = fs::read_to_string(trace).expect("a trace");
    let ours = trace.split("execve(").nth(1).expect("the shim");
    assert!(ours.contains("pool.lock"), "{trace}");
    ours.contains("\"/proc\"")
}

/// It would cost each launch time.
#[cfg(target_os = "linux")]
#[test]
fn launch_that_swaps_nothing_looks_at_no_other_process() {
    let Some(strace) = testkit::needs("strace") else { return };
    let world = World::logged_in(&TWO);
    world.make_live("alice");
    assert!(!looks_at_processes(&world, &strace, "alice"), "alice is live");
    let session = world.hold(world.exec_as("alice"));
    for _ in 0..2 {
        assert!(!looks_at_processes(&world, &strace, "bob"), "alice is in use");
    }
    world.open_gate();
    answered(session.wait(), "alice");
    assert!(looks_at_processes(&world, &strace, "bob"), "a swap");
}
