//! Usage: windows of every kind, how often an account is asked for, and how many at once.

use std::time::Duration;

use serde_json::json;
use testkit::backend::{Route, Usage, Window};

use super::{account, pool_of, refresh};

#[test]
fn windows_are_shown_by_their_length_whatever_their_position() {
    let world = pool_of(&["swapped", "daily", "none", "odd"]);
    let backend = world.backend();
    backend.set_usage("swapped", Usage::windows(Some(Window::week(20.0)), Some(Window::five_hours(30.0))));
    backend.set_usage("daily", Usage::windows(Some(Window::five_hours(7.0).lasting(86_400)), None));
    backend.set_usage("none", Usage::windows(None, None));
    backend.set_usage(
        "odd",
        Usage::raw(json!({"plan_type": "plus", "rate_limit": {"allowed": true, "news": [1],
            "primary_window": {"used_percent": 40, "limit_window_seconds": 2_592_000, "reset_after_seconds": 60},
            "secondary_window": {"used_percent": 10, "limit_window_seconds": 5_400}}})),
    );
    let answer = refresh(&world);
    let names = |label: &str| {
        let windows = account(&answer, label)["usage"]["windows"].as_array().expect("windows").clone();
        windows
            .iter()
            .map(|w| {
                (w["name"].as_str().expect("a name").to_owned(), w["used_percent"].as_f64().expect("used"))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(names("swapped"), [("5h".to_owned(), 30.0), ("1week".to_owned(), 20.0)]);
    assert_eq!(names("daily"), [("1day".to_owned(), 7.0)]);
    assert_eq!(names("none"), []);
    assert_eq!(names("odd"), [("90m".to_owned(), 10.0), ("30day".to_owned(), 40.0)]);
    assert_eq!(account(&answer, "swapped")["usage"]["source"], "api");
    assert!(account(&answer, "odd")["error"].is_null());
}

#[test]
fn limits_of_single_models_do_not_count_for_other_models() {
    let world = pool_of(&["alice"]);
    let mut usage = Usage::percent(10.0, 10.0);
    usage.additional = json!([{"limit_name": "tiny-model", "rate_limit": {"allowed": false, "limit_reached": true,
        "primary_window": {"used_percent": 100, "limit_window_seconds": 18_000, "reset_after_seconds": 3600}}}]);
    world.backend().set_usage("alice", usage);
    let verbose = world.pool(&["refresh", "--verbose"]).run().ok();
    assert!(verbose.stdout.contains("tiny-model"), "{}", verbose.stdout);
    let plain = world.pool(&["list"]).run().ok();
    assert!(!plain.stdout.contains("tiny-model"), "{}", plain.stdout);
    assert_eq!(world.account("alice")["state"], "ready");
}

#[test]
fn unlimited_needs_an_explicit_word_and_a_spending_limit_is_a_limit() {
    let world = pool_of(&["spent", "text", "empty", "free", "seat", "banked"]);
    let set = |name: &str, answer| world.backend().set_usage(name, Usage::raw(answer));
    set(
        "spent",
        json!({"plan_type": "self_serve_business_usage", "rate_limit": null, "credits": null,
        "spend_control": {"reached": true, "individual_limit": {"limit": "25", "reset_after_seconds": 7_200}}}),
    );
    set(
        "text",
        json!({"plan_type": "plus", "rate_limit": {"allowed": true, "limit_reached": false,
        "primary_window": {"used_percent": "97", "limit_window_seconds": "18000", "reset_after_seconds": "600"},
        "secondary_window": null}}),
    );
    set("empty", json!({"plan_type": "plus"}));
    set("free", json!({"plan_type": "plus", "rate_limit": null, "credits": {"unlimited": true}}));
    set("seat", json!({"plan_type": "plus", "rate_limit": null, "spend_control": {"reached": false}}));
    set(
        "banked",
        json!({"plan_type": "plus", "rate_limit_reset_credits": {"available_count": 2}, "rate_limit": {
        "primary_window": {"used_percent": 100, "limit_window_seconds": 18_000, "reset_after_seconds": 600}}}),
    );
    let answer = refresh(&world);
    let of = |label: &str| account(&answer, label).clone();
    assert_eq!(world.why(), ["free", "text", "seat", "empty", "banked", "spent"]);
    assert_eq!(of("spent")["state"], "exhausted");
    assert_eq!(of("text")["usage"]["windows"][0]["remaining_percent"], 3.0);
    assert_eq!(
        (of("empty")["state"].as_str(), of("free")["state"].as_str()),
        (Some("unknown"), Some("ready"))
    );
    assert!(of("banked")["reason"].as_str().is_some_and(|why| why.contains("2 banked resets")), "{answer}");
    assert_eq!(of("banked")["usage"]["banked_resets"], 2);
    let doctor = world.pool(&["doctor", "--json"]).run().json().to_string();
    assert!(!doctor.contains("is not known"), "{doctor}");
}

#[test]
fn doctor_names_a_plan_whose_size_is_not_known() {
    let world = pool_of(&["alice"]);
    world.backend().set_usage(
        "alice",
        Usage::raw(json!({"plan_type": "ultra", "rate_limit": {
        "primary_window": {"used_percent": 1, "limit_window_seconds": 18_000, "reset_after_seconds": 600}}})),
    );
    refresh(&world);
    let doctor = || world.pool(&["doctor", "--json"]).run().json().to_string();
    assert!(doctor().contains("the size of the plan `ultra` (alice) is not known"), "{}", doctor());
    world.settings("weights = { ultra = 3 }\n");
    assert!(!doctor().contains("is not known"), "{}", doctor());
}

#[test]
fn base_without_backend_api_has_another_path() {
    let world = pool_of(&["alice"]);
    let url = world.backend().url();
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), url.into());
    });
    let answer = refresh(&world);
    assert!(account(&answer, "alice")["usage"].is_object(), "{answer}");
    assert_eq!(world.backend().report().usage[0].path, "/api/codex/usage");
}

