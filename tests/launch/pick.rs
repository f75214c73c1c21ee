//! Who answers: the account asked for by name, the pin, or the one that `why` names first.

use testkit::{World, answered, now};

use crate::{ALL, BOB_FIRST};

#[test]
fn account_that_why_names_first_answers() {
    let Some(world) = World::real(&ALL) else { return };
    for (usage, first) in [
        ([("alice", 50.0, 70.0), ("bob", 10.0, 10.0), ("carol", 30.0, 40.0)], "bob"),
        ([("alice", 100.0, 70.0), ("bob", 100.0, 10.0), ("carol", 30.0, 40.0)], "carol"),
        ([("alice", 20.0, 10.0), ("bob", 10.0, 100.0), ("carol", 95.0, 40.0)], "alice"),
    ] {
        world.usage(&usage);
        assert_eq!(world.why()[0], first);
        answered(world.exec().run(), first);
        assert_eq!(world.live_owner().as_deref(), Some(first));
        assert_eq!(world.account(first)["live"], true);
    }
    world.assert_nothing_lost(&ALL);
}

#[test]
fn live_account_with_room_stays_unless_another_is_more_urgent() {
    let world = World::new(&["alice", "bob"]);
    let swap = |alice: f64, bob: f64, first: &str| {
        world.usage(&[("alice", 10.0, alice), ("bob", 10.0, bob)]);
        answered(world.exec().run(), first);
    };
    // Urgency is the share left of the week, since both reset at the same time: 70 to 75 is under 1.1 times.
    swap(30.0, 40.0, "alice");
    swap(30.0, 25.0, "alice");
    swap(30.0, 20.0, "bob");
}

#[test]
fn named_account_beats_run_that_beats_the_pin_that_beats_the_pick() {
    let world = World::new(&ALL);
    world.usage(&BOB_FIRST);
    world.pool(&["use", "carol"]).run().ok();
    answered(world.exec().run(), "carol");
    answered(world.pool(&["run", "alice", "--", "exec", "hi"]).run(), "alice");
    answered(world.exec_as("bob").run(), "bob");
    answered(world.exec().run(), "carol");
    answered(world.pool(&["run", "--best", "--", "exec", "hi"]).run(), "bob");
    world.pool(&["use", "--auto"]).run().ok();
    answered(world.exec().run(), "bob");
    world.assert_nothing_lost(&ALL);
}

#[test]
fn launch_with_a_model_whose_own_limit_is_reached_goes_to_another_account() {
    let world = World::new(&["alice", "bob"]);
    world.rank(&["alice", "bob"]);
    let mut usage = testkit::backend::Usage::percent(0.0, 0.0);
    usage.additional = serde_json::json!([{"limit_name": "tiny-model", "rate_limit": {"allowed": false,
        "primary_window": {"used_percent": 100, "limit_window_seconds": 18_000, "reset_after_seconds": 3600}}}]);
    world.backend().set_usage("alice", usage);
    world.pool(&["refresh", "alice"]).run().ok();
    answered(world.exec().run(), "alice");
    answered(world.exec().args(["-m", "tiny-model"]).run(), "bob");
    answered(world.exec().run(), "alice");
    world.edit_config(|config| {
        config.insert("model".into(), "tiny-model".into());
    });
    answered(world.exec().run(), "bob");
    answered(world.exec().args(["-m", "big-model"]).run(), "alice");
}

#[test]
fn run_exports_the_account_so_that_the_programs_own_codex_stays_on_it() {
    let world = World::new(&ALL);
    world.usage(&BOB_FIRST);
    let script = "codex exec one && env -u CODEX_POOL_LAUNCH codex exec two; codex exec three";
    let run = world
        .pool(&["run", "alice", "--program", "/bin/sh", "--", "-c", script])
        .env("CODEX_POOL_ACCOUNT", "carol");
    assert_eq!(run.run().ok().stdout, "hello from alice\n".repeat(3));
}

#[test]
fn account_that_does_not_exist_fails_with_3_and_starts_nothing() {
    let world = World::new(&["alice", "alina"]);
    for name in ["bob", "ali"] {
        let output = world.exec_as(name).run().expect(3);
        assert!(output.stdout.is_empty() && output.stderr.starts_with("codex-pool: "), "{output}");
        assert!(output.stderr.contains(&format!("`{name}`")), "{output}");
        world.pool(&["run", name, "--", "exec", "hi"]).run().expect(3);
    }
    assert!(world.backend().report().turns.is_empty());
}

#[test]
fn named_account_without_credentials_fails_with_5() {
    let world = World::new(&["alice", "bob"]);
    std::fs::remove_file(world.stored_path("bob")).expect("remove bob's document");
    let output = world.exec_as("bob").run().expect(5);
    assert!(output.stderr.contains("codex-pool reauth bob"), "{output}");
    assert!(world.backend().report().turns.is_empty());
    // The pick goes on without it.
    answered(world.exec().run(), "alice");
}

