//! What `list`, `why` and `watch` show of sessions at a limit. With the stand-in Codex.

use std::fs;

use serde_json::Value;
use testkit::backend::Limit;
use testkit::{Cmd, SOON, World, wait_until};

/// A world in which alice is live and the pick, and reaches her limit at the first request.
fn world(users: &[&str]) -> World {
    let world = World::new(users);
    world.settings("background_refresh = false\nattend = false\n");
    world.rank(users);
    world.make_live("alice");
    world.backend().limit_after("alice", 0, Limit::Refuse);
    world
}

fn exec(world: &World) -> Cmd {
    world.exec().env("STANDIN_LOG", "1")
}

fn moves(world: &World, command: &str) -> Vec<Value> {
    let answer = world.pool(&[command, "--json"]).run().ok().json();
    answer["moves"].as_array().expect("moves").clone()
}

#[test]
fn session_that_was_carried_on_is_shown_with_its_account() {
    let world = world(&["alice", "bob"]);
    assert_eq!(moves(&world, "list"), Vec::<Value>::new());
    exec(&world).run().ok().says("hello from bob");
    for command in ["list", "why"] {
        let shown = world.pool(&[command]).run().ok();
        let line = shown.stdout.lines().find(|line| line.contains("carried on from alice to bob"));
        let line = line.unwrap_or_else(|| panic!("{command}: {shown}"));
        assert!(line.starts_with("session in ") && line.ends_with("s ago"), "{line}");
        let moves = moves(&world, command);
        assert_eq!(moves.len(), 1, "{moves:?}");
        let log = world.rollouts().pop().expect("a log");
        let thread = moves[0]["threads"][0].as_str().expect("a thread");
        assert!(log.to_string_lossy().contains(thread));
        assert_eq!(moves[0]["state"], "carried_on");
        assert_eq!(moves[0]["home"].as_str(), world.codex_home().to_str());
        assert_eq!(
            (moves[0]["from"].as_str(), moves[0]["to"].as_str()),
            (Some(world.id("alice").as_str()), Some(world.id("bob").as_str()))
        );
        assert!(moves[0]["at"].as_i64().is_some_and(|at| (testkit::now() - at).abs() < 60));
    }
    // The live view shows it, too, with a terminal and without.
    let watch = world.pool(&["watch"]).spawn();
    wait_until("the line", SOON, || watch.stdout().contains("carried on from alice to bob"));
    world.pty(world.pool(&["watch"])).wait_for_text("carried on from alice to bob", SOON);
    // It is no news after a day.
    let file = world.pool_home().join("moves.json");
    let mut text: Value = serde_json::from_str(&fs::read_to_string(&file).expect("moves")).expect("JSON");
    text["moves"][0]["at"] = (testkit::now() - 86_401).into();
    world.write_private(&file, &text.to_string());
    assert_eq!(moves(&world, "list"), Vec::<Value>::new());
}

