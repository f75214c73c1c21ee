//! Usage from Codex's own session logs, with the real Codex: no request is made for it.

use std::time::Duration;

use testkit::World;
use testkit::backend::{Usage, Window};

use super::{account, listing, refresh};

/// Alice ranks first and is near her limit; bob has plenty. Usage is known and will not be asked for again.
fn alice_near_her_limit() -> Option<World> {
    let world = World::real(&["alice", "bob"])?;
    world.settings("usage_max_age = \"1d\"\n");
    let week = |used| Some(Window::week(used));
    let alice = Usage::windows(Some(Window::five_hours(20.0)), week(10.0)).costing(40.0);
    let bob = Usage::windows(Some(Window::five_hours(0.0)), Some(Window::week(10.0).resets_in(500_000)));
    world.backend().set_usage("alice", alice);
    world.backend().set_usage("bob", bob);
    refresh(&world);
    world.backend().clear_report();
    Some(world)
}

fn exec(world: &World, env: &[(&str, &str)], args: &[&str]) -> String {
    let mut all = vec!["exec", "--skip-git-repo-check"];
    all.extend(args);
    let mut cmd = world.codex(&all).timeout(Duration::from_secs(60));
    for (name, value) in env {
        cmd = cmd.env(name, value);
    }
    cmd.run().stdout
}

const ALICE: [(&str, &str); 1] = [("CODEX_POOL_ACCOUNT", "alice")];
const BOB: [(&str, &str); 1] = [("CODEX_POOL_ACCOUNT", "bob")];

#[test]
fn limit_in_codexs_own_log_counts_at_the_next_launch() {
    let Some(world) = alice_near_her_limit() else { return };
    assert!(exec(&world, &ALICE, &["one"]).contains("hello from alice"));
    let answer = listing(&world);
    let usage = &account(&answer, "alice")["usage"];
    assert_eq!(
        (&usage["source"], &usage["windows"][0]["used_percent"]),
        (&"session_log".into(), &60.0.into())
    );
    assert_eq!(usage["windows"][1]["name"], "1week");
    let history = world.pool(&["history", "--json", "alice"]).run().ok().json();
    let readings =
        history.pointer("/accounts/0/windows/0/readings").and_then(|r| r.as_array()).expect("readings");
    let used: Vec<_> = readings.iter().map(|reading| reading["used_percent"].as_f64()).collect();
    assert_eq!(used, [Some(20.0), Some(60.0)], "an answer of the service, and the log");
    // The second turn brings her to the limit; `list` in between must not make the pool forget.
    exec(&world, &ALICE, &["two"]);
    world.list();
    assert!(exec(&world, &[], &["three"]).contains("hello from bob"));
    let answer = listing(&world);
    assert_eq!(account(&answer, "alice")["state"], "exhausted", "{answer}");
    let report = world.backend().report();
    assert_eq!((report.usage.len(), report.turns_of("alice").len(), report.turns_of("bob").len()), (0, 2, 1));
}

#[test]
fn session_resumed_under_another_account_says_nothing_of_its_creator() {
    let Some(world) = alice_near_her_limit() else { return };
    exec(&world, &ALICE, &["one"]);
    let before = world.account("alice")["usage"].clone();
    let mut full = world.backend().usage("bob");
    full.turn_cost = 100.0;
    world.backend().set_usage("bob", full);
    let thread = world.backend().report().turns[0].session().expect("a thread").to_owned();
    assert!(exec(&world, &BOB, &["resume", &thread, "two"]).contains("hello from bob"));
    let after = listing(&world);
    assert_eq!(account(&after, "alice")["usage"], before, "bob's limit is not hers");
    assert_eq!(account(&after, "bob")["usage"]["source"], "api", "the session is not his");
}

#[test]
fn logs_of_two_accounts_at_work_are_told_apart_by_their_resets() {
    let Some(world) = alice_near_her_limit() else { return };
    let hold = world.backend().hold("bob");
    let mut bobs = world.codex(&["exec", "--skip-git-repo-check", "long"]);
    for (name, value) in BOB {
        bobs = bobs.env(name, value);
    }
    let bobs = bobs.spawn();
    hold.wait_for(1, Duration::from_secs(30));
    exec(&world, &ALICE, &["one"]);
    let usage = world.account("alice")["usage"].clone();
    assert_eq!(
        (&usage["source"], &usage["windows"][0]["used_percent"]),
        (&"session_log".into(), &60.0.into())
    );
    drop(hold);
    bobs.wait().ok();
}
