//! `refresh --background`, which the shim starts: it is silent, asks only for what is due, and nothing twice.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use testkit::backend::{LoginSpec, Route, UserSpec, refresh_token};
use testkit::{SOON, World};

use super::pool_of;

#[test]
fn background_refresh_is_silent_and_asks_only_for_what_is_due() {
    let world = pool_of(&["alice", "bob"]);
    let quiet = || {
        let output = world.pool(&["refresh", "--background"]).run().ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    };
    quiet();
    assert!(world.account("bob")["usage"].is_object());
    quiet();
    assert_eq!(world.backend().report().usage.len(), 2, "five minutes are not over");
    world.age_usage(301);
    world.pool(&["disable", "bob"]).run().ok();
    quiet();
    assert_eq!(world.backend().report().usage_of("alice").len(), 2);
    assert_eq!(world.backend().report().usage_of("bob").len(), 1, "bob is not picked");
}

#[test]
fn background_refresh_forgets_threads_that_are_gone_once_a_day() {
    let world = pool_of(&["alice"]);
    let day = world.codex_home().join("sessions/2026/11/25");
    let record = |number: u8| {
        let id = format!("01a2148a-1509-7203-9900-6a00d5afb7{number:02x}");
        let log = day.join(format!("rollout-2026-11-25T21-08-43-{id}.jsonl"));
        let account = world.id("alice");
        let record = serde_json::json!({"version": 1, "account": account, "since": 1, "log": log});
        let path = world.pool_home().join("threads").join(id);
        world.write_private(&path, &record.to_string());
        (path, log)
    };
    let (there, log) = record(1);
    fs::create_dir_all(&day).expect("make a folder");
    fs::write(log, "{}\n").expect("write a log");
    let (gone, _) = record(2);
    let refresh = || {
        world.pool(&["refresh", "--background"]).run().ok();
        assert!(there.exists());
        gone.exists()
    };
    assert!(!refresh());
    record(2);
    assert!(refresh(), "a day is not over");
    let path = world.pool_home().join("state.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a state")).expect("JSON");
    let seen = state["threads_seen"].as_i64().expect("a time");
    state["threads_seen"] = (seen - 86_400).into();
    world.write_private(&path, &state.to_string());
    assert!(!refresh());
}

#[test]
fn background_refreshes_at_once_ask_once() {
    let world = pool_of(&["alice", "bob"]);
    world.settings("min_poll_interval = \"60s\"\n");
    world.backend().set_latency(Route::Usage, Duration::from_millis(100));
    let all: Vec<_> = (0..8).map(|_| world.pool(&["refresh", "--background"]).spawn()).collect();
    for running in all {
        running.wait().ok();
    }
    assert_eq!(world.backend().report().usage.len(), 2);
}

#[test]
fn background_refresh_of_one_account_concerns_its_token_alone() {
    let world = pool_of(&["bob"]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(300));
    world.pool(&["refresh", "--background", "alice"]).run().ok();
    assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
    let report = world.backend().report();
    assert_eq!((report.refreshes.len(), report.usage.len()), (1, 0));
}

#[test]
fn launches_are_told_not_to_wait_without_a_network() {
    let world = pool_of(&["alice"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("http://{closed}/backend-api").into());
    });
    world.pool(&["refresh", "--background"]).run().expect(1);
    let cache = || -> Value {
        let text = std::fs::read_to_string(world.pool_home().join("usage.json")).expect("a cache");
        serde_json::from_str(&text).expect("JSON")
    };
    let until = cache()["no_wait_until"].as_i64().expect("a time");
    let at = cache()["accounts"].as_object().and_then(|a| a.values().next()?["attempt"]["at"].as_i64());
    assert!(at.is_some_and(|at| (295..=300).contains(&(until - at))), "{}", cache());
    let url = world.backend().chatgpt_base_url();
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), url.into());
    });
    world.pool(&["refresh"]).run().ok();
    assert!(cache()["no_wait_until"].is_null(), "{}", cache());
}

/// Data so old that launches refresh it, but not so old that they wait for it.
fn stale(names: &[&str]) -> World {
    let world = pool_of(names);
    world.pool(&["refresh"]).run().ok();
    world.link_admin();
    world.age_usage(400);
    world.backend().clear_report();
    world
}