#[test]
fn session_that_was_not_carried_on_is_shown_with_the_reason() {
    let world = world(&["alice", "bob"]);
    // Bob is thought to have room, and has none.
    world.backend().limit_after("bob", 0, Limit::Refuse);
    let output = exec(&world).run().expect(1);
    assert!(output.stderr.contains("bob is at its limit, and no other account can go on"), "{output}");
    let shown = world.pool(&["list"]).run().ok().stdout;
    assert!(shown.contains("stopped at bob's limit"), "{shown}");
    assert!(shown.contains("was not carried on: no other account could go on"), "{shown}");
    let moves = moves(&world, "why");
    let states: Vec<_> = moves.iter().map(|each| each["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["stopped", "carried_on"], "the newest first");
    assert_eq!(moves[0]["why"], "no other account could go on");
}

#[test]
fn session_that_waits_for_a_reset_is_shown_until_it_goes_on_or_ends() {
    let world = world(&["alice"]);
    let mut waiting = exec(&world).env("CODEX_POOL_CARRY_WAIT", "2d").spawn();
    wait_until("it to wait", SOON, || waiting.stderr().contains("waiting for alice"));
    let shown = world.pool(&["list"]).run().ok().stdout;
    assert!(shown.contains("alice is at its limit; it waits until "), "{shown}");
    let moves_now = moves(&world, "list");
    assert_eq!(moves_now[0]["state"], "waiting");
    let until = moves_now[0]["until"].as_i64().expect("a time");
    assert!((1..=86_400).contains(&(until - testkit::now())), "{until}");
    assert!(waiting.is_running());
    waiting.signal(nix::sys::signal::Signal::SIGKILL);
    waiting.wait();
    assert_eq!(moves(&world, "list"), Vec::<Value>::new());
}

#[test]
fn session_with_two_moves_has_one_line() {
    let world = world(&["alice", "bob"]);
    world.backend().limit_after("bob", 0, Limit::Refuse);
    exec(&world).run().expect(1);
    for command in ["list", "why"] {
        let shown = world.pool(&[command]).run().ok().stdout;
        let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("session")).collect();
        assert!(lines.len() == 1 && lines[0].contains("stopped at bob's limit"), "{shown}");
        assert_eq!(moves(&world, command).len(), 2);
    }
    // Codex has deleted the session.
    for log in world.rollouts() {
        fs::remove_file(log).expect("remove it");
    }
    let id = moves(&world, "list")[0]["threads"][0].as_str().expect("an id")[..8].to_owned();
    let shown = world.pool(&["list"]).run().ok().stdout;
    assert!(shown.contains(&format!("\nsession {id}: stopped at bob's limit")), "{shown}");
}

#[test]
fn session_that_went_on_long_ago_is_in_json_only() {
    let world = world(&["alice", "bob"]);
    exec(&world).run().ok().says("hello from bob");
    let file = world.pool_home().join("moves.json");
    let mut text: Value = serde_json::from_str(&fs::read_to_string(&file).expect("moves")).expect("JSON");
    text["moves"][0]["at"] = (testkit::now() - 3_601).into();
    world.write_private(&file, &text.to_string());
    assert_eq!(moves(&world, "list").len(), 1);
    let shown = world.pool(&["list"]).run().ok().stdout;
    assert!(!shown.contains("carried on"), "{shown}");
}

#[test]
fn account_that_goes_on_is_said_once_on_a_terminal() {
    let world = world(&["alice", "bob"]);
    let pty = world.pty(exec(&world));
    pty.wait_for_text("hello from bob", SOON);
    let screen = pty.screen();
    assert!(screen.contains("codex-pool: alice is at its limit; bob goes on"), "{screen}");
    assert!(!screen.contains("running as bob"), "{screen}");
}

#[test]
fn wait_that_means_nothing_is_said() {
    let world = world(&["alice", "bob"]);
    let said = |output: &testkit::Output| {
        output.stderr.matches("codex-pool: CODEX_POOL_CARRY_WAIT: must be a time such as 90s").count()
    };
    for wait in ["banana", "6"] {
        world.backend().limit_after("alice", 0, Limit::Refuse);
        let output = exec(&world).env("CODEX_POOL_CARRY_WAIT", wait).run().ok();
        assert_eq!(said(&output), 1, "{wait:?}: {output}");
    }
    let output = exec(&world).env("CODEX_POOL_CARRY_WAIT", "0s").run().ok();
    assert_eq!(said(&output), 0, "{output}");
}

#[test]
fn wait_of_a_launch_that_is_not_carried_on_is_a_usage_error() {
    let world = world(&["alice", "bob"]);
    for args in [&["alice"][..], &["--program", "/bin/true"]] {
        let output =
            world.pool(&[&["run", "--carry-wait", "1h"], args, &["--", "exec", "hi"]].concat()).run();
        let output = output.expect(2);
        assert!(output.stderr.contains("`codex-pool run --carry-wait 1h -- exec …`"), "{output}");
    }
    assert!(world.backend().report().turns.is_empty());
}

#[test]
fn home_that_is_moving_is_shown() {
    let world = world(&["alice", "bob"]);
    let mark = serde_json::json!({
        "version": 1, "home": world.codex_home().join("auth.json"), "from": world.id("alice"),
        "to": world.id("bob"), "server": [1, 1], "threads": [], "at_ms": testkit::now() * 1_000,
    });
    world.write_private(&world.pool_home().join("moving/mark"), &mark.to_string());
    let shown = world.pool(&["list"]).run().ok().stdout;
    assert!(shown.contains("session: moving from alice to bob"), "{shown}");
    assert_eq!(moves(&world, "why")[0]["state"], "moving");
}

#[test]
fn why_says_that_work_is_not_carried_on_here() {
    let world = world(&["alice", "bob"]);
    let said =
        |world: &World| world.pool(&["why"]).run().ok().stdout.contains("Work stops at an account's limit");
    assert!(!said(&world));
    world.settings("carry_on = false\n");
    assert!(said(&world));
    assert_eq!(world.pool(&["why", "--json"]).run().ok().json()["carry_on"], false);
}
