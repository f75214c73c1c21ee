//! `refresh --background`, which the shim starts: silent, only what is due, nothing twice.

use std::time::Duration;

use serde_json::Value;
use testkit::backend::{LoginSpec, Route, UserSpec};

use super::{account, add, list, pool_of, refresh_token, settings, stored};

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
    sandbox.age_usage(301);
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

/// Data so old that launches refresh it, but not so old that they wait for it.
fn stale(names: &[&str]) -> testkit::Sandbox {
    let sandbox = pool_of(names);
    sandbox.pool(&["refresh"]).run().ok();
    install(&sandbox);
    sandbox.age_usage(400);
    sandbox.backend().clear_report();
    sandbox
}

#[test]
fn a_launch_starts_it_beside_codex_and_leaves_no_trace() {
    let sandbox = stale(&["alice", "bob"]);
    sandbox.backend().set_latency(Route::Usage, Duration::from_millis(700));
    let hold = sandbox.backend().hold("alice");
    let hold_bob = sandbox.backend().hold("bob");
    let codex = sandbox.codex(&["exec", "hi"]).spawn();
    sandbox.backend().wait_for("usage requests", LIMIT, |r| r.max_usage_in_flight == 2);
    let refresh = sandbox.processes().into_iter().find(|p| p.argv.iter().any(|a| a == "--background"));
    let refresh = refresh.expect("a refresh").pid;
    let codex_pid = i32::try_from(codex.pid()).expect("a pid");
    let stat = |pid: i32| process(pid).expect("a process");
    assert_ne!(stat(refresh).parent, codex_pid, "it is nobody's child");
    assert_ne!(stat(refresh).session, stat(codex_pid).session, "and on no terminal");
    let descriptors = std::fs::read_dir(format!("/proc/{refresh}/fd")).expect("descriptors");
    for descriptor in descriptors.flatten() {
        let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
        let name = descriptor.file_name().to_string_lossy().into_owned();
        let ours = matches!(name.as_str(), "0" | "1" | "2");
        assert!(!ours || target.ends_with("null"), "{name} is {target:?}");
    }
    testkit::wait_until("its end", LIMIT, || process(refresh).is_none());
    let children = |pid: i32| {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(process).filter(|p| p.parent == pid).count()
    };
    assert_eq!(children(codex_pid), 0, "no zombie under Codex");
    drop((hold, hold_bob));
    let output = codex.wait().ok();
    assert_eq!(output.stderr, "", "silent");
    assert_eq!(sandbox.backend().report().usage.len(), 2);
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

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn many_launches_at_once_start_it_once() {
    let sandbox = stale(&["alice", "bob", "carol"]);
    settings(&sandbox, "");
    sandbox.backend().set_latency(Route::Usage, Duration::from_millis(200));
    let all: Vec<_> = (0..8).map(|_| sandbox.codex(&["exec", "hi"]).spawn()).collect();
    for running in all {
        running.wait().ok();
    }
    sandbox.backend().wait_for("three answers", LIMIT, |r| r.usage.len() == 3);
    testkit::wait_until("its end", LIMIT, || sandbox.processes().is_empty());
    assert_eq!(sandbox.backend().report().usage.len(), 3, "each account once");
}

#[test]
fn with_nothing_of_use_a_launch_waits_but_not_for_ever_and_not_twice() {
    let sandbox = pool_of(&["alice", "bob"]);
    install(&sandbox);
    sandbox.backend().inject(Route::Usage, testkit::backend::Fault::Hang);
    let first = sandbox.codex(&["exec", "hi"]).run().ok();
    assert!(first.took >= Duration::from_millis(1_400), "{:?}", first.took);
    assert!(first.took < Duration::from_secs(8), "{:?}", first.took);
    let second = sandbox.codex(&["exec", "hi"]).run().ok();
    assert!(second.took < Duration::from_millis(1_400), "{:?}", second.took);
    assert_eq!((first.stderr.as_str(), second.stderr.as_str()), ("", ""));
}

#[test]
fn with_nothing_of_use_a_launch_waits_for_the_answers_and_picks_by_them() {
    let sandbox = pool_of(&["alice", "bob"]);
    install(&sandbox);
    sandbox.backend().set_usage("alice", testkit::backend::Usage::percent(100.0, 50.0));
    let output = sandbox.codex(&["exec", "hi"]).run().ok();
    assert!(output.stdout.contains("hello from bob"), "{}", output.stdout);
    assert_eq!(sandbox.backend().report().usage.len(), 2);
}
