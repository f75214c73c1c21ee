//! Homes of a pool that several machines share: Codex runs on documents without refresh tokens, and neither a login nor a
//! logout ends the login of the other machines.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::{LoginSpec, UserSpec, refresh_token};
use testkit::files::{write_program, write_script};
use testkit::{Cmd, SOON, World, answered, complains, wait_until};

use crate::world::{TWO, worlds};

const DAY: i64 = 86_400;

/// A world of each version whose pool is shared, with alice live.
fn members() -> impl Iterator<Item = World> {
    worlds(&TWO).inspect(|world| {
        world.share_as("member");
        answered(world.exec_as("alice").run(), "alice");
        assert_eq!(refresh_token(&world.live().expect("live")), "", "{}", world.version());
    })
}

fn login(world: &World) -> Cmd {
    world.codex(&["login", "--device-auth", "--experimental_issuer", &world.backend().url()])
}

/// Requires that no token was revoked or used up.
#[track_caller]
fn login_is_good(world: &World) {
    let report = world.backend().report();
    assert!(report.revocations.is_empty() && report.refreshes.is_empty(), "{}", world.version());
    world.backend().assert_clean();
}

#[test]
fn shared_pool_answers_in_every_home_without_a_refresh_token() {
    for world in members() {
        let hold = world.backend().hold("alice");
        let held = world.exec_as("alice").spawn();
        hold.wait_for(1, SOON);
        answered(world.exec_as("bob").run(), "bob");
        let own = std::fs::read_to_string(world.own_home("bob").join("auth.json")).expect("an own home");
        assert_eq!(refresh_token(&own), "", "{}", world.version());
        drop(hold);
        answered(held.wait(), "alice");
        for user in TWO {
            assert!(!refresh_token(&world.stored(user)).is_empty(), "{}", world.version());
            assert_eq!(world.account(user)["access_only"], false);
        }
        world.pool(&["use", "bob"]).run().ok();
        answered(world.exec().run(), "bob");
        assert_eq!(refresh_token(&world.live().expect("live")), "", "{}", world.version());
        login_is_good(&world);
    }
}

#[test]
fn codex_login_on_a_member_is_adopted_and_its_home_gets_no_refresh_token() {
    for world in members() {
        let before = refresh_token(&world.stored("alice"));
        let running = login(&world).spawn();
        wait_until("a login that waits", SOON, || world.backend().pending_logins() > 0);
        world.backend().approve_login("alice");
        running.wait().ok();
        assert_ne!(refresh_token(&world.stored("alice")), before, "{}", world.version());
        assert_eq!(refresh_token(&world.live().expect("live")), "", "{}", world.version());
        answered(world.exec_as("alice").run(), "alice");
        login_is_good(&world);
    }
}

#[test]
fn codex_logout_in_a_shared_pool_is_of_this_machine_alone() {
    for world in members() {
        let before = world.stored("alice");
        let output = world.codex(&["logout"]).env("CODEX_POOL_VERBOSE", "1").run();
        complains(&output, "codex-pool enable alice");
        login_is_good(&world);
        assert_eq!(world.live(), None, "{}", world.version());
        assert_eq!(world.account("alice")["state"], "disabled", "{}", world.version());
        assert_eq!(world.stored("alice"), before, "{}", world.version());
        answered(world.exec().run(), "bob");
        world.pool(&["enable", "alice"]).run().ok();
        answered(world.exec_as("alice").run(), "alice");
        login_is_good(&world);
    }
}

/// What the pool and the main home have of alice.
fn alice(world: &World) -> (String, Option<String>) {
    (world.stored("alice"), world.live())
}

/// Requires that alice is live, good and enabled, as before a logout.
#[track_caller]
fn alice_is_as_before(world: &World, before: &(String, Option<String>)) {
    login_is_good(world);
    assert_eq!(world.account("alice")["enabled"], true, "{}", world.version());
    assert_eq!(alice(world), *before, "{}", world.version());
    answered(world.exec_as("alice").run(), "alice");
}

