//! What a person decides about an account for all machines.

use serde_json::json;
use testkit::backend::{Fault, LoginSpec, Route, UserSpec};
use testkit::postgres::Server;
use testkit::{SOON, World, answered, complains};

use crate::world::{init, joined, newer_login, shared_by, status};

#[test]
fn logout_ends_the_login_on_every_machine() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    complains(&laptop.pool(&["share", "logout", "bob"]).run().expect(2), "only after a yes");
    complains(&laptop.pool(&["share", "logout", "nobody-knows", "--yes"]).run().expect(3), "nobody-knows");
    assert!(!laptop.backend().good_refresh_tokens("bob").is_empty());
    laptop.pool(&["share", "logout", "bob", "--yes"]).run().ok().says("logged out of `bob` on every machine");
    assert_eq!(laptop.backend().good_refresh_tokens("bob"), [""; 0], "the issuer knows");
    assert_eq!(laptop.labels(), ["alice"]);
    assert_eq!(joined(&laptop, "--member", "desktop").labels(), ["alice"]);
    // It may be the live one.
    laptop.pool(&["share", "logout", "alice", "--yes"]).run().ok();
    assert_eq!(laptop.live(), None);
    assert!(laptop.login_homes().is_empty());
}

#[test]
fn account_that_a_session_has_taken_meanwhile_is_removed_nowhere() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    let both = vec!["alice".to_owned(), "bob".to_owned()];
    let asked = [
        (&["rm", "bob"][..], "from every machine of the shared pool?", "was switched meanwhile; nothing"),
        (&["share", "logout", "bob"], "on every machine?", "in use by"),
    ];
    let asked = asked.map(|(command, question, refusal)| {
        let terminal = laptop.pty(laptop.pool(command));
        terminal.wait_for_text(question, SOON);
        (terminal, refusal)
    });
    let session = laptop.hold(laptop.exec_as("bob"));
    for (mut terminal, refusal) in asked {
        terminal.send_line("y");
        let said = terminal.finish(SOON);
        assert!(said.contains(refusal) && said.contains("nothing was removed"), "{said}");
    }
    laptop.open_gate();
    answered(session.wait(), "bob");
    desktop.pool(&["refresh"]).run().ok();
    assert_eq!((desktop.labels(), laptop.labels()), (both.clone(), both));
    for machine in [&laptop, &desktop] {
        answered(machine.exec_as("bob").run(), "bob");
    }
    let bob = laptop.id("bob");
    laptop.pool(&["rm", "bob", "--yes", "--force"]).run().ok().says("from every machine of the shared pool");
    desktop.pool(&["refresh"]).run().ok();
    assert_eq!(desktop.labels(), ["alice"]);
    for machine in [&laptop, &desktop] {
        let state = std::fs::read(machine.pool_home().join("share.json")).expect("what it has seen");
        let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
        assert!(state["removals"].get(&bob).is_some(), "{state}");
    }
}

#[test]
fn account_removed_elsewhere_is_not_renewed_while_it_is_in_use() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    let session = desktop.hold(desktop.exec_as("bob"));
    laptop.pool(&["rm", "bob", "--yes"]).run().ok();
    // The service rejects its access token, which is what a renewal is for.
    let rejected = Fault::Status(401, json!({"error": {"message": "no"}}));
    laptop.backend().inject_times(Route::Usage, Some("bob"), rejected, 1);
    desktop.age_usage(3_600);
    laptop.backend().clear_report();
    desktop.pool(&["refresh"]).run().ok();
    assert!(laptop.backend().report().refreshes.is_empty(), "{:?}", laptop.backend().report().refreshes);
    let problem = desktop.account("bob")["error"].clone();
    assert!(
        problem.as_str().is_some_and(|text| text.contains("was removed on another machine")),
        "{problem}"
    );
    desktop.open_gate();
    answered(session.wait(), "bob");
    desktop.pool(&["refresh"]).run().ok();
    laptop.pool(&["refresh"]).run().ok();
    assert_eq!((desktop.labels(), laptop.labels()), (vec!["alice".to_owned()], vec!["alice".to_owned()]));
}

/// Two members with alice, and with bob, whose tokens are due.
#[track_caller]
fn bob_is_due() -> Option<(Server, World, World)> {
    let server = Server::start()?;
    let laptop = World::logged_in(&["alice"]);
    laptop.add_as("bob", UserSpec::new("bob"), &LoginSpec::expires_in(7_200));
    init(&laptop, &server.url(), "laptop").ok();
    let desktop = joined(&laptop, "--member", "desktop");
    for machine in [&laptop, &desktop] {
        machine.settings("attend = false\n");
    }
    laptop.backend().clear_report();
    Some((server, laptop, desktop))
}

