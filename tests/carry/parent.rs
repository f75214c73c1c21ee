//! The shim that waits for an `exec` is not to be noticed.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::backend::Task;
use testkit::{Cmd, Pty, Running, SOON, World, children, find_program, wait_for, wait_for_end, wait_until};

use crate::world::{Carry, FLAGS, each, newest};

/// A world with the probe as a Codex that could be carried on.
fn world() -> World {
    let world = World::probe(&["alice", "bob"]);
    world.settings("background_refresh = false\n");
    world.rank(&["alice", "bob"]);
    world.make_live("alice");
    world
}

fn exec(world: &World) -> Cmd {
    world.exec().env("PROBE_OUT", world.root().join("record.json")).env("PROBE_HOLD", world.gate())
}

/// Starts an `exec` that holds, and gives it with its child.
fn held(world: &World) -> (Running, u32) {
    let running = exec(world).spawn();
    let child = child_of(world, running.pid());
    (running, child)
}

fn child_of(world: &World, shim: u32) -> u32 {
    wait_until("the probe", SOON, || world.root().join("record.json").exists());
    children(shim).first().copied().expect("a child")
}

/// The state of a process, as in `ps`.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

#[test]
fn signal_to_the_shim_alone_is_codexs() {
    let world = world();
    for signal in
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGALRM]
    {
        let _ = fs::remove_file(world.root().join("record.json"));
        let (running, child) = held(&world);
        running.signal(signal);
        assert_eq!(running.wait().signal(), Some(signal as i32), "dies by it, as Codex did");
        wait_for_end(child);
    }
}

#[test]
fn codex_ends_with_a_shim_that_is_killed() {
    let world = world();
    let (running, child) = held(&world);
    running.signal(Signal::SIGKILL);
    running.wait();
    wait_for_end(child);
}

#[test]
fn codex_stops_and_goes_on_with_the_shim() {
    let world = world();
    let (running, child) = held(&world);
    for _ in 0..3 {
        running.signal(Signal::SIGTSTP);
        wait_until("both to stop", SOON, || state(child) == 'T' && state(running.pid()) == 'T');
        running.signal(Signal::SIGCONT);
        wait_until("both to go on", SOON, || state(child) != 'T' && state(running.pid()) != 'T');
    }
    world.open_gate();
    running.wait().ok();
}

#[test]
fn shell_stops_it_and_brings_it_back() {
    if find_program("bash").is_none() {
        return testkit::leave_out("there is no bash");
    }
    let world = world();
    let shell = world.cmd("bash").args(["--norc", "--noprofile", "-i"]);
    let shell = shell.env("PS1", "ready> ").env("PROBE_OUT", world.root().join("record.json"));
    let mut pty = Pty::spawn(shell.env("PROBE_HOLD", world.gate()), 40, 120);
    pty.wait_for_text("ready>", SOON);
    pty.send_line("codex exec hi; echo status-$?");
    let shim = wait_for("the shim", SOON, || children(pty.pid()).first().copied());
    let child = child_of(&world, shim);
    pty.send("\u{1a}");
    pty.wait_for_text("Stopped", SOON);
    assert_eq!((state(shim), state(child)), ('T', 'T'));
    pty.send_line("fg");
    wait_until("both to go on", SOON, || state(child) != 'T' && state(shim) != 'T');
    // The terminal's own signal reaches both, and is not passed on once more.
    pty.send("\u{3}");
    wait_for_end(child);
    wait_for_end(shim);
    pty.send_line("echo last-$?");
    pty.wait_for_text("last-130", SOON);
}

#[test]
fn closed_terminal_ends_both() {
    let world = world();
    let pty = Pty::spawn(exec(&world), 24, 80);
    let shim = pty.pid();
    let child = child_of(&world, shim);
    drop(pty);
    wait_for_end(child);
    wait_for_end(shim);
}

#[test]
fn ignored_hangup_stays_ignored() {
    let world = world();
    let nohup = world.cmd("nohup").arg(world.shim()).args(["exec", "hi"]);
    let running =
        nohup.env("PROBE_OUT", world.root().join("record.json")).env("PROBE_HOLD", world.gate()).spawn();
    let child = child_of(&world, running.pid());
    running.signal_group(Signal::SIGHUP);
    running.signal(Signal::SIGHUP);
    world.open_gate();
    running.wait().ok();
    wait_for_end(child);
}

