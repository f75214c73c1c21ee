//! Errors of the service, and what they lead to: a state, a message, the next command.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::backend::{Fault, LoginSpec, Route, UserSpec, refresh_token};
use testkit::{Sandbox, World};

use super::{account, listing, pool_of, refresh};

#[test]
fn failure_is_shown_with_its_account_and_not_fatal_for_others() {
    let world = pool_of(&["alice", "bob", "carol"]);
    let body = json!({"error": {"message": "bad \u{1b}[31mluck\u{202e}", "code": "oops"}});
    world.backend().inject_times(Route::Usage, Some("bob"), Fault::Status(500, body), 1);
    let shown = world.pool(&["refresh"]).run().ok();
    assert!(
        shown.stdout.contains("bob: the service has trouble (500): oops: bad [31mluck"),
        "{}",
        shown.stdout
    );
    assert!(!shown.stdout.contains('\u{1b}') && !shown.stdout.contains('\u{202e}'));
    let answer = listing(&world);
    assert!(account(&answer, "alice")["usage"].is_object() && account(&answer, "carol")["usage"].is_object());
    assert!(account(&answer, "bob")["usage"].is_null());
    assert!(account(&answer, "bob")["error"].as_str().is_some_and(|e| e.contains("(500)")));
    let again = refresh(&world);
    assert!(account(&again, "bob")["error"].is_null(), "gone with the next success");
}

#[test]
fn named_account_that_fails_is_a_failure_and_so_is_failure_of_all() {
    let world = pool_of(&["alice", "bob"]);
    world.backend().inject(Route::Usage, Fault::Garbage);
    let one = world.pool(&["refresh", "alice"]).run().expect(1);
    assert!(
        one.stderr.contains("makes no sense") && one.stderr.contains("codex-pool refresh alice"),
        "{}",
        one.stderr
    );
    world.pool(&["refresh"]).run().expect(1);
    world.pool(&["refresh", "stranger"]).run().expect(3);
}

#[test]
fn bad_answers_of_every_kind_are_survived() {
    let world = pool_of(&["alice"]);
    let faults = [
        (Fault::Truncated, "broke"),
        (Fault::HangUp, "broke"),
        (Fault::Garbage, "makes no sense"),
        (Fault::Status(404, json!("<html>")), "(404)"),
        (Fault::Status(403, json!({"detail": "blocked here"})), "(403): blocked here"),
        (Fault::Raw(200, Vec::new(), b"[]".to_vec()), "makes no sense"),
        (Fault::Raw(200, Vec::new(), b"[".repeat(100_000)), "makes no sense"),
        (Fault::Raw(200, Vec::new(), vec![b'1'; 3 << 20]), "makes no sense"),
        (Fault::Raw(502, Vec::new(), b"\xff\xfe<html>".to_vec()), "(502)"),
    ];
    for (fault, expected) in faults {
        world.backend().inject_times(Route::Usage, None, fault.clone(), 1);
        let answer = refresh(&world);
        let error = account(&answer, "alice")["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(expected), "{fault:?}: {error}");
    }
}

#[test]
fn service_that_asks_for_a_pause_gets_it_from_every_process() {
    let world = pool_of(&["alice"]);
    let slow = Fault::Raw(429, vec![("Retry-After".to_owned(), "600".to_owned())], Vec::new());
    world.backend().inject(Route::Usage, slow);
    world.pool(&["refresh", "alice"]).run().expect(1);
    for _ in 0..3 {
        let again = world.pool(&["refresh"]).run().ok();
        assert!(again.stdout.contains("asked less often (429)"), "{}", again.stdout);
        assert!(
            again.stderr.contains("possible in 9m") || again.stderr.contains("possible in 10m"),
            "{}",
            again.stderr
        );
    }
    world.pool(&["refresh", "--background"]).run();
    assert_eq!(world.backend().report().requests.len(), 1);
}

#[test]
fn account_that_was_removed_from_its_workspace_says_so_and_may_come_back() {
    for status in [402, 403] {
        let world = pool_of(&["alice"]);
        world.backend().deactivate("alice", Some(status));
        let failed = world.pool(&["refresh", "alice"]).run().expect(1);
        assert!(failed.stderr.contains("removed from its workspace"), "{}", failed.stderr);
        assert_eq!(world.account("alice")["state"], "workspace_removed");
        world.backend().deactivate("alice", None);
        world.pool(&["refresh", "alice"]).run().ok();
        assert_eq!(world.account("alice")["state"], "ready");
    }
}

#[test]
fn account_that_the_service_refuses_is_not_picked_and_says_so() {
    let html =
        || Fault::Raw(403, vec![("content-type".to_owned(), "text/html".to_owned())], b"<html>no".to_vec());
    let gone =
        |status| Fault::Status(status, json!({"error": {"code": "account_deactivated", "message": "gone"}}));
    for (fault, state, words) in [
        (gone(401), "deactivated", "support"),
        (gone(403), "deactivated", "codex-pool rm alice"),
        (html(), "refused", "(403)"),
    ] {
        let world = pool_of(&["alice", "bob"]);
        world.rank(&["alice", "bob"]);
        world.backend().inject_times(Route::Usage, Some("alice"), fault.clone(), 1);
        let failed = world.pool(&["refresh", "alice"]).run().expect(1);
        assert!(failed.stderr.contains(words), "{fault:?}: {failed}");
        let alice = world.account("alice");
        assert_eq!((alice["state"].as_str(), alice["rank"].is_null()), (Some(state), true), "{fault:?}");
        assert_eq!(world.why()[0], "bob", "{fault:?}");
        assert!(world.backend().report().refreshes_of("alice").is_empty(), "{fault:?}: no token is used up");
        let doctor = world.pool(&["doctor", "--json"]).run().json();
        let checks = doctor["checks"].as_array().expect("checks");
        let login = checks.iter().find(|c| c["id"] == "login").expect("a check of the login");
        assert!(login["fix"].as_str().is_some_and(|fix| fix.contains("codex-pool refresh alice")), "{login}");
        world.pool(&["refresh", "alice"]).run().ok();
        assert_eq!(world.account("alice")["state"], "ready", "{fault:?}");
    }
}

#[test]
fn issuer_that_refuses_the_account_means_the_same() {
    for (status, body, state) in [
        (401, json!({"error": {"code": "account_deactivated"}}), "deactivated"),
        (403, json!({"error": {"code": "account_deactivated"}}), "deactivated"),
        (403, json!("<html>"), "refused"),
    ] {
        let world = pool_of(&["bob"]);
        world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(-60));
        world.backend().inject_times(Route::Token, Some("alice"), Fault::Status(status, body.clone()), 1);
        world.pool(&["refresh"]).run();
        let alice = world.account("alice");
        assert_eq!(
            (alice["state"].as_str(), alice["rank"].is_null()),
            (Some(state), true),
            "{status} {body}"
        );
        world.pool(&["refresh"]).run().ok();
        assert_eq!(world.account("alice")["state"], "ready", "the token was not used up");
    }
}

