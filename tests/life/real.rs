//! With the real Codex: an account is added, used and removed beside a session that goes on undisturbed, and a
//! background server moves to another account with the interfaces that are attached to it.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use testkit::backend::Usage;
use testkit::pty::CTRL_C;
use testkit::{Codex, SOON, Sandbox, World, complains, has_server, version, versions};

use crate::logins::Logins as _;

#[test]
fn account_comes_and_goes_beside_a_session_that_goes_on() {
    let Some(codex) = Codex::real() else { return };
    let world = World::from(Sandbox::builder().codex(codex).without_pool().build());
    let backend = world.backend();
    backend.add("alice");
    backend.add("bob");
    backend.set_usage("bob", Usage::percent(10.0, 20.0));
    // As built or unpacked: the shim lies beside codex-pool.
    symlink(testkit::bins::shim(), world.home().join(".local/bin/codex")).expect("link the shim");
    world.write_live(&backend.auth_json("alice"));

    let output = world.pool(&["init", "--yes"]).env("NO_MODIFY_PATH", "1").run().ok();
    complains(&output, "adopted the login found in ");
    output.says(&format!("Codex {}: ", version())).says("Installed the shim: ").says("`alice`");
    let live = world.live();
    let mut session = world.terminal(world.codex(&[]));
    world.ask(&mut session, "alice");

    world.login(&["add"], "bob").ok().says("added bob <bob@example.com>").says("90 %");
    world.ask(&mut session, "alice");
    let first = world.stored("bob");
    world.login(&["reauth", "bob"], "bob").ok().says("`bob` is logged in again");
    assert!(world.stored("bob") != first && backend.is_good(&world.stored("bob")));
    let output = world.login(&["reauth", "bob"], "alice").expect(1);
    complains(&output, "you logged in as alice@example.com");
    world.ask(&mut session, "alice");

    complains(&world.pool(&["use", "bob"]).run().ok(), "keeps `alice` while codex (pid ");
    world.pool(&["use", "--auto"]).run().ok();
    let exec = ["exec", "--skip-git-repo-check", "hi"];
    let run = |account: &str| world.pool(&["run", account, "--"]).args(exec).run();
    run("bob").ok().says("hello from bob");
    run("alice").ok().says("hello from alice");
    world.pool(&["use", "alice"]).run().ok().says("`alice` is live and pinned");
    world.pool(&["use", "--auto"]).run().ok();
    // A switch by force leaves the session where it is, too.
    world.pool(&["use", "bob", "--force"]).run().ok().says("`bob` is live and pinned");
    world.ask(&mut session, "alice");
    run("bob").ok().says("hello from bob");
    world.pool(&["use", "alice", "--force"]).run().ok();
    assert_eq!(world.live(), live);

    world.pool(&["rm", "bob", "--yes"]).run().ok().says("removed `bob`");
    complains(&run("bob").expect(3), "no account matches `bob`");
    world.ask(&mut session, "alice");
    session.quit_codex();

    let report = backend.report();
    assert!(report.revocations.is_empty(), "{:?}", report.revocations);
    assert!(backend.is_good(&world.live().expect("a live login")));
    assert_eq!(world.labels(), ["alice"]);
    world.assert_no_login_home();
    backend.assert_clean();
}

#[test]
fn login_of_every_version_leaves_the_live_login_alone() {
    for version in versions() {
        let Some(codex) = Codex::real_of(&version) else { return };
        let world = World::logged_in_with(codex, &["alice"]);
        let live = world.live();
        world.backend().add("bob");
        world.login(&["add"], "bob").ok().says("added bob");
        let output = world.pool(&["add", "--with-api-key"]).stdin("sk-fake-key").run().ok();
        output.says("added api-key");
        assert!(world.stored("api-key").contains("sk-fake-key"), "{version}");
        assert_eq!(world.live(), live, "{version}");
        world
            .pool(&["run", "bob", "--", "exec", "--skip-git-repo-check", "hi"])
            .run()
            .ok()
            .says("hello from bob");
        let mut terminal = world.pty(world.login_cmd(&["add"]));
        world.wait_for_login();
        terminal.send(CTRL_C);
        terminal.wait_for_text("the login was cancelled; nothing was changed", SOON);
        assert_eq!(terminal.wait(SOON).code(), Some(1), "{version}");
        assert!(world.backend().report().revocations.is_empty(), "{version}");
        world.assert_no_login_home();
        world.backend().assert_clean();
    }
}