#[test]
fn accounts_are_asked_at_most_four_at_once_and_each_once() {
    let names: Vec<String> = (0..12).map(|n| format!("user{n}")).collect();
    let world = pool_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    world.backend().set_latency(Route::Usage, Duration::from_millis(50));
    let answer = refresh(&world);
    let report = world.backend().report();
    for name in &names {
        assert!(account(&answer, name)["usage"].is_object(), "{name}");
        assert_eq!(report.usage_of(name).len(), 1, "{name}");
    }
    assert_eq!(report.max_usage_in_flight, 4);
    world.backend().assert_clean();
}

#[test]
fn two_refreshes_at_once_ask_for_each_account_once_and_both_show_it() {
    let world = pool_of(&["alice", "bob", "carol"]);
    world.settings("min_poll_interval = \"60s\"\n");
    world.backend().set_latency(Route::Usage, Duration::from_millis(300));
    let both: Vec<_> = (0..2).map(|_| world.pool(&["refresh", "--json"]).spawn()).collect();
    for answer in both {
        let answer = answer.wait().ok().json();
        for name in ["alice", "bob", "carol"] {
            assert!(account(&answer, name)["usage"].is_object(), "{name} in {answer}");
        }
    }
    assert_eq!(world.backend().report().usage.len(), 3);
}

#[test]
fn account_is_not_asked_for_again_before_the_poll_interval() {
    let world = pool_of(&["alice"]);
    world.settings("min_poll_interval = \"60s\"\n");
    world.pool(&["refresh"]).run().ok();
    let again = world.pool(&["refresh", "alice"]).run().ok();
    assert!(again.stderr.contains(" old; next fetch possible in "), "{}", again.stderr);
    world.pool(&["list", "--refresh"]).run().ok();
    assert_eq!(world.backend().report().usage.len(), 1);
}

#[test]
fn list_refresh_shows_what_refresh_does_and_the_plan_follows_the_answer() {
    let world = pool_of(&["alice"]);
    world.backend().set_usage(
        "alice",
        Usage::raw(json!({"plan_type": "pro", "rate_limit": {
            "primary_window": {"used_percent": 25, "limit_window_seconds": 18_000, "reset_after_seconds": 8_040}}})),
    );
    let shown = world.pool(&["list", "--refresh"]).run().ok();
    assert!(shown.stdout.contains("75 %") && shown.stdout.contains("pro"), "{}", shown.stdout);
    assert!(shown.stdout.contains("2h 14m") || shown.stdout.contains("2h 13m"), "{}", shown.stdout);
    assert_eq!(world.account("alice")["plan"], "pro");
}
