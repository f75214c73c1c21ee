//! An interface that waits for a reset, if that is wished.

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::backend::{Limit, Usage};
use testkit::{Pty, SOON, World, wait_until};

use crate::world::{Moves as _, each};

/// A window that waits for a reset, at work. Alice's limit comes after two answers, and is over after so many seconds.
/// Returns it with its server.
fn at_work(world: &World, seconds: i64) -> (Pty, u32) {
    world.settings("background_refresh = false\ncarry_wait = \"1h\"\n");
    let mut ui = world.open(&[]);
    let server = world.wait_for_server();
    let mut usage = Usage::percent(40.0, 40.0);
    usage.primary = usage.primary.map(|window| window.resets_in(seconds));
    world.backend().set_usage("alice", usage);
    world.backend().limit_after("alice", 2, Limit::Refuse);
    ui.send_line("do the task");
    (ui, server)
}

#[test]
fn interface_goes_on_with_its_account_after_the_reset() {
    each(&["alice"], |world| {
        let (ui, server) = at_work(world, 10);
        world.wait_for_refusal("no other account can go on; alice resets first\",\"resets_at\":");
        assert_eq!(world.moved(), 0, "{}", world.moves());
        let shown = world.pool(&["list", "--json"]).run().ok().json();
        let waits = &shown["moves"][0];
        assert_eq!((waits["state"].as_str(), &waits["why"]), (Some("waiting"), &Value::Null), "{shown}");
        let left = waits["until"].as_i64().expect("a time") - testkit::now();
        assert!((-60..=10).contains(&left), "{left}");
        let list = world.pool(&["list"]).run().ok().stdout;
        assert!(list.contains(": alice is at its limit; it waits until "), "{list}");
        assert!(!list.contains("not carried on"), "{list}");
        world.backend().set_usage("alice", Usage::percent(0.0, 40.0));
        world.wait_for_task(&[("alice", 4)]);
        ui.wait_for_text("done by alice", SOON);
        assert_eq!(world.server(&world.codex_home()), Some(server), "no server was stopped");
        world.assert_told_once("alice");
        let list = world.pool(&["list"]).run().ok();
        assert!(list.stdout.contains("went on with alice"), "{list}");
        assert!(!list.stdout.contains("waits until"), "{list}");
        let shown = world.pool(&["list", "--json"]).run().ok().json();
        let states: Vec<_> = shown["moves"].as_array().expect("moves").iter().map(|m| &m["state"]).collect();
        assert_eq!(states, ["carried_on"], "{shown}");
        world.assert_nothing_lost(&["alice"]);
    });
}

#[test]
fn window_that_is_closed_while_it_waits_is_not_shown_any_more() {
    each(&["alice"], |world| {
        let (mut ui, server) = at_work(world, 1_800);
        world.wait_for_refusal("no other account can go on; alice resets first");
        let states = || {
            let shown = world.pool(&["list", "--json"]).run().ok().json();
            let states = shown["moves"].as_array().expect("moves").iter();
            states.map(|each| each["state"].as_str().expect("a state").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(states(), ["waiting"]);
        ui.signal(Signal::SIGTERM);
        ui.wait(SOON);
        world.codex(&["app-server", "daemon", "stop"]).run().ok();
        wait_until("the end of the server", SOON, || world.server(&world.codex_home()) != Some(server));
        assert_eq!(states(), Vec::<String>::new());
    });
}