#[test]
fn token_that_stays_rejected_is_renewed_once_and_not_at_every_refresh() {
    let world = pool_of(&["alice", "bob"]);
    let rejected = Fault::Status(401, json!({"error": {"message": "no"}}));
    world.backend().inject_times(Route::Usage, Some("alice"), rejected, 100);
    for _ in 0..4 {
        world.pool(&["refresh"]).run().ok();
        assert_eq!(world.account("alice")["state"], "refused");
    }
    assert_eq!(world.backend().report().refreshes_of("alice").len(), 1);
    world.backend().clear_faults();
    world.pool(&["refresh"]).run().ok();
    assert_eq!(world.account("alice")["state"], "ready");
}

#[test]
fn clock_that_is_ahead_is_named_and_rotates_no_account() {
    let world = pool_of(&[]);
    world.backend().set_clock_behind(400 * 86_400);
    for name in ["alice", "bob"] {
        world.add_as(name, UserSpec::new(name), &LoginSpec::default());
    }
    let rotations = || world.backend().report().refreshes.len();
    for _ in 0..3 {
        let shown = world.pool(&["refresh"]).run().ok();
        assert!(shown.stderr.contains("clock") && shown.stderr.contains("ahead"), "{shown}");
        assert_eq!(world.account("alice")["state"], "ready");
    }
    assert_eq!(rotations(), 0);
    let doctor = world.pool(&["doctor", "--json"]).run().expect(1).json();
    let clock = doctor["checks"].as_array().expect("checks").iter().find(|c| c["id"] == "clock").cloned();
    assert!(clock.is_some_and(|c| c["message"].as_str().is_some_and(|m| m.contains("39"))), "{doctor}");
    // A token that the service rejects is renewed all the same.
    let rejected = Fault::Status(401, json!({"error": {"message": "no"}}));
    world.backend().inject_times(Route::Usage, Some("bob"), rejected, 1);
    world.pool(&["refresh"]).run().ok();
    assert_eq!(rotations(), 1);
}

#[test]
fn clock_that_is_ahead_costs_launches_one_renewal() {
    let world = pool_of(&[]);
    world.backend().set_clock_behind(400 * 86_400);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::default());
    for _ in 0..3 {
        // What a launch starts for a token that is about to end.
        world.pool(&["refresh", "--background", "alice"]).run().ok();
    }
    assert_eq!(world.backend().report().refreshes.len(), 1);
}