#[track_caller]
fn is_gone_from_both(laptop: &World, desktop: &World) {
    for machine in [desktop, laptop, desktop] {
        machine.pool(&["refresh"]).run().ok();
    }
    assert_eq!((desktop.labels(), laptop.labels()), (vec!["alice".to_owned()], vec!["alice".to_owned()]));
}

#[test]
fn removal_takes_what_another_machine_has_renewed_with_it() {
    let Some((_server, laptop, desktop)) = bob_is_due() else { return };
    desktop.pool(&["refresh", "bob"]).run().ok();
    assert_ne!(desktop.stored("bob"), laptop.stored("bob"), "the laptop has not heard of it");
    laptop.pool(&["rm", "bob", "--yes"]).run().ok();
    is_gone_from_both(&laptop, &desktop);
    // A person logs in again.
    desktop.import("bob", &newer_login(&laptop, "bob"));
    for machine in [&desktop, &laptop] {
        machine.pool(&["refresh"]).run().ok();
        assert_eq!(machine.labels(), ["alice", "bob"]);
    }
}

#[test]
fn logout_ends_what_another_machine_has_renewed() {
    let Some((_server, laptop, desktop)) = bob_is_due() else { return };
    desktop.pool(&["refresh", "bob"]).run().ok();
    assert_ne!(desktop.stored("bob"), laptop.stored("bob"), "the laptop has not heard of it");
    laptop.pool(&["share", "logout", "bob", "--yes"]).run().ok();
    assert_eq!(laptop.backend().good_refresh_tokens("bob"), [""; 0], "the issuer knows");
    is_gone_from_both(&laptop, &desktop);
}

#[test]
fn refresh_says_what_was_removed_on_another_machine() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    let (desktop, runner) = (joined(&laptop, "--member", "desktop"), joined(&laptop, "--runner", "ci"));
    laptop.pool(&["rm", "bob", "--yes"]).run().ok();
    for machine in [&desktop, &runner] {
        let output = machine.pool(&["refresh"]).run().ok();
        complains(
            &output,
            "`bob` was removed on another machine of the shared pool, and is removed here, too",
        );
        assert_eq!(machine.labels(), ["alice"]);
        let output = machine.pool(&["refresh"]).run().ok();
        assert!(!output.stderr.contains("removed"), "{output}");
    }
}

#[test]
fn answer_no_is_no_error() {
    let Some((_server, laptop)) = shared_by(&["alice", "bob"]) else { return };
    for command in [&["share", "leave"][..], &["share", "rotate"], &["share", "logout", "bob"]] {
        let mut terminal = laptop.pty(laptop.pool(command));
        terminal.wait_for_text("(y/N)", SOON);
        terminal.send_line("n");
        let said = terminal.finish(SOON);
        assert!(said.contains("nothing was changed") && !said.contains("error:"), "{said}");
    }
    assert_eq!(
        (laptop.labels(), status(&laptop)["epoch"].clone()),
        (vec!["alice".into(), "bob".into()], 1.into())
    );
}

#[test]
fn mark_of_a_lost_machine_is_void_only_when_a_person_says_so() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    let desktop = joined(&laptop, "--member", "desktop");
    complains(
        &desktop.pool(&["share", "take-over", "alice", "--yes"]).run().expect(1),
        "no machine has left a renewal of `alice` open",
    );
    // A rotation that is cut off leaves marks, as a renewal does.
    server.sql(
        "create function broken() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$; create \
         trigger broken before insert on codex_pool_records for each row when (new.epoch = 2) execute function broken()",
    );
    laptop.pool(&["share", "rotate", "--yes"]).run().expect(1);
    assert_eq!(status(&desktop)["sent"].as_array().map(Vec::len), Some(0), "it may still be at it");
    server.sql("update codex_pool_records set held_until = now() where kind = 'lease'");
    assert_eq!(status(&desktop)["sent"][0]["machine"], "laptop");
    complains(&desktop.pool(&["share", "take-over", "alice"]).run().expect(2), "laptop was renewing `alice`");
    desktop
        .pool(&["share", "take-over", "alice", "--yes"])
        .run()
        .ok()
        .says("`alice` is this machine's to renew");
    assert_eq!(status(&desktop)["sent"].as_array().map(Vec::len), Some(0));
}
