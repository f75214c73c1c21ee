//! Renewal: early, once, durable before use, into the home, and reported after a crash.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::{Fault, LoginSpec, Route, UserSpec, refresh_token};

use super::{account, listing, pool_of, refresh};

/// Seconds that are less than a day.
const NEAR_END: i64 = 20 * 3_600;

#[test]
fn token_with_under_a_day_left_is_renewed_into_pool_and_home() {
    let world = pool_of(&["bob"]);
    world.backend().add_user("alice", UserSpec::new("alice"));
    let mut login = LoginSpec { refreshed_ago: 9 * 86_400, ..LoginSpec::expires_in(NEAR_END) };
    login.extra.insert("from_the_future".to_owned(), json!({"kept": [1, 2]}));
    let before = world.backend().auth_json_with("alice", &login);
    world.write_live(&before);
    world.import("alice", &before);
    refresh(&world);
    let after = world.live().expect("a live document");
    assert_eq!(after, world.stored("alice"), "one document in both places");
    assert_eq!(refresh_token(&after), world.backend().newest_refresh_token("alice"));
    let (before, after): (Value, Value) =
        (serde_json::from_str(&before).expect("JSON"), serde_json::from_str(&after).expect("JSON"));
    assert_eq!(after["from_the_future"], before["from_the_future"]);
    assert_eq!(after["tokens"]["account_id"], before["tokens"]["account_id"]);
    assert!(after["last_refresh"].as_str() > before["last_refresh"].as_str(), "{after}");
    let report = world.backend().report();
    assert_eq!((report.refreshes.len(), report.refreshes_of("bob").len()), (1, 0), "bob's has ten days left");
    refresh(&world);
    assert_eq!(world.backend().report().refreshes.len(), 1);
    world.backend().assert_clean();
}

#[test]
fn fields_that_the_answer_lacks_are_kept() {
    for missing in [&["id_token"][..], &["refresh_token"], &["id_token", "refresh_token"], &["access_token"]]
    {
        let world = pool_of(&[]);
        world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
        let before: Value = serde_json::from_str(&world.stored("alice")).expect("JSON");
        world.backend().omit_from_refresh(missing);
        let answer = refresh(&world);
        assert!(account(&answer, "alice")["error"].is_null(), "{missing:?}: {answer}");
        let after: Value = serde_json::from_str(&world.stored("alice")).expect("JSON");
        for name in ["id_token", "access_token", "refresh_token"] {
            let same = after["tokens"][name] == before["tokens"][name];
            assert_eq!(same, missing.contains(&name), "{name} when {missing:?} is missing");
        }
        world.backend().assert_clean();
    }
}

#[test]
fn eight_refreshers_renew_once_and_one_account_at_a_time() {
    let world = pool_of(&[]);
    for name in ["alice", "bob", "carol"] {
        world.add_as(name, UserSpec::new(name), &LoginSpec::expires_in(NEAR_END));
    }
    world.backend().set_latency(Route::Token, Duration::from_millis(50));
    let all: Vec<_> = (0..8).map(|_| world.pool(&["refresh", "--json"]).spawn()).collect();
    for running in all {
        running.wait().ok();
    }
    let report = world.backend().report();
    assert_eq!((report.refreshes.len(), report.max_refreshes_in_flight), (3, 1));
    for name in ["alice", "bob", "carol"] {
        assert_eq!(refresh_token(&world.stored(name)), world.backend().newest_refresh_token(name));
    }
    world.backend().assert_clean();
}

#[test]
fn token_rejected_early_is_renewed_when_no_session_uses_it() {
    let world = pool_of(&["alice"]);
    world.backend().reject_access_tokens("alice");
    let answer = refresh(&world);
    assert!(account(&answer, "alice")["usage"].is_object(), "{answer}");
    assert_eq!(account(&answer, "alice")["state"], "ready");
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1);
    world.backend().assert_clean();
}