#[test]
fn account_whose_usage_cannot_be_fetched_ranks_behind_those_with_data() {
    let world = pool_of(&["alice", "bob"]);
    world.rank(&["alice", "bob"]);
    world.backend().inject_times(Route::Usage, Some("alice"), Fault::Status(500, json!({})), 1);
    let answer = refresh(&world);
    assert_eq!((account(&answer, "bob")["rank"].as_u64(), world.why()[0].as_str()), (Some(1), "bob"));
    assert!(
        account(&answer, "alice")["reason"].as_str().is_some_and(|why| why.contains("failed")),
        "{answer}"
    );
    world.pool(&["refresh"]).run().ok();
    assert_eq!(world.why()[0], "alice");
}

#[test]
fn rejected_login_says_why_and_how_to_go_on() {
    type Spoil = fn(&testkit::backend::Backend);
    let cases: [(&str, &str, Spoil); 2] = [
        ("revoked", "was revoked", |b| b.revoke_logins("alice")),
        ("expired", "too old", |b| b.expire_refresh_tokens("alice")),
    ];
    for (reason, words, spoil) in cases {
        let world = pool_of(&["bob"]);
        world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(3_600));
        spoil(world.backend());
        let failed = world.pool(&["refresh", "alice"]).run().expect(5);
        assert!(failed.stderr.contains(words), "{}", failed.stderr);
        assert!(failed.stderr.contains("codex-pool reauth alice"), "{}", failed.stderr);
        let state = std::fs::read_to_string(world.pool_home().join("accounts.json")).expect("registry");
        assert!(state.contains(&format!("\"reason\":\"{reason}\"")), "{state}");
        let answer = refresh(&world);
        assert_eq!(account(&answer, "alice")["state"], "reauth_required");
        assert!(account(&answer, "bob")["usage"].is_object());
        assert_eq!(
            world.backend().report().refreshes_of("alice").len(),
            1,
            "asked once, not again and again"
        );
    }
}

#[test]
fn refresh_token_used_up_elsewhere_is_named_as_such() {
    let world = pool_of(&[]);
    world.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(3_600));
    // Another copy of this login is refreshed elsewhere.
    let copy = world.stored("alice");
    let elsewhere = World::from(Sandbox::builder().backend(world.backend()).build());
    elsewhere.import("copy", &copy);
    elsewhere.pool(&["refresh", "copy"]).run().ok();
    let failed = world.pool(&["refresh", "alice"]).run().expect(5);
    assert!(failed.stderr.contains("another copy of this login"), "{}", failed.stderr);
}

#[test]
fn missing_network_is_reported_once_and_costs_one_attempt() {
    let world = pool_of(&["alice", "bob", "carol", "dave", "erin", "frank"]);
    // A port without a listener.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("http://{closed}/backend-api").into());
    });
    let failed = world.pool(&["refresh"]).run().expect(1);
    assert!(failed.stdout.contains("no connection: 127.0.0.1 refused"), "{}", failed.stdout);
    assert_eq!(world.account("frank")["state"], "unknown");
    let url = world.backend().chatgpt_base_url();
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), url.into());
    });
    world.pool(&["refresh"]).run().ok();
    assert!(world.account("frank")["usage"].is_object(), "back at once when a person asks");
}

#[test]
fn service_that_hangs_is_given_up_after_fifteen_seconds() {
    let world = pool_of(&["alice", "bob"]);
    world.backend().inject_times(Route::Usage, Some("alice"), Fault::Hang, 1);
    let start = Instant::now();
    let answer = refresh(&world);
    let took = start.elapsed();
    assert!((Duration::from_secs(14)..Duration::from_secs(25)).contains(&took), "{took:?}");
    let error = account(&answer, "alice")["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("no answer from 127.0.0.1 within 15s"), "{error}");
    assert!(account(&answer, "bob")["usage"].is_object());
}

#[test]
fn errors_show_no_secret() {
    let world = pool_of(&["alice", "bob"]);
    let leaky =
        |token: &str| json!({"error": {"code": token, "message": format!("your token {token} and {token}")}});
    let token = refresh_token(&world.stored("alice"));
    let access: serde_json::Value = serde_json::from_str(&world.stored("alice")).expect("a document");
    let access = access["tokens"]["access_token"].as_str().expect("a token").to_owned();
    world.backend().inject_times(Route::Usage, Some("alice"), Fault::Status(401, leaky(&access)), 100);
    world.backend().inject_times(Route::Token, Some("alice"), Fault::Status(400, leaky(&token)), 100);
    let mut texts = Vec::new();
    for args in [
        &["refresh"][..],
        &["refresh", "alice"],
        &["refresh", "--json"],
        &["list", "-v"],
        &["list", "--json"],
        &["why"],
    ] {
        let output = world.pool(args).run();
        texts.push(output.stdout + &output.stderr);
    }
    for file in ["usage.json", "accounts.json", "state.json"] {
        texts.push(std::fs::read_to_string(world.pool_home().join(file)).expect("a file"));
    }
    for secret in world.backend().secrets() {
        assert!(texts.iter().all(|t| !t.contains(&secret)), "{secret} in {texts:#?}");
    }
}
