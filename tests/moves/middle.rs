//! What comes in the middle of a move, or stands in its way.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use testkit::backend::{Step, Task, Usage};
use testkit::{SOON, World, answered, wait_until};

use crate::world::{Moves as _, each, free, some_looks_pass};

#[test]
fn launch_in_the_middle_of_a_move_takes_an_own_home() {
    each(&["alice", "bob", "carol"], |world| {
        let mut ui = world.open(&[]);
        world.wait_for_server();
        world.limit("alice", 2);
        let stop = world.hold_starts();
        ui.send_line("do the task");
        world.wait_for_mark();
        world.backend().script("bob", [Step::Say("hello from bob".to_owned())]);
        let output = answered(world.exec().env("CODEX_POOL_VERBOSE", "1").run(), "bob");
        assert!(
            output.stderr.contains("its background server, which is moving to another account"),
            "{output}"
        );
        let mut window = world.open(&[]);
        world.hello(&mut window, "bob");
        assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"));
        drop(stop);
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        world.hello(&mut window, "bob");
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
    });
}

#[test]
fn window_past_the_pool_in_the_middle_of_a_move_hangs_nobody() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        world.wait_for_server();
        world.limit("alice", 2);
        let stop = world.hold_starts();
        ui.send_line("do the task");
        world.wait_for_mark();
        let mut window = world.pty(free(world.real_codex(&[])));
        some_looks_pass();
        drop(stop);
        window.wait_for_codex(SOON);
        // Whoever starts the server first: it runs, and the thread can be used.
        world.wait_for_server();
        window.quit_codex();
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for_text("done by bob", SOON);
        world.assert_nothing_lost(&["alice", "bob"]);
    });
}

#[test]
fn interface_in_an_own_home_goes_on_there() {
    each(&["alice", "bob", "carol"], |world| {
        let mut first = world.open(&[]);
        world.hello(&mut first, "alice");
        let server = world.wait_for_server();
        world.rank(&["bob", "carol", "alice"]);
        world.limit("bob", 2);
        let mut ui = world.open(&[]);
        ui.send_line("do the task");
        world.wait_for_task(&[("bob", 2), ("carol", 2)]);
        ui.wait_for_text("done by carol", SOON);
        let home = world.own_home("bob");
        assert_eq!(world.owner_at(&home).as_deref(), Some("carol"));
        assert_eq!(world.live_owner().as_deref(), Some("alice"));
        assert_eq!(world.server(&world.codex_home()), Some(server), "alice's server was not touched");
        world.hello(&mut first, "alice");
        // Bob's own home is carol's now.
        world.rank(&["bob", "carol", "alice"]);
        world.backend().give_task(Task::new(0));
        let mut window = world.open(&[]);
        window.send_line("hello");
        window.wait_for_text("done by bob", SOON);
        let second = home.with_file_name(format!("{}.2", world.id("bob")));
        assert_eq!(world.owner_at(&second).as_deref(), Some("bob"));
        world.assert_nothing_lost(&["alice", "bob", "carol"]);
    });
}

#[test]
fn exec_beside_the_window_is_waited_for() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        world.wait_for_server();
        let gate = world.gate_command("go");
        world.backend().script("alice", [Step::Shell(gate)]);
        let exec = world.codex(&["exec", "--skip-git-repo-check", "-s", "danger-full-access", "hi"]);
        let folder = world.other_folder();
        let exec = exec.env("CODEX_POOL_ACCOUNT", "alice").current_dir(&folder).spawn();
        world.wait_for_answers("alice", 1, &ui);
        world.limit("alice", 2);
        ui.send_line("do the task");
        world.wait_for_refusal("its home is in use by codex exec");
        assert_eq!(world.moved(), 0);
        world.backend().set_usage("alice", Usage::percent(10.0, 10.0));
        world.open_the_gate("go");
        exec.wait().ok();
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for_text("done by bob", SOON);
    });
}

#[test]
fn proxy_client_is_waited_for() {
    each(&["alice", "bob"], |world| {
        let mut ui = world.open(&[]);
        world.wait_for_server();
        let mut proxy = world.real_codex(&["app-server", "proxy"]).into_inner();
        let mut proxy = proxy.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a proxy");
        let is = |argv: &[String]| argv[0] != "node" && argv.iter().any(|arg| arg == "proxy");
        wait_until("the proxy", SOON, || world.processes().iter().any(|process| is(&process.argv)));
        world.limit("alice", 2);
        ui.send_line("do the task");
        world.wait_for_refusal("app-server proxy");
        assert_eq!(world.moved(), 0);
        drop(proxy.stdin.take());
        let _ = proxy.kill();
        proxy.wait().expect("the end of the proxy");
        world.wait_for_task(&[("alice", 2), ("bob", 2)]);
        ui.wait_for_text("done by bob", SOON);
    });
}

#[test]
fn session_whose_window_was_quit_does_not_run_on_alone() {
    each(&["alice", "bob"], |world| {
        for in_the_middle in [false, true] {
            let _ = fs::remove_file(world.work().join("steps.txt"));
            world.back_to_alice();
            world.backend().clear_report();
            let mut ui = world.open(&[]);
            world.wait_for_server();
            world.limit("alice", 2);
            let attendant = world.attendant();
            let stop = if in_the_middle {
                Some(world.hold_starts())
            } else {
                kill(attendant, Signal::SIGSTOP).expect("stop the attendant");
                None
            };
            ui.send_line("do the task");
            world.wait_for_limit("alice", 1);
            if in_the_middle {
                world.wait_for_mark();
            }
            ui.signal(Signal::SIGTERM);
            ui.wait(SOON);
            drop(stop);
            let _ = kill(attendant, Signal::SIGCONT);
            until_the_move_is_over(world);
            assert_eq!(world.backend().report().turns_of("bob").len(), 0, "{}", world.moves());
            let shown = world.pool(&["list", "--json"]).run().ok().json();
            let newest = &shown["moves"][0];
            assert_eq!((newest["state"].as_str(), &newest["to"]), (Some("stopped"), &Value::Null), "{shown}");
            let why = if in_the_middle { "its window was closed" } else { "no interface is open" };
            assert!(testkit::text(&newest["why"]).starts_with(why), "{shown}");
            let list = world.pool(&["list"]).run().ok().stdout;
            assert!(list.contains(why) && !list.contains("carried on from"), "{list}");
            world.codex(&["app-server", "daemon", "stop"]).run().ok();
        }
    });
}

fn until_the_move_is_over(world: &World) {
    some_looks_pass();
    let marks = || fs::read_dir(world.pool_home().join("moving")).into_iter().flatten().flatten();
    wait_until("no mark", SOON, || marks().all(|entry| entry.path().extension().is_some()));
}
