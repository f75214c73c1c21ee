//! The log of what the pool did, `why --last`, and the file for a bug report.

use std::fs;

use serde_json::Value;
use testkit::World;
use testkit::backend::{Limit, Usage};

use super::{pool_of, use_up};

/// The events of `log --json`, the oldest first: what happened, and the label.
fn events(world: &World, args: &[&str]) -> Vec<(String, String)> {
    let all: Vec<&str> = ["log", "--json"].into_iter().chain(args.iter().copied()).collect();
    let answer = world.pool(&all).run().ok().json();
    assert_eq!(answer["schema"], 1);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let entries = answer["entries"].as_array().expect("entries");
    entries.iter().map(|entry| (text(&entry["event"]), text(&entry["label"]))).collect()
}

fn has(events: &[(String, String)], event: &str, label: &str) -> bool {
    events.iter().any(|(what, who)| what == event && who == label)
}

#[test]
fn launches_switches_limits_and_logins_are_in_the_log() {
    let world = pool_of(&["alice", "bob"]);
    assert!(has(&events(&world, &[]), "adoption", "alice"));
    use_up(&world, "alice", 30.0, 30.0);
    use_up(&world, "bob", 50.0, 50.0);
    world.exec().run().ok();
    use_up(&world, "alice", 100.0, 60.0);
    world.exec().run().ok();
    world.exec_as("stranger").run();
    world.backend().revoke_logins("alice");
    world.backend().reject_access_tokens("alice");
    world.pool(&["refresh", "alice"]).run();
    let all = events(&world, &[]);
    let expected = [
        ("switch", "alice"),
        ("launch", "alice"),
        ("limit", "alice"),
        ("switch", "bob"),
        ("launch", "bob"),
        ("refusal", "-"),
        ("login_ended", "alice"),
    ];
    for (event, label) in expected {
        assert!(has(&all, event, label), "no {event} of {label} in {all:?}");
    }
    let bobs = events(&world, &["bob"]);
    assert!(has(&bobs, "launch", "bob") && !has(&bobs, "launch", "alice"), "{bobs:?}");
    world.pool(&["log", "--since", "soon"]).run().expect(2);
    world.pool(&["log", "nobody-of-ours"]).run().expect(3);
    let text = world.pool(&["log"]).run().ok().stdout;
    let launch = text.lines().find(|line| line.contains("launch") && line.contains("bob")).expect("a line");
    assert!(launch.contains("codex exec in ") && launch.contains("was alice"), "{launch}");
}

#[test]
fn later_run_of_a_carried_exec_says_why_it_began() {
    let world = pool_of(&["alice", "bob"]);
    world.settings("background_refresh = false\nattend = false\n");
    world.rank(&["alice", "bob"]);
    world.make_live("alice");
    world.backend().limit_after("alice", 0, Limit::Refuse);
    world.exec().env("STANDIN_LOG", "1").run().ok().says("hello from bob");
    let text = world.pool(&["log"]).run().ok().stdout;
    let launch = text.lines().find(|line| line.contains("launch") && line.contains("was alice"));
    let launch = launch.unwrap_or_else(|| panic!("{text}"));
    assert!(launch.ends_with("; it goes on after a limit"), "{text}");
    // Where it was to stay on the account that is live, too.
    world.exec().run().ok();
    let why = world.pool(&["why", "--last"]).run().ok().stdout;
    assert!(!why.contains("it was there"), "{why}");
}

#[test]
fn logout_in_codex_is_in_the_log() {
    let world = pool_of(&["alice", "bob"]);
    world.exec_as("alice").run().ok();
    world.codex(&["logout"]).run().ok();
    assert!(has(&events(&world, &[]), "login_ended", "alice"), "{:?}", events(&world, &[]));
}

