//! Programs of a move that are killed at any instant: the server runs again, the session goes on, no login is lost.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::backend::{Step, Usage};
use testkit::{SOON, World, answered, wait_until};

use crate::world::{Moves as _, each, free};

/// Within which a server runs again once an attendant or a launch is there.
const UP: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 6;

/// Whom a round kills: the attendant, the process that moves the server, its guard.
#[derive(Debug, Clone, Copy)]
struct Victims {
    attendant: bool,
    mover: bool,
    guard: bool,
}

impl Victims {
    fn of(bits: u32) -> Victims {
        Victims { attendant: bits & 1 != 0, mover: bits & 2 != 0, guard: bits & 4 != 0 }
    }

    fn has(self, argv: &[String]) -> bool {
        match argv.get(1).map(String::as_str) {
            Some("attend") => self.attendant,
            Some("move") if argv.iter().any(|arg| arg == "--guard") => self.guard,
            Some("move") => self.mover,
            _ => false,
        }
    }

    /// Kills those that run.
    fn kill(self, world: &World) {
        for process in world.processes().into_iter().filter(|process| self.has(&process.argv)) {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

/// Numbers that look random, and are the same in every run.
fn numbers() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(0x9E37_79B9_u32), |n| {
        let n = n ^ (n << 13);
        let n = n ^ (n >> 17);
        Some(n ^ (n << 5))
    })
    .skip(1)
}

#[test]
fn session_goes_on_whoever_of_a_move_is_killed_at_any_instant() {
    each(&["alice", "bob"], |world| {
        let mut numbers = numbers();
        for round in 0..ROUNDS {
            world.begin();
            let mut ui = world.open(&[]);
            world.wait_for_server();
            world.limit("alice", 2);
            ui.send_line("do the task");
            world.wait_for_limit("alice", 1);
            // All of a move lies within.
            let instant = Duration::from_millis(u64::from(numbers.next().expect("endless") % 2_200));
            let victims = Victims::of(1 + numbers.next().expect("endless") % 7);
            let reached = Instant::now();
            wait_until("the instant", SOON, || reached.elapsed() >= instant);
            victims.kill(world);
            let _attendant = world.cmd(world.pool_home().join("bin/codex-pool")).arg("attend").spawn();
            let what = format!("round {round}: {victims:?} after {instant:?}");
            wait_until(&what, UP, || world.server(&world.codex_home()).is_some());
            world.wait_for_task(&[("alice", 2), ("bob", 2)]);
            ui.wait_for_text("done by bob", SOON);
            world.hello(&mut ui, "bob");
            world.assert_nothing_lost(&["alice", "bob"]);
            ui.quit_codex();
        }
    });
}

#[test]
fn next_launch_ends_a_move_whose_processes_were_all_killed() {
    each(&["alice", "bob"], |world| {
        for swapped in [false, true] {
            world.begin();
            let mut ui = world.open(&[]);
            world.wait_for_server();
            world.limit("alice", 2);
            ui.send_line("do the task");
            let mover = world.catch_the_move();
            if swapped {
                // Another account takes the home under the mover's hands.
                kill(mover, Signal::SIGCONT).expect("let it go on");
                let deadline = Instant::now() + SOON;
                while world.live_owner().as_deref() != Some("bob") {
                    assert!(Instant::now() < deadline, "{}", world.moves());
                }
            }
            Victims::of(7).kill(world);
            // An attendant is started by this launch, too.
            world.backend().greet("hi");
            answered(world.exec().run(), "bob");
            wait_until("a server", UP, || world.server(&world.codex_home()).is_some());
            world.wait_for_task(&[("alice", 2), ("bob", 2)]);
            ui.wait_for_text("done by bob", SOON);
            world.assert_nothing_lost(&["alice", "bob"]);
            ui.quit_codex();
        }
    });
}

#[test]
fn server_that_a_killed_move_still_stops_is_started_again() {
    /// For longer than the guard waits for Codex's lock of starts and stops at once.
    const LONG: Duration = Duration::from_secs(7);
    each(&["alice", "bob"], |world| {
        let mut other = world.terminal(free(world.codex(&[])).current_dir(world.other_folder()));
        world.hello(&mut other, "alice");
        let old = world.wait_for_server();
        world.limit("alice", 2);
        let mut ui = world.open(&[]);
        ui.send_line("do the task");
        let mover = world.catch_the_move();
        // A tool that begins now keeps the server for as long as it runs.
        world.backend().set_usage("alice", Usage::percent(10.0, 10.0));
        let gate = world.gate_command("go");
        world.backend().script("alice", [Step::Shell(gate), Step::Say("waited".to_owned())]);
        other.send_line("wait for it");
        world.wait_for_answers("alice", 4, &other);
        kill(mover, Signal::SIGCONT).expect("let it go on");
        let is_stop = |argv: &[String]| argv.last().is_some_and(|arg| arg == "stop");
        wait_until("a stop", SOON, || world.processes().iter().any(|process| is_stop(&process.argv)));
        // The stop goes on, and the guard is alone.
        Victims { attendant: true, mover: true, guard: false }.kill(world);
        let killed = Instant::now();
        wait_until("a long stop", SOON, || killed.elapsed() >= LONG);
        assert_eq!(world.server(&world.codex_home()), Some(old));
        world.open_the_gate("go");
        wait_until("another server", SOON, || {
            world.server(&world.codex_home()).is_some_and(|server| server != old)
        });
        let _attendant = world.cmd(world.pool_home().join("bin/codex-pool")).arg("attend").spawn();
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for_text("done by bob", SOON);
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}
