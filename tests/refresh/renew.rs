//! Renewal: early, once, durable before use, into the home, and honest after a crash.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::{Fault, LoginSpec, Route, UserSpec};

use super::{account, add, import, list, pool_of, refresh, refresh_token, settings, stored};

/// Seconds of a day that is nearly over.
const SOON: i64 = 20 * 3_600;

#[test]
fn a_token_with_under_a_day_left_is_renewed_into_pool_and_home() {
    let sandbox = pool_of(&["bob"]);
    sandbox.backend().add_user("alice", UserSpec::new("alice"));
    let mut login = LoginSpec { refreshed_ago: 9 * 86_400, ..LoginSpec::expires_in(SOON) };
    login.extra.insert("from_the_future".to_owned(), json!({"kept": [1, 2]}));
    let before = sandbox.backend().auth_json_with("alice", &login);
    sandbox.write_live(&before);
    import(&sandbox, "alice", &before);
    refresh(&sandbox);
    let after = sandbox.live().expect("a live document");
    assert_eq!(after, stored(&sandbox, "alice"), "one document in both places");
    assert_eq!(refresh_token(&after), sandbox.backend().newest_refresh_token("alice"));
    let (before, after): (Value, Value) =
        (serde_json::from_str(&before).expect("JSON"), serde_json::from_str(&after).expect("JSON"));
    assert_eq!(after["from_the_future"], before["from_the_future"]);
    assert_eq!(after["tokens"]["account_id"], before["tokens"]["account_id"]);
    assert!(after["last_refresh"].as_str() > before["last_refresh"].as_str(), "{after}");
    let report = sandbox.backend().report();
    assert_eq!((report.refreshes.len(), report.refreshes_of("bob").len()), (1, 0), "bob's has ten days left");
    refresh(&sandbox);
    assert_eq!(sandbox.backend().report().refreshes.len(), 1);
    sandbox.backend().assert_clean();
}

#[test]
fn what_the_answer_lacks_is_kept_from_before() {
    for missing in [&["id_token"][..], &["refresh_token"], &["id_token", "refresh_token"], &["access_token"]]
    {
        let sandbox = pool_of(&[]);
        add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
        let before: Value = serde_json::from_str(&stored(&sandbox, "alice")).expect("JSON");
        sandbox.backend().omit_from_refresh(missing);
        let answer = refresh(&sandbox);
        assert!(account(&answer, "alice")["error"].is_null(), "{missing:?}: {answer}");
        let after: Value = serde_json::from_str(&stored(&sandbox, "alice")).expect("JSON");
        for name in ["id_token", "access_token", "refresh_token"] {
            let same = after["tokens"][name] == before["tokens"][name];
            assert_eq!(same, missing.contains(&name), "{name} when {missing:?} is missing");
        }
        sandbox.backend().assert_clean();
    }
}

#[test]
fn eight_refreshers_renew_once_and_one_account_at_a_time() {
    let sandbox = pool_of(&[]);
    for name in ["alice", "bob", "carol"] {
        add(&sandbox, name, UserSpec::new(name), &LoginSpec::expires_in(SOON));
    }
    sandbox.backend().set_latency(Route::Token, Duration::from_millis(50));
    let all: Vec<_> = (0..8).map(|_| sandbox.pool(&["refresh", "--json"]).spawn()).collect();
    for running in all {
        running.wait().ok();
    }
    let report = sandbox.backend().report();
    assert_eq!((report.refreshes.len(), report.max_refreshes_in_flight), (3, 1));
    for name in ["alice", "bob", "carol"] {
        assert_eq!(refresh_token(&stored(&sandbox, name)), sandbox.backend().newest_refresh_token(name));
    }
    sandbox.backend().assert_clean();
}

#[test]
fn a_token_rejected_before_its_time_is_renewed_when_nobody_uses_it() {
    let sandbox = pool_of(&["alice"]);
    sandbox.backend().reject_access_tokens("alice");
    let answer = refresh(&sandbox);
    assert!(account(&answer, "alice")["usage"].is_object(), "{answer}");
    assert_eq!(account(&answer, "alice")["state"], "ready");
    assert_eq!(sandbox.backend().report().refreshes_of("alice").len(), 1);
    sandbox.backend().assert_clean();
}

#[test]
fn a_token_rejected_before_its_time_is_left_to_the_session_that_uses_it() {
    let sandbox = pool_of(&["alice"]);
    let hold = sandbox.backend().hold("alice");
    let session = sandbox.codex(&["exec", "hi"]).spawn();
    hold.wait_for(1, Duration::from_secs(10));
    sandbox.backend().reject_access_tokens("alice");
    let failed = sandbox.pool(&["refresh", "alice"]).run().expect(1);
    assert!(failed.stderr.contains("the session that runs on it will notice"), "{}", failed.stderr);
    assert_eq!(account(&list(&sandbox), "alice")["state"], "expired");
    assert_eq!(sandbox.backend().report().refreshes.len(), 0);
    drop(hold);
    session.wait();
    sandbox.pool(&["refresh", "alice"]).run().ok();
    assert_eq!(account(&list(&sandbox), "alice")["state"], "ready");
}