#[test]
fn token_rejected_early_is_left_to_the_session_that_uses_it() {
    let world = pool_of(&["alice"]);
    let hold = world.backend().hold("alice");
    let session = world.codex(&["exec", "hi"]).spawn();
    hold.wait_for(1, Duration::from_secs(10));
    world.backend().reject_access_tokens("alice");
    let failed = world.pool(&["refresh", "alice"]).run().expect(1);
    assert!(failed.stderr.contains("the session that runs on it will notice"), "{}", failed.stderr);
    assert_eq!(world.account("alice")["state"], "expired");
    assert_eq!(world.backend().report().refreshes.len(), 0);
    drop(hold);
    session.wait();
    world.pool(&["refresh", "alice"]).run().ok();
    assert_eq!(world.account("alice")["state"], "ready");
}

#[test]
fn token_that_codex_rotated_in_the_home_is_the_one_sent() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
    world.pool(&["use", "alice"]).run().ok();
    // Codex rotates by itself, in the home, and its new token is near its end as well.
    world.write_live(
        &world
            .backend()
            .auth_json_with("alice", &LoginSpec { issued_ago: Some(60), ..LoginSpec::expires_in(NEAR_END) }),
    );
    let rotated = refresh_token(&world.live().expect("live"));
    refresh(&world);
    let report = world.backend().report();
    assert_eq!(report.refreshes_of("alice").iter().map(|r| r.token.as_str()).collect::<Vec<_>>(), [rotated]);
    world.backend().assert_clean();
}

#[test]
fn renewal_killed_before_the_issuer_acted_is_repeated() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
    let before = world.stored("alice");
    world.backend().inject_times(Route::Token, None, Fault::HangUp, 1);
    world.pool(&["refresh"]).run();
    assert_eq!(world.stored("alice"), before);
    let answer = listing(&world);
    let error = account(&answer, "alice")["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("interrupted") && error.contains("codex-pool refresh alice"), "{error}");
    assert_eq!(account(&answer, "alice")["state"], "ready", "its access token still works");
    // The pause after a failure is that of background refreshes; the user's own command does not wait.
    world.forget_renewals();
    let answer = refresh(&world);
    assert!(account(&answer, "alice")["error"].is_null(), "{answer}");
    assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
    world.backend().assert_clean();
}

#[test]
fn renewal_whose_answer_was_lost_ends_in_the_honest_answer() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
    world.backend().inject_times(Route::Token, None, Fault::LostAnswer, 1);
    world.pool(&["refresh"]).run();
    assert!(world.account("alice")["error"].as_str().is_some_and(|e| e.contains("interrupted")));
    world.forget_renewals();
    let failed = world.pool(&["refresh", "alice"]).run().expect(5);
    assert!(failed.stderr.contains("its answer is lost"), "{}", failed.stderr);
    assert_eq!(world.account("alice")["state"], "reauth_required");
    // A new login of the same account puts it right.
    world.import("alice", &world.backend().auth_json("alice"));
    let answer = refresh(&world);
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
fn pool_holds_the_old_or_the_new_token_after_a_kill_at_any_instant() {
    let world = pool_of(&[]);
    world.backend().set_latency(Route::Token, Duration::from_millis(20));
    let kills = (0..40).map(|n| Kill::After(Duration::from_millis(n)));
    let kills = kills.chain([Kill::AnswerUnderWay; 5]).chain([Kill::Stored; 5]);
    for (round, kill) in kills.enumerate() {
        let name = format!("user{round}");
        world.add_as(&name, UserSpec::new(&name), &LoginSpec::expires_in(NEAR_END));
        world.pool(&["use", &name]).run().ok();
        let document = world.stored_path(&name);
        let read = || refresh_token(&std::fs::read_to_string(&document).expect("a document"));
        let old = read();
        let running = world.pool(&["refresh", &name]).spawn();
        let limit = Duration::from_secs(10);
        match kill {
            Kill::After(time) => std::thread::sleep(time),
            Kill::AnswerUnderWay => {
                world.backend().wait_for("a refresh", limit, |r| !r.refreshes_of(&name).is_empty());
            }
            Kill::Stored => testkit::wait_until("a new document", limit, || read() != old),
        }
        running.signal(Signal::SIGKILL);
        running.wait();
        let newest = world.backend().newest_refresh_token(&name);
        let (held, live) = (read(), refresh_token(&world.live().expect("a whole document")));
        let answer = listing(&world);
        assert!(
            held == old || held == newest,
            "{kill:?}: the pool has neither the old token nor the new one"
        );
        assert!(live == old || live == newest, "{kill:?}: nor has the home");
        if held == newest {
            // The home follows at the next run, if it had not yet.
            world.pool(&["refresh", &name]).run();
            assert_eq!(read(), refresh_token(&world.live().expect("a whole document")), "{kill:?}");
        } else {
            assert!(!matches!(kill, Kill::Stored), "{kill:?}: it was stored");
            let error = account(&answer, &name)["error"].as_str().unwrap_or_default().to_owned();
            assert!(
                error.contains("interrupted"),
                "{kill:?}: the answer is lost without a message: {answer}"
            );
        }
    }
}