#[test]
fn disabled_account_is_not_picked_but_can_be_named() {
    let world = World::new(&ALL);
    world.usage(&BOB_FIRST);
    world.pool(&["disable", "bob"]).run().ok();
    answered(world.exec().run(), "carol");
    answered(world.exec_as("bob").run(), "bob");
    world.pool(&["enable", "bob"]).run().ok();
    answered(world.exec().run(), "bob");
}

#[test]
fn api_key_is_picked_only_as_the_last_resort_and_only_if_allowed() {
    let world = World::new(&["alice"]);
    world.backend().add_api_key("robot", "sk-test-robot");
    world.import("robot", &testkit::backend::api_key_json("sk-test-robot"));
    world.usage(&[("alice", 100.0, 100.0)]);
    let output = world.exec().run();
    assert!(output.stderr.contains("every account is at its limit"), "{output}");
    world.settings("api_key_fallback = true\n");
    answered(world.exec().run(), "robot");
    world.usage(&[("alice", 99.0, 50.0)]);
    answered(world.exec().run(), "alice");
    answered(world.exec_as("robot").run(), "robot");
}

#[test]
fn live_account_stays_when_all_are_at_their_limit_with_the_reset() {
    let world = World::new(&ALL);
    world.cache_usage(&[("alice", 10.0, 10.0), ("bob", 100.0, 10.0), ("carol", 10.0, 100.0)], 0);
    answered(world.exec().run(), "alice");
    // Carol's week and alice's 5h window are full; bob's 5h window resets as soon as alice's.
    world.cache_usage(&[("alice", 100.0, 100.0), ("bob", 100.0, 10.0), ("carol", 10.0, 100.0)], 0);
    let output = answered(world.exec().run(), "alice");
    assert!(output.stderr.contains("every account is at its limit"), "{output}");
    assert!(output.stderr.contains("bob resets first, in "), "{output}");
    assert!(output.stderr.contains("staying on alice"), "{output}");
}

#[test]
fn pinned_account_at_its_limit_says_so_at_every_launch() {
    let world = World::new(&["alice", "bob"]);
    world.cache_usage(&[("alice", 100.0, 20.0), ("bob", 10.0, 10.0)], 0);
    world.pool(&["use", "alice"]).run().ok();
    for _ in 0..2 {
        let output = answered(world.exec().run(), "alice");
        assert!(output.stderr.contains("pinned account alice is at its limit, back in "), "{output}");
    }
}

#[test]
fn pinned_account_that_cannot_be_used_says_so_and_another_is_picked() {
    let world = World::new(&["alice", "bob"]);
    world.pool(&["use", "alice"]).run().ok();
    answered(world.exec().run(), "alice");
    // A logout in the user interface removes the file.
    std::fs::remove_file(world.codex_home().join("auth.json")).expect("remove the live login");
    let output = answered(world.exec().run(), "bob");
    assert!(output.stderr.contains("pinned account alice cannot be used"), "{output}");
    assert_eq!(world.account("alice")["state"], "reauth_required");
    world.exec_as("alice").run().expect(5);
}

#[test]
fn launch_that_finds_no_account_names_a_login_that_can_be_typed() {
    let world = World::new(&["alice"]);
    answered(world.exec().run(), "alice");
    let id = world.id("alice");
    world.pool(&["rename", "alice", "my work"]).run().ok();
    std::fs::remove_file(world.codex_home().join("auth.json")).expect("remove the live login");
    let output = world.exec().run();
    let line = format!("no account can be used (my work: needs a login); `codex-pool reauth {id}`");
    assert!(output.stderr.contains(&line), "{output}");
}

#[test]
fn launch_says_nothing_by_default_and_a_line_when_asked() {
    let world = World::new(&ALL);
    world.cache_usage(&BOB_FIRST, 0);
    assert_eq!(answered(world.exec().run(), "bob").stderr, "");
    let output = answered(world.exec().env("CODEX_POOL_VERBOSE", "1").run(), "bob");
    assert!(output.stderr.starts_with("codex-pool: bob: ") && output.stderr.lines().count() == 1, "{output}");
    world.cache_usage(&[("alice", 100.0, 0.0), ("bob", 100.0, 0.0), ("carol", 100.0, 0.0)], 0);
    assert_eq!(answered(world.exec().env("CODEX_POOL_QUIET", "1").run(), "bob").stderr, "");
}

#[test]
fn usage_that_is_old_or_of_the_future_ranks_after_known_room() {
    let world = World::new(&["alice", "bob"]);
    world.usage(&[("alice", 10.0, 10.0), ("bob", 20.0, 50.0)]);
    answered(world.exec_as("bob").run(), "bob");
    let path = world.pool_home().join("usage.json");
    let mut cache: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("usage")).expect("JSON");
    let bob = world.ids()["bob"].clone();
    cache["accounts"][&bob]["usage"]["fetched_at"] = (now() - 90_000).into();
    std::fs::write(&path, cache.to_string()).expect("write usage");
    assert_eq!(world.account("bob")["state"], "unknown");
    answered(world.exec().run(), "alice");
}