#[test]
fn the_token_that_codex_rotated_in_the_home_is_the_one_that_is_sent() {
    let sandbox = pool_of(&[]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
    sandbox.pool(&["use", "alice"]).run().ok();
    // Codex rotates by itself, in the home, and its new token is near its end as well.
    sandbox.write_live(
        &sandbox
            .backend()
            .auth_json_with("alice", &LoginSpec { issued_ago: Some(60), ..LoginSpec::expires_in(SOON) }),
    );
    let rotated = refresh_token(&sandbox.live().expect("live"));
    refresh(&sandbox);
    let report = sandbox.backend().report();
    assert_eq!(report.refreshes_of("alice").iter().map(|r| r.token.as_str()).collect::<Vec<_>>(), [rotated]);
    sandbox.backend().assert_clean();
}

#[test]
fn a_renewal_that_was_killed_before_the_issuer_acted_is_simply_repeated() {
    let sandbox = pool_of(&[]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
    let before = stored(&sandbox, "alice");
    sandbox.backend().inject_times(Route::Token, None, Fault::HangUp, 1);
    sandbox.pool(&["refresh"]).run();
    assert_eq!(stored(&sandbox, "alice"), before);
    let answer = list(&sandbox);
    let error = account(&answer, "alice")["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("interrupted") && error.contains("codex-pool refresh alice"), "{error}");
    assert_eq!(account(&answer, "alice")["state"], "ready", "its access token still works");
    // The pause after a failure is the background's, not a person's, once the token has to be renewed.
    sandbox.forget_renewals();
    let answer = refresh(&sandbox);
    assert!(account(&answer, "alice")["error"].is_null(), "{answer}");
    assert_eq!(refresh_token(&stored(&sandbox, "alice")), sandbox.backend().newest_refresh_token("alice"));
    sandbox.backend().assert_clean();
}

#[test]
fn a_renewal_whose_answer_was_lost_ends_in_the_honest_answer() {
    let sandbox = pool_of(&[]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
    sandbox.backend().inject_times(Route::Token, None, Fault::LostAnswer, 1);
    sandbox.pool(&["refresh"]).run();
    assert!(account(&list(&sandbox), "alice")["error"].as_str().is_some_and(|e| e.contains("interrupted")));
    sandbox.forget_renewals();
    let failed = sandbox.pool(&["refresh", "alice"]).run().expect(5);
    assert!(failed.stderr.contains("its answer is lost"), "{}", failed.stderr);
    assert_eq!(account(&list(&sandbox), "alice")["state"], "reauth_required");
    // A new login of the same account puts it right.
    import(&sandbox, "alice", &sandbox.backend().auth_json("alice"));
    let answer = refresh(&sandbox);
    assert_eq!(account(&answer, "alice")["state"], "ready", "{answer}");
}

/// When a refresh is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    After(Duration),
    /// The issuer has acted, the answer is on its way.
    AnswerUnderWay,
    /// The new document is in the pool.
    Stored,
}

#[test]
fn killed_at_any_instant_the_pool_holds_the_old_token_or_the_new_one() {
    let sandbox = pool_of(&[]);
    sandbox.backend().set_latency(Route::Token, Duration::from_millis(20));
    let kills = (0..40).map(|n| Kill::After(Duration::from_millis(n)));
    let kills = kills.chain([Kill::AnswerUnderWay; 5]).chain([Kill::Stored; 5]);
    for (round, kill) in kills.enumerate() {
        let name = format!("user{round}");
        add(&sandbox, &name, UserSpec::new(&name), &LoginSpec::expires_in(SOON));
        sandbox.pool(&["use", &name]).run().ok();
        let document = sandbox.pool_home().join("auth").join(format!("{}.json", id(&sandbox, &name)));
        let read = || refresh_token(&std::fs::read_to_string(&document).expect("a document"));
        let old = read();
        let running = sandbox.pool(&["refresh", &name]).spawn();
        let limit = Duration::from_secs(10);
        match kill {
            Kill::After(time) => std::thread::sleep(time),
            Kill::AnswerUnderWay => {
                sandbox.backend().wait_for("a refresh", limit, |r| !r.refreshes_of(&name).is_empty());
            }
            Kill::Stored => testkit::wait_until("a new document", limit, || read() != old),
        }
        running.signal(Signal::SIGKILL);
        running.wait();
        let newest = sandbox.backend().newest_refresh_token(&name);
        let (held, live) = (read(), refresh_token(&sandbox.live().expect("a whole document")));
        let answer = list(&sandbox);
        assert!(
            held == old || held == newest,
            "{kill:?}: the pool has neither the old token nor the new one"
        );
        assert!(live == old || live == newest, "{kill:?}: nor has the home");
        if held == newest {
            // The home follows at the next run, if it had not yet.
            sandbox.pool(&["refresh", &name]).run();
            assert_eq!(read(), refresh_token(&sandbox.live().expect("a whole document")), "{kill:?}");
        } else {
            assert!(!matches!(kill, Kill::Stored), "{kill:?}: it was stored");
            let error = account(&answer, &name)["error"].as_str().unwrap_or_default().to_owned();
            assert!(
                error.contains("interrupted"),
                "{kill:?}: the answer is lost and nobody says so: {answer}"
            );
        }
    }
}

fn id(sandbox: &testkit::Sandbox, label: &str) -> String {
    account(&list(sandbox), label)["id"].as_str().expect("an id").to_owned()
}

#[test]
fn ctrl_c_waits_until_the_answer_is_stored() {
    let sandbox = pool_of(&[]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
    sandbox.backend().set_latency(Route::Token, Duration::from_millis(300));
    let running = sandbox.pool(&["refresh"]).spawn();
    sandbox.backend().wait_for("a refresh", Duration::from_secs(10), |r| !r.refreshes.is_empty());
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().signal(), Some(Signal::SIGINT as i32));
    assert_eq!(refresh_token(&stored(&sandbox, "alice")), sandbox.backend().newest_refresh_token("alice"));
    assert!(account(&list(&sandbox), "alice")["error"].is_null());
}

#[test]
fn an_answer_survives_a_pool_that_is_locked_by_a_stopped_process() {
    let sandbox = pool_of(&[]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
    sandbox.backend().set_latency(Route::Token, Duration::from_millis(300));
    let running = sandbox.pool(&["refresh"]).spawn();
    sandbox.backend().wait_for("a refresh", Duration::from_secs(10), |r| !r.refreshes.is_empty());
    let lock = std::fs::File::open(sandbox.pool_home().join("pool.lock")).expect("the lock's file");
    lock.lock().expect("lock it");
    // Longer than any of its tries; then the answer goes where no lock is needed.
    let rescued = || {
        let entries = std::fs::read_dir(sandbox.pool_home().join("lost+found")).into_iter().flatten();
        entries.flatten().any(|e| e.file_name().to_string_lossy().ends_with("-renewed.json"))
    };
    testkit::wait_until("a rescued answer", Duration::from_secs(90), rescued);
    drop(lock);
    running.wait();
    sandbox.pool(&["refresh"]).run().ok();
    assert_eq!(refresh_token(&stored(&sandbox, "alice")), sandbox.backend().newest_refresh_token("alice"));
    assert!(!rescued());
    sandbox.backend().assert_clean();
}

#[test]
fn a_full_or_read_only_pool_is_found_out_before_the_token_is_used_up() {
    let sandbox = pool_of(&[]);
    add(&sandbox, "alice", UserSpec::new("alice"), &LoginSpec::expires_in(SOON));
    // A folder in the way of the temporary file stands for a disk that takes nothing.
    let in_the_way = format!("auth/.{}.json.codex-pool.tmp", id(&sandbox, "alice"));
    let in_the_way = sandbox.pool_home().join(in_the_way);
    std::fs::create_dir(&in_the_way).expect("make a folder");
    let answer = refresh(&sandbox);
    assert_eq!(sandbox.backend().report().refreshes.len(), 0, "{answer}");
    std::fs::remove_dir(&in_the_way).expect("remove it");
    refresh(&sandbox);
    assert_eq!(refresh_token(&stored(&sandbox, "alice")), sandbox.backend().newest_refresh_token("alice"));
    sandbox.backend().assert_clean();
}

#[test]
fn a_logout_in_the_ui_is_believed_until_a_renewal_proves_otherwise() {
    let sandbox = pool_of(&["alice"]);
    sandbox.pool(&["use", "alice"]).run().ok();
    std::fs::remove_file(sandbox.codex_home().join("auth.json")).expect("remove the live document");
    assert_eq!(account(&list(&sandbox), "alice")["state"], "reauth_required");
    sandbox.pool(&["refresh", "alice"]).run().ok();
    assert_eq!(account(&list(&sandbox), "alice")["state"], "ready", "only the file was gone");
    sandbox.pool(&["use", "alice"]).run().ok();
    std::fs::remove_file(sandbox.codex_home().join("auth.json")).expect("remove the live document");
    list(&sandbox);
    sandbox.backend().revoke_logins("alice");
    settings(&sandbox, "min_poll_interval = \"0s\"\n");
    sandbox.forget_renewals();
    let failed = sandbox.pool(&["refresh", "alice"]).run().expect(5);
    assert!(failed.stderr.contains("was revoked"), "{}", failed.stderr);
}