#[test]
fn ctrl_c_waits_until_the_answer_is_stored() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
    world.backend().set_latency(Route::Token, Duration::from_millis(300));
    let running = world.pool(&["refresh"]).spawn();
    world.backend().wait_for("a refresh", Duration::from_secs(10), |r| !r.refreshes.is_empty());
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().signal(), Some(Signal::SIGINT as i32));
    assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
    assert!(world.account("alice")["error"].is_null());
}

#[test]
fn answer_survives_a_pool_that_is_locked_by_a_stopped_process() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
    world.backend().set_latency(Route::Token, Duration::from_millis(300));
    let running = world.pool(&["refresh"]).spawn();
    world.backend().wait_for("a refresh", Duration::from_secs(10), |r| !r.refreshes.is_empty());
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    // The lock is held longer than any try; then the answer goes to a place that needs no lock.
    let rescued = || {
        let entries = std::fs::read_dir(world.pool_home().join("lost+found")).into_iter().flatten();
        entries.flatten().any(|e| e.file_name().to_string_lossy().ends_with("-renewed.json"))
    };
    testkit::wait_until("a rescued answer", Duration::from_secs(90), rescued);
    drop(lock);
    running.wait();
    world.pool(&["refresh"]).run().ok();
    assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
    assert!(!rescued());
    world.backend().assert_clean();
}

#[test]
fn full_or_read_only_pool_is_found_out_before_the_token_is_used_up() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(NEAR_END));
    // A folder in the place of the temporary file stands for a full disk.
    let in_the_way = format!("auth/.{}.json.codex-pool.tmp", world.id("alice"));
    let in_the_way = world.pool_home().join(in_the_way);
    std::fs::create_dir(&in_the_way).expect("make a folder");
    let answer = refresh(&world);
    assert_eq!(world.backend().report().refreshes.len(), 0, "{answer}");
    std::fs::remove_dir(&in_the_way).expect("remove it");
    refresh(&world);
    assert_eq!(refresh_token(&world.stored("alice")), world.backend().newest_refresh_token("alice"));
    world.backend().assert_clean();
}

#[test]
fn logout_in_the_ui_is_believed_until_a_renewal_proves_otherwise() {
    let world = pool_of(&["alice"]);
    world.pool(&["use", "alice"]).run().ok();
    std::fs::remove_file(world.codex_home().join("auth.json")).expect("remove the live document");
    assert_eq!(world.account("alice")["state"], "reauth_required");
    world.pool(&["refresh", "alice"]).run().ok();
    assert_eq!(world.account("alice")["state"], "ready", "only the file was gone");
    world.pool(&["use", "alice"]).run().ok();
    std::fs::remove_file(world.codex_home().join("auth.json")).expect("remove the live document");
    world.list();
    world.backend().revoke_logins("alice");
    world.settings("min_poll_interval = \"0s\"\n");
    world.forget_renewals();
    let failed = world.pool(&["refresh", "alice"]).run().expect(5);
    assert!(failed.stderr.contains("was revoked"), "{}", failed.stderr);
}