#[test]
fn run_that_has_ended_dies_by_a_signal_where_nothing_reads_its_lines() {
    let Some(world) = newest(&["alice", "bob"]) else { return };
    world.backend().give_task(Task::running(3, "seq 1 5000"));
    let (read, write) = nix::unistd::pipe().expect("a pipe");
    let mut command = world.exec_with(&["--json", "do the task"]).into_inner();
    let mut shim = command.stdin(Stdio::null()).stdout(write).spawn().expect("start");
    drop(command);
    wait_until("the last answer", SOON, || world.backend().report().turns.len() >= 4);
    wait_until("the end of Codex", SOON, || children(shim.id()).is_empty());
    kill(Pid::from_raw(shim.id().cast_signed()), Signal::SIGTERM).expect("a signal");
    let mut status = None;
    wait_until("the end of the shim", SOON, || {
        status = shim.try_wait().expect("a status");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(Signal::SIGTERM as i32));
    drop(read);
}

#[test]
fn pool_that_is_removed_while_codex_runs_stays_removed() {
    let world = world();
    let (running, _) = held(&world);
    fs::rename(world.pool_home(), world.root().join("aside")).expect("move the pool");
    world.open_gate();
    running.wait().ok();
    assert!(!world.pool_home().exists());
}

#[test]
fn waiting_takes_two_megabytes_at_most() {
    let world = world();
    let (running, _) = held(&world);
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("its status");
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    // Pages of the program itself are shared by all shims, and larger without optimization.
    let own = kilobytes("RssAnon:");
    assert!(own <= 2048, "{own} kB");
    if !cfg!(debug_assertions) {
        let all = kilobytes("VmRSS:");
        assert!(all <= 2048, "{all} kB");
    }
    world.open_gate();
    running.wait().ok();
}

#[test]
fn reader_that_closes_the_pipe_is_noticed_by_codex() {
    each(&["alice", "bob"], |version, world| {
        let through = |program: &str| {
            let script = "set -o pipefail; \"$0\" \"$@\" | head -n 1 >/dev/null";
            let cmd =
                world.cmd("bash").args(["-c", script, program]).args(FLAGS).args(["--json", "do the task"]);
            cmd.run().code()
        };
        let direct = through(world.real_path().to_str().expect("a path"));
        world.forget();
        assert_eq!(through("codex"), direct, "{version}");
    });
}

#[test]
fn run_that_was_asked_to_end_is_not_carried_on() {
    each(&["alice", "bob"], |version, world| {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            world.forget();
            world.rank(&["alice", "bob"]);
            world.limit("alice", 2);
            let hold = world.backend().hold("alice");
            let running = world.exec_with(&["--json", "do the task"]).spawn();
            hold.wait_for(1, SOON);
            running.signal(signal);
            drop(hold);
            let output = running.wait();
            assert_ne!(output.code(), Some(0), "{version} {signal}: {output}");
            let bob = world.backend().report().turns.iter().any(|turn| turn.user.as_deref() == Some("bob"));
            assert!(!bob, "{version} {signal}");
        }
    });
}

#[test]
fn tokens_that_a_run_rotated_are_in_the_pool_when_it_ends() {
    let world = World::new(&["alice", "bob"]);
    world.settings("background_refresh = false\nattend = false\n");
    world.rank(&["alice", "bob"]);
    world.make_live("alice");
    for (log, pid_namespace) in [(true, false), (false, false), (true, true)] {
        let before = world.backend().newest_refresh_token("alice");
        world.backend().reject_access_tokens("alice");
        let exec = match pid_namespace {
            false => world.exec(),
            // As in a container: everything ends with the first process.
            true => match world.unshare(&["-p", "--mount-proc"]) {
                Some(cmd) => cmd.args(["codex", "exec", "--skip-git-repo-check", "hi"]),
                None => return,
            },
        };
        testkit::answered(if log { exec.env("STANDIN_LOG", "1") } else { exec }.run(), "alice");
        let newest = world.backend().newest_refresh_token("alice");
        assert_ne!(newest, before);
        let stored = fs::read_to_string(world.stored_path("alice")).expect("a document");
        assert!(stored.contains(&newest), "with a log: {log}; in a namespace: {pid_namespace}");
    }
}