#[test]
fn background_server_moves_with_what_is_attached_to_it() {
    if !has_server(&version()) {
        return;
    }
    let Some(codex) = Codex::real() else { return };
    let world = World::logged_in_with(codex, &["alice", "bob"]);
    world.pool(&["use", "alice"]).run().ok();
    let mut terminal = world.terminal(world.codex(&[]));
    world.ask(&mut terminal, "alice");
    let thread =
        |world: &World| world.backend().report().turns.last().and_then(|t| t.session().map(str::to_owned));
    let before = thread(&world);
    let asked = world.pool(&["use", "bob", "--restart-server"]).run().expect(2);
    complains(
        &asked,
        "will continue as `bob` after a restart of the background server, which interrupts running work",
    );
    assert_eq!(world.live_owner().as_deref(), Some("alice"));

    // Without a restart the server goes on as it began.
    world.pool(&["use", "bob", "--force"]).run().ok();
    world.ask(&mut terminal, "alice");
    let output = world.pool(&["use", "bob", "--restart-server", "--force"]).run().ok();
    complains(&output, "interrupts running work");
    output.says("`bob` is live and pinned").says("what is attached to it continues as `bob`");
    let attached = |screen: &str| screen.contains("for agents") && !screen.contains("Reconnecting");
    terminal.wait_for("the interface to come back", SOON, attached);
    world.ask(&mut terminal, "bob");
    assert_eq!(thread(&world), before, "the same conversation");
    assert_eq!(
        (&world.account("bob")["sessions"], &world.account("alice")["sessions"]),
        (&1.into(), &0.into())
    );

    // The next interface shares the server: it is known to answer as bob.
    let mut second = world.terminal(world.codex(&[]));
    world.ask(&mut second, "bob");
    assert!(!world.processes().iter().any(|p| p.argv.iter().any(|a| a == "--no-daemon")));
    world.backend().assert_clean();
}

#[test]
fn idle_server_does_not_keep_the_old_account() {
    if !has_server(&version()) {
        return;
    }
    let Some(codex) = Codex::real() else { return };
    let world = World::logged_in_with(codex, &["alice", "bob"]);
    world.pool(&["use", "alice"]).run().ok();
    world.codex(&["app-server", "daemon", "start"]).run().ok();
    let output = world.pool(&["use", "bob"]).run().ok();
    assert!(output.stderr.is_empty(), "no session is disturbed: {output}");
    let mut terminal = world.terminal(world.codex(&[]));
    world.ask(&mut terminal, "bob");
    assert!(!world.processes().iter().any(|p| p.argv.iter().any(|a| a == "--no-daemon")));
    complains(&world.pool(&["rm", "alice", "--yes"]).run().ok(), "was not revoked");
    world.backend().assert_clean();
}

#[test]
fn imported_documents_of_other_tools_start_codex() {
    let Some(codex) = Codex::real() else { return };
    let world = World::with(codex, &[]);
    world.backend().add("bob");
    world.backend().add("carol");
    let doc = |user: &str| -> Value { serde_json::from_str(&world.backend().auth_json(user)).expect("JSON") };
    let (mut bob, mut carol) = (doc("bob"), doc("carol"));
    bob["tokens"].as_object_mut().expect("tokens").remove("id_token");
    carol["last_refresh"] = json!(1_795_651_924);
    for (label, doc) in [("bob", bob), ("carol", carol)] {
        world.import(label, &doc.to_string());
        let exec = world.codex(&["exec", "--skip-git-repo-check", "hi"]).env("CODEX_POOL_ACCOUNT", label);
        exec.run().ok().says(&format!("hello from {label}"));
    }
}