#[test]
fn logout_that_fails_in_a_shared_pool_changes_nothing() {
    for world in members() {
        let before = alice(&world);
        world.codex(&["logout", "--bogus"]).run().expect(2);
        alice_is_as_before(&world, &before);
        let nothing = write_program(&world.root().join("codex-that-cannot-run"), "no program");
        let output = world.codex(&["logout"]).env("CODEX_POOL_CODEX", &nothing).run();
        assert!(!output.status.success(), "{output:?}");
        alice_is_as_before(&world, &before);
    }
}

#[test]
fn logout_that_is_killed_in_a_shared_pool_is_undone_by_the_next_launch() {
    for world in members() {
        let before = alice(&world);
        let slow = write_script(&world.root().join("slow-codex"), "exec sleep 600");
        let running = world.codex(&["logout"]).env("CODEX_POOL_CODEX", &slow).spawn();
        wait_until("a logout that has begun", SOON, || world.live().is_none());
        running.signal_group(Signal::SIGKILL);
        running.wait();
        answered(world.exec_as("alice").run(), "alice");
        alice_is_as_before(&world, &before);
    }
}

#[test]
fn document_that_vanished_from_a_home_of_a_shared_pool_comes_back() {
    for world in members() {
        std::fs::remove_file(world.codex_home().join("auth.json")).expect("remove the document");
        answered(world.exec_as("alice").run(), "alice");
        assert_ne!(world.account("alice")["state"], "reauth_required", "{}", world.version());
        login_is_good(&world);
    }
}

/// A runner with that user's access, which ends in so many seconds.
fn runner(expires_in: i64) -> World {
    let owner = World::new(&[]);
    owner.add_as("alice", UserSpec::new("alice"), &LoginSpec::expires_in(expires_in));
    let mut document: Value = serde_json::from_str(&owner.stored("alice")).expect("JSON");
    document["tokens"]["refresh_token"] = "".into();
    let runner = owner.another();
    runner.pool(&["import", "--label", "alice", "-"]).stdin(document.to_string()).run().ok();
    runner.share_as("runner");
    runner
}

#[test]
fn runner_launches_and_shows_and_refuses_what_needs_logins() {
    let runner = runner(DAY);
    answered(runner.exec().run(), "alice");
    answered(runner.exec_as("alice").run(), "alice");
    runner.pool(&["list"]).run().ok().says("alice");
    runner.pool(&["why"]).run().ok().says("alice");
    for args in [
        &["add"][..],
        &["reauth", "alice"],
        &["export", "alice"],
        &["export", "--access-only", "alice"],
        &["import", "-"],
    ] {
        let output = runner.pool(args).stdin(runner.stored("alice")).run().expect(1);
        complains(&output, "this machine is a runner of a shared pool");
        complains(&output, &format!("run `codex-pool {}` on a member", args[0]));
    }
    complains(&login(&runner).run().expect(1), "run `codex login` on a member");
    assert!(runner.backend().report().revocations.is_empty());
    assert_eq!(runner.backend().pending_logins(), 0, "Codex was not started");
    answered(runner.exec().run(), "alice");
}

#[test]
fn logout_on_a_runner_names_no_command_of_members() {
    let runner = runner(DAY);
    answered(runner.exec_as("alice").run(), "alice");
    let output = runner.codex(&["logout"]).env("CODEX_POOL_VERBOSE", "1").run();
    complains(&output, "codex-pool enable alice");
    assert!(!output.stderr.contains("share logout"), "{output:?}");
    assert_eq!(runner.account("alice")["state"], "disabled");
    login_is_good(&runner);
}

#[test]
fn runner_whose_access_has_ended_says_what_comes_next() {
    let runner = runner(-5);
    let output = runner.exec_as("alice").run().expect(5);
    complains(&output, "its access has ended, and no member's newer one is here");
    complains(&output, "`codex-pool refresh alice` gets what the members have");
    let account = runner.account("alice");
    assert_eq!(account["state"], json!("reauth_required"), "{account}");
    runner.pool(&["doctor"]).run().expect(1).says("alice: its access has ended");
}
