//! Work in flight is waited for, and what the user has begun stays.

use std::fs;

use nix::sys::signal::{Signal, kill};
use testkit::backend::{Step, Task};
use testkit::{Pty, SOON, World};

use crate::world::{FREE, Moves as _, each, free, some_looks_pass};

/// Opens a second interface in a folder of its own, in which a tool waits at a gate.
fn busy(world: &World, args: &[&str], step: fn(String) -> Step) -> (Pty, std::path::PathBuf) {
    let folder = world.other_folder();
    let ui = world.terminal(world.codex(args).current_dir(&folder));
    let command = format!("{}; echo ran >> ran.txt", world.gate_command("go"));
    world.backend().script("alice", [step(command)]);
    (ui, folder)
}

/// Lets a session reach its limit while another one is at the gate. Nothing moves until the gate is opened.
#[track_caller]
fn limit_waits_for_the_gate(world: &World, ui: &mut Pty) {
    let server = world.wait_for_server();
    world.limit("alice", 2);
    ui.send_line("do the task");
    world.wait_for_limit("alice", 1);
    some_looks_pass();
    assert_eq!((world.server(&world.codex_home()), world.moved()), (Some(server), 0), "{}", world.moves());
    world.open_the_gate("go");
}

#[test]
fn running_tool_of_another_window_is_waited_for_and_both_go_on() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        let (mut other, folder) = busy(world, &FREE, Step::Shell);
        other.send_line("wait for it");
        world.wait_for_answers("alice", 1, &other);
        limit_waits_for_the_gate(world, &mut ui);
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        world.wait_for_steps(&folder, &[("bob", 4)]);
        assert_eq!(fs::read_to_string(folder.join("ran.txt")).expect("it ran"), "ran\n");
        for ui in [&ui, &other] {
            ui.wait_for_text("done by bob", SOON);
        }
        assert_eq!(world.moved(), 1, "{}", world.moves());
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}

#[test]
fn open_approval_is_waited_for() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        let (mut other, folder) =
            busy(world, &["-s", "workspace-write", "-a", "on-request"], Step::Escalated);
        other.send_line("wait for it");
        other.wait_for("a question", SOON, |screen| screen.contains("Would you like to run"));
        limit_waits_for_the_gate(world, &mut ui);
        other.send("y");
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        assert_eq!(fs::read_to_string(folder.join("ran.txt")).expect("it ran"), "ran\n");
    });
}

#[test]
fn follow_up_that_the_user_has_queued_is_in_the_session() {
    each(&["alice", "bob"], |world| {
        let gate = world.gate_command("go");
        let command = format!("[ {{step}} != 2 ] || {{ {gate}; }}; echo {{step}} {{user}} >> steps.txt");
        world.backend().give_task(Task::running(4, &command));
        world.limit("alice", 2);
        let mut ui = world.open(&[]);
        ui.send_line("do the task");
        world.wait_for_answers("alice", 2, &ui);
        ui.send("and mind the gap");
        ui.wait_for_text("and mind the gap", SOON);
        ui.send("\t");
        ui.wait_for("a queued message", SOON, |screen| screen.to_lowercase().contains("queued"));
        world.open_the_gate("go");
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for_text("done by bob", SOON);
        let turns = world.backend().report().turns;
        let last = turns.last().expect("a turn");
        assert!(last.history.iter().any(|item| item.text.contains("mind the gap")), "{:#?}", last.history);
        world.assert_told_once("bob");
    });
}

#[test]
fn offer_of_another_model_is_passed() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        kill(world.attendant(), Signal::SIGSTOP).expect("stop the attendant");
        world.limit("alice", 2);
        ui.send_line("do the task");
        world.wait_for_limit("alice", 1);
        // 0.159 does not always offer one.
        if world.version() == testkit::PINNED {
            ui.wait_for_text("Approaching rate limits", SOON);
        }
        kill(world.attendant(), Signal::SIGCONT).expect("let it go on");
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for("the end, and no offer", SOON, |screen| {
            screen.contains("done by bob") && !screen.contains("Approaching rate limits")
        });
        // What is typed goes to the session.
        world.hello(&mut ui, "bob");
    });
}

#[test]
fn next_account_at_its_limit_goes_back_to_the_first() {
    each(&["alice", "bob"], |world| {
        let gate = world.gate_command("go");
        let command = format!("[ {{step}} != 3 ] || {{ {gate}; }}; echo {{step}} {{user}} >> steps.txt");
        world.backend().give_task(Task::running(5, &command));
        world.limit("alice", 1);
        world.limit("bob", 2);
        let ui = {
            let mut ui = world.open(&[]);
            ui.send_line("do the task");
            ui
        };
        world.wait_for_answers("bob", 2, &ui);
        // Alice has been reset.
        world.backend().set_usage("alice", testkit::backend::Usage::percent(10.0, 10.0));
        world.cache_usage(&[("alice", 10.0, 10.0), ("bob", 50.0, 50.0)], 0);
        world.open_the_gate("go");
        world.wait_for_task(&[("alice", 1), ("bob", 2), ("alice", 2)]);
        ui.wait_for_text("done by alice", SOON);
        assert_eq!((world.moved(), world.live_owner().as_deref()), (2, Some("alice")), "{}", world.moves());
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}

#[test]
fn limit_that_another_window_reaches_while_the_server_ends_is_passed() {
    each(&["alice", "bob"], |world| {
        let folder = world.other_folder();
        let in_time = |_| {
            world.begin();
            let _ = fs::remove_file(folder.join("steps.txt"));
            let mut ui = world.open(&[]);
            let mut other = world.terminal(free(world.codex(&[])).current_dir(&folder));
            world.hello(&mut other, "alice");
            world.limit("alice", 2);
            ui.send_line("do the task");
            let mover = world.catch_the_move();
            // On a busy machine the server may be told to end by now, and takes nothing any more.
            let told = world.processes().iter().any(|process| process.argv.iter().any(|arg| arg == "stop"));
            if !told {
                other.send_line("do it here, too");
                world.wait_for_limit("alice", 2);
            }
            kill(mover, Signal::SIGCONT).expect("let it go on");
            world.wait_for_task(&[("alice", 2), ("bob", 2)]);
            if !told {
                world.wait_for_steps(&folder, &[("bob", 4)]);
                assert_eq!(world.moved(), 1, "{}", world.moves());
            }
            ui.quit_codex();
            other.quit_codex();
            !told
        };
        assert!((0..8).any(in_time), "the move was never caught in time");
    });
}
