//! Usage from Codex's own session logs, with the real Codex: no request is made for it.

use std::time::Duration;

use testkit::Sandbox;
use testkit::backend::{LoginSpec, Usage, UserSpec, Window};

use super::{account, add, list, refresh, settings};

/// Alice ranks first and is near her limit; bob has plenty. Usage is known and will not be asked for again.
fn alice_near_her_limit() -> Sandbox {
    let sandbox = Sandbox::real();
    settings(&sandbox, "usage_max_age = \"1d\"\n");
    for name in ["alice", "bob"] {
        add(&sandbox, name, UserSpec::new(name), &LoginSpec::default());
    }
    let week = |used| Some(Window::week(used));
    let alice = Usage::windows(Some(Window::five_hours(20.0)), week(10.0)).costing(40.0);
    let bob = Usage::windows(Some(Window::five_hours(0.0)), Some(Window::week(10.0).resets_in(500_000)));
    sandbox.backend().set_usage("alice", alice);
    sandbox.backend().set_usage("bob", bob);
    refresh(&sandbox);
    sandbox.backend().clear_report();
    sandbox
}

fn exec(sandbox: &Sandbox, env: &[(&str, &str)], args: &[&str]) -> String {
    let mut all = vec!["exec", "--skip-git-repo-check"];
    all.extend(args);
    let mut cmd = sandbox.codex(&all).timeout(Duration::from_secs(60));
    for (name, value) in env {
        cmd = cmd.env(name, value);
    }
    cmd.run().stdout
}

const ALICE: [(&str, &str); 1] = [("CODEX_POOL_ACCOUNT", "alice")];
const BOB: [(&str, &str); 1] = [("CODEX_POOL_ACCOUNT", "bob")];

#[test]
fn a_limit_in_codexs_own_log_counts_at_the_next_launch() {
    let sandbox = alice_near_her_limit();
    assert!(exec(&sandbox, &ALICE, &["one"]).contains("hello from alice"));
    let answer = list(&sandbox);
    let usage = &account(&answer, "alice")["usage"];
    assert_eq!(
        (&usage["source"], &usage["windows"][0]["used_percent"]),
        (&"session_log".into(), &60.0.into())
    );
    assert_eq!(usage["windows"][1]["name"], "1week");
    // The second turn brings her to the limit; `list` in between must not make the pool forget.
    exec(&sandbox, &ALICE, &["two"]);
    list(&sandbox);
    assert!(exec(&sandbox, &[], &["three"]).contains("hello from bob"));
    let answer = list(&sandbox);
    assert_eq!(account(&answer, "alice")["state"], "exhausted", "{answer}");
    let report = sandbox.backend().report();
    assert_eq!((report.usage.len(), report.turns_of("alice").len(), report.turns_of("bob").len()), (0, 2, 1));
}

#[test]
fn a_session_resumed_under_another_account_says_nothing_of_its_creator() {
    let sandbox = alice_near_her_limit();
    exec(&sandbox, &ALICE, &["one"]);
    let before = account(&list(&sandbox), "alice")["usage"].clone();
    let mut full = sandbox.backend().usage("bob");
    full.turn_cost = 100.0;
    sandbox.backend().set_usage("bob", full);
    let thread = sandbox.backend().report().turns[0].session().expect("a thread").to_owned();
    assert!(exec(&sandbox, &BOB, &["resume", &thread, "two"]).contains("hello from bob"));
    let after = list(&sandbox);
    assert_eq!(account(&after, "alice")["usage"], before, "bob's limit is not hers");
    assert_eq!(account(&after, "bob")["usage"]["source"], "api", "the session is not his");
}

#[test]
fn with_two_accounts_at_work_at_once_the_resets_tell_whose_it_is() {
    let sandbox = alice_near_her_limit();
    let hold = sandbox.backend().hold("bob");
    let mut bobs = sandbox.codex(&["exec", "--skip-git-repo-check", "long"]);
    for (name, value) in BOB {
        bobs = bobs.env(name, value);
    }
    let bobs = bobs.spawn();
    hold.wait_for(1, Duration::from_secs(30));
    exec(&sandbox, &ALICE, &["one"]);
    let usage = account(&list(&sandbox), "alice")["usage"].clone();
    assert_eq!(
        (&usage["source"], &usage["windows"][0]["used_percent"]),
        (&"session_log".into(), &60.0.into())
    );
    drop(hold);
    bobs.wait().ok();
}
