//! How long an `exec`, and an open interface, take to go on: from the answer that says limit to the next account's first
//! request. With the real Codex, of whose end and start it mostly consists.

use std::fs;

use testkit::backend::{Limit, Task, Usage};
use testkit::figures::{Figure, Limit as Most};
use testkit::{Codex, SOON, World, real_codex, version};

use crate::programs::Programs;

const RUNS: usize = 12;
/// Milliseconds.
const GOAL: f64 = 2_000.0;

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    let Some(codex) = real_codex(&version()) else { return Vec::new() };
    let users = ["alice", "bob"];
    let world = World::with(Codex::Program(codex.native), &users);
    world.settings("background_refresh = false\n");
    fs::copy(&programs.shim, world.shim()).expect("the shim to measure");
    world.backend().think();
    world.backend().give_task(Task::running(4, "true {step} {user}"));
    let times: Vec<f64> = (0..=RUNS).map(|_| run(&world)).skip(1).collect();
    let mut figures = vec![
        Figure::of("carry on: from the limit to the next request, exec", &times, "ms")
            .limit(Most::AtMost(GOAL)),
    ];
    figures.extend(interface(programs));
    figures
}

/// The same of an interface with its background server.
fn interface(programs: &Programs) -> Option<Figure> {
    let world = World::with(Codex::real()?, &["alice", "bob"]);
    world.settings("background_refresh = false\n");
    world.install_server();
    fs::copy(&programs.shim, world.shim()).expect("the shim to measure");
    let admin = world.pool_home().join("bin/codex-pool");
    std::os::unix::fs::symlink(&programs.codex_pool, admin).expect("link codex-pool");
    world.backend().think();
    world.backend().give_task(Task::running(4, "true {step} {user}"));
    let times: Vec<f64> = (0..=RUNS).map(|_| run_interface(&world)).skip(1).collect();
    let what = "carry on: from the limit to the next request, interface";
    Some(Figure::of(what, &times, "ms").limit(Most::AtMost(GOAL)))
}

/// Milliseconds of one move of an interface.
fn run_interface(world: &World) -> f64 {
    world.codex(&["app-server", "daemon", "stop"]).run();
    prepare(world);
    let mut ui = world.terminal(world.codex(&["-s", "danger-full-access", "-a", "never"]));
    ui.send_line("do the task");
    ui.wait_for_text("done by bob", SOON);
    let took = from_limit_to_next(world);
    ui.quit_codex();
    // No more than two moves a minute are made.
    let _ = fs::remove_file(world.pool_home().join("moves.json"));
    took
}

/// Milliseconds of one move.
fn run(world: &World) -> f64 {
    prepare(world);
    world.codex(&["exec", "--skip-git-repo-check", "-s", "danger-full-access", "do the task"]).run().ok();
    from_limit_to_next(world)
}

/// Makes alice live, with a limit after two answers.
fn prepare(world: &World) {
    let backend = world.backend();
    let _ = fs::remove_dir_all(world.codex_home().join("sessions"));
    backend.clear_report();
    for user in ["alice", "bob"] {
        backend.set_usage(user, Usage::percent(10.0, 10.0));
    }
    world.rank(&["alice", "bob"]);
    world.make_live("alice");
    backend.limit_after("alice", 2, Limit::Refuse);
}

fn from_limit_to_next(world: &World) -> f64 {
    let turns = world.backend().report().turns;
    let at = |status: u16, user: &str| {
        let turn = turns.iter().find(|t| t.status == status && t.user.as_deref() == Some(user));
        turn.unwrap_or_else(|| panic!("no {status} of {user}")).at
    };
    (at(200, "bob") - at(429, "alice")) * 1e3
}
