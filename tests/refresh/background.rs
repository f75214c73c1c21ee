//! `refresh --background`, which the shim starts: silent, only what is due, nothing twice.

use std::time::Duration;

use serde_json::Value;
use testkit::backend::{LoginSpec, Route, UserSpec};

use super::{account, add, age_cache, list, pool_of, refresh_token, settings, stored};

/// Tells the shim where the admin command is, as the installer does.
pub(super) fn install(sandbox: &testkit::Sandbox) {
    let admin = sandbox.home().join(".local/bin/codex-pool");
    std::os::unix::fs::symlink(admin, sandbox.pool_home().join("bin/codex-pool")).expect("link it");
}

#[test]
fn it_says_nothing_and_asks_only_for_what_is_due() {
    let sandbox = pool_of(&["alice", "bob"]);
    let quiet = || {
        let output = sandbox.pool(&["refresh", "--background"]).run().ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    };
    quiet();
    assert!(account(&list(&sandbox), "bob")["usage"].is_object());
    quiet();
    assert_eq!(sandbox.backend().report().usage.len(), 2, "five minutes are not over");
    age_cache(&sandbox, 301);
    sandbox.pool(&["disable", "bob"]).run().ok();
    quiet();
    assert_eq!(sandbox.backend().report().usage_of("alice").len(), 2);
    assert_eq!(sandbox.backend().report().usage_of("bob").len(), 1, "nobody will pick bob");
}

#[test]
fn many_at_once_ask_once() {
    let sandbox = pool_of(&["alice", "bob"]);
    settings(&sandbox, "min_poll_interval = \"60s\"\n");
    sandbox.backend().set_latency(Route::Usage, Duration::from_millis(100));
    let all: Vec<_> = (0..8).map(|_| sandbox.pool(&["refresh", "--background"]).spawn()).collect();
    for running in all {
        running.wait().ok();
    }
    assert_eq!(sandbox.backend().report().usage.len(), 2);
}

#[test]
fn for_one_account_it_is_about_its_token_alone() {
    let sandbox = pool_of(&["bob"]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(300));
    sandbox.pool(&["refresh", "--background", "alice"]).run().ok();
    assert_eq!(refresh_token(&stored(&sandbox, "alice")), sandbox.backend().newest_refresh_token("alice"));
    let report = sandbox.backend().report();
    assert_eq!((report.refreshes.len(), report.usage.len()), (1, 0));
}

#[test]
fn without_a_network_launches_are_told_not_to_wait() {
    let sandbox = pool_of(&["alice"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    sandbox.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("http://{closed}/backend-api").into());
    });
    sandbox.pool(&["refresh", "--background"]).run().expect(1);
    let cache = || -> Value {
        let text = std::fs::read_to_string(sandbox.pool_home().join("usage.json")).expect("a cache");
        serde_json::from_str(&text).expect("JSON")
    };
    let until = cache()["no_wait_until"].as_i64().expect("a time");
    let at = cache()["accounts"].as_object().and_then(|a| a.values().next()?["attempt"]["at"].as_i64());
    assert!(at.is_some_and(|at| (295..=300).contains(&(until - at))), "{}", cache());
    let url = sandbox.backend().chatgpt_base_url();
    sandbox.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), url.into());
    });
    sandbox.pool(&["refresh"]).run().ok();
    assert!(cache()["no_wait_until"].is_null(), "{}", cache());
}