#[test]
fn why_last_explains_the_launch_before() {
    let world = pool_of(&["alice", "bob"]);
    assert!(world.pool(&["why", "--last"]).run().ok().stdout.contains("No launch"));
    use_up(&world, "alice", 80.0, 30.0);
    use_up(&world, "bob", 0.0, 10.0);
    world.exec().run().ok();
    let why = world.pool(&["why", "--last"]).run().ok().stdout;
    assert!(why.contains("`codex exec`") && why.contains("ran as bob"), "{why}");
    assert!(why.contains("because: "), "{why}");
    world.exec_as("alice").run().ok();
    let why = world.pool(&["why", "--last"]).run().ok().stdout;
    assert!(why.contains("ran as alice") && why.contains("asked for by name"), "{why}");
    let json = world.pool(&["why", "--last", "--json"]).run().ok().json();
    assert_eq!((&json["launch"]["label"], &json["launch"]["event"]), (&"alice".into(), &"launch".into()));
}

#[test]
fn launch_that_stays_on_another_account_says_why_it_does() {
    let world = pool_of(&["alice", "bob"]);
    world.settings("min_poll_interval = \"0s\"\nparallel = \"off\"\nattend = false\n");
    use_up(&world, "alice", 10.0, 10.0);
    use_up(&world, "bob", 100.0, 100.0);
    let session = world.hold(world.exec());
    use_up(&world, "alice", 100.0, 100.0);
    use_up(&world, "bob", 0.0, 0.0);
    world.exec().run();
    let json = world.pool(&["why", "--last", "--json"]).run().ok().json();
    assert_eq!(json["launch"]["label"], "alice", "{json}");
    let why = json["launch"]["why"].as_str().expect("a reason");
    assert!(why.contains("not bob") && why.contains("parallel"), "{why}");
    world.open_gate();
    session.wait();
}

#[test]
fn launch_without_the_lock_is_in_the_log_too() {
    let world = pool_of(&["alice"]);
    world.exec().run().ok();
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    world.exec().run();
    drop(lock);
    let json = world.pool(&["why", "--last", "--json"]).run().ok().json();
    assert_eq!(json["launch"]["event"], "refusal", "{json}");
    assert!(json["launch"]["why"].as_str().is_some_and(|why| why.contains("locked")), "{json}");
}

#[test]
fn log_that_cannot_be_written_stops_no_launch() {
    let world = pool_of(&["alice"]);
    let log = world.pool_home().join("log.jsonl");
    fs::remove_file(&log).ok();
    fs::create_dir(&log).expect("a folder in its place");
    assert!(world.exec().run().ok().stdout.contains("hello from alice"));
    assert!(world.pool(&["log"]).run().ok().stdout.contains("Nothing is in the log"));
}

#[test]
fn bundle_has_the_facts_and_tells_nobody_who_the_user_is() {
    let world = pool_of(&["alice", "bob"]);
    world.settings("notify = [\"curl\", \"https://example.com/hook/abc\"]\nsession_room = 30\n");
    world.backend().set_usage("alice", Usage::percent(100.0, 30.0));
    world.pool(&["refresh"]).run().ok();
    world.exec().run().ok();
    world.pool(&["doctor", "--bundle", "report.json"]).run();
    let path = world.work().join("report.json");
    let text = fs::read_to_string(path).expect("a bundle");
    let bundle: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&bundle["schema"], &bundle["settings"]["set"]["session_room"]), (&1.into(), &30.into()));
    assert_eq!(bundle["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(bundle["accounts"].as_array().map(Vec::len), Some(2));
    assert!(bundle["log"].as_array().is_some_and(|log| log.iter().any(|e| e["event"] == "launch")), "{text}");
    assert!(bundle["checks"].as_array().is_some_and(|checks| checks.len() > 5));
    let home = world.home().to_string_lossy().into_owned();
    for told in ["alice", "bob", "example.com", "hook/abc", &home] {
        assert!(!text.contains(told), "{told} is in {text}");
    }
    world.assert_no_secret(&text);
}