#[test]
fn launch_starts_a_refresh_beside_codex_and_leaves_no_trace() {
    let world = stale(&["alice", "bob"]);
    world.backend().set_latency(Route::Usage, Duration::from_millis(700));
    let hold = world.backend().hold("alice");
    let hold_bob = world.backend().hold("bob");
    // An exec that could be carried on has a parent, and its Codex another pid.
    let codex = world.codex(&["exec", "hi"]).env("CODEX_POOL_CARRY_ON", "0").spawn();
    world.backend().wait_for("usage requests", SOON, |r| r.max_usage_in_flight == 2);
    let refresh = world.processes().into_iter().find(|p| p.argv.iter().any(|a| a == "--background"));
    let refresh = refresh.expect("a refresh").pid;
    let codex_pid = i32::try_from(codex.pid()).expect("a pid");
    let stat = |pid: i32| process(pid).expect("a process");
    assert_ne!(stat(refresh).parent, codex_pid, "it is not a child of Codex");
    assert_ne!(stat(refresh).session, stat(codex_pid).session, "and on no terminal");
    let descriptors = std::fs::read_dir(format!("/proc/{refresh}/fd")).expect("descriptors");
    for descriptor in descriptors.flatten() {
        let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
        let name = descriptor.file_name().to_string_lossy().into_owned();
        let ours = matches!(name.as_str(), "0" | "1" | "2");
        assert!(!ours || target.ends_with("null"), "{name} is {target:?}");
    }
    testkit::wait_until("its end", SOON, || process(refresh).is_none());
    let children = |pid: i32| {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(process).filter(|p| p.parent == pid).count()
    };
    assert_eq!(children(codex_pid), 0, "no zombie under Codex");
    drop((hold, hold_bob));
    let output = codex.wait().ok();
    assert_eq!(output.stderr, "", "silent");
    assert_eq!(world.backend().report().usage.len(), 2);
}

#[derive(Debug)]
struct Stat {
    parent: i32,
    session: i32,
}

fn process(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit(')').next()?.split_whitespace().skip(1).map(|n| n.parse().ok());
    let (parent, _group, session) = (fields.next()??, fields.next()??, fields.next()??);
    Some(Stat { parent, session })
}

#[test]
fn launches_at_once_start_one_refresh() {
    let world = stale(&["alice", "bob", "carol"]);
    world.settings("");
    world.backend().set_latency(Route::Usage, Duration::from_millis(200));
    let all: Vec<_> = (0..8).map(|_| world.codex(&["exec", "hi"]).spawn()).collect();
    for running in all {
        running.wait().ok();
    }
    world.backend().wait_for("three answers", SOON, |r| r.usage.len() == 3);
    testkit::wait_until("its end", SOON, || world.processes().is_empty());
    assert_eq!(world.backend().report().usage.len(), 3, "each account once");
}

#[test]
fn launch_without_usage_waits_neither_for_ever_nor_twice() {
    let world = pool_of(&["alice", "bob"]);
    world.link_admin();
    world.backend().inject(Route::Usage, testkit::backend::Fault::Hang);
    let first = world.codex(&["exec", "hi"]).run().ok();
    assert!(first.took >= Duration::from_millis(1_400), "{:?}", first.took);
    assert!(first.took < Duration::from_secs(8), "{:?}", first.took);
    let second = world.codex(&["exec", "hi"]).run().ok();
    assert!(second.took < Duration::from_millis(1_400), "{:?}", second.took);
    assert_eq!((first.stderr.as_str(), second.stderr.as_str()), ("", ""));
}

#[test]
fn launch_without_usage_waits_for_answers_and_picks_by_them() {
    let world = pool_of(&["alice", "bob"]);
    world.link_admin();
    world.backend().set_usage("alice", testkit::backend::Usage::percent(100.0, 50.0));
    let output = world.codex(&["exec", "hi"]).run().ok();
    assert!(output.stdout.contains("hello from bob"), "{}", output.stdout);
    assert_eq!(world.backend().report().usage.len(), 2);
}
