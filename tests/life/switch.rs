//! `use`: pin, best, automatic; the sessions that it would disturb, and the question about them; the background server.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::{Codex, Running, SOON, World, complains};

use crate::logins::Logins as _;

/// Returns a session on that account that waits until the gate is there.
fn session(world: &World, user: &str) -> Running {
    world.hold(world.exec_as(user))
}

fn end(world: &World, sessions: Vec<Running>) {
    world.open_gate();
    for session in sessions {
        session.wait().ok();
    }
    fs::remove_file(world.gate()).expect("close the gate");
}

#[test]
fn name_pins_best_does_not_and_auto_unpins_and_each_says_the_undo() {
    let world = World::logged_in(&["alice", "bob", "carol"]);
    world.cache_usage(&[("alice", 80.0, 80.0), ("bob", 70.0, 70.0), ("carol", 5.0, 5.0)], 0);
    let exec = |user: &str| {
        world.codex(&["exec", "hi"]).run().ok().says(&format!("hello from {user}"));
    };
    world
        .pool(&["use", "bob"])
        .run()
        .ok()
        .says("`bob` is live and pinned; `codex-pool use --auto` unpins it");
    assert_eq!((world.live_owner().as_deref(), &world.account("bob")["pinned"]), (Some("bob"), &true.into()));
    exec("bob");
    let output = world.pool(&["use", "--best"]).run().ok();
    complains(&output, "`bob` was pinned; `codex-pool use bob` pins it again");
    output.says("`carol` is live; nothing is pinned, so later launches pick again");
    exec("carol");
    world.pool(&["use", "alice"]).run().ok();
    world
        .pool(&["use", "--auto"])
        .run()
        .ok()
        .says("`alice` is no longer pinned; every launch picks again (`codex-pool use alice` pins it)");
    assert_eq!(world.live_owner().as_deref(), Some("alice"), "only the pin went");
    exec("carol");
    world.pool(&["use", "--auto"]).run().ok().says("nothing was pinned");
    for wrong in [&["use", "bob", "--best"][..], &["use", "--best", "--auto"], &["use", "--auto", "--now"]] {
        world.pool(wrong).run().expect(2);
    }
    world.backend().assert_clean();
}

#[test]
fn account_that_cannot_be_used_is_refused_with_its_own_status() {
    let world = World::logged_in(&["alice", "bob", "carol"]);
    let live = world.live();
    complains(&world.pool(&["use", "stranger"]).run().expect(3), "no account matches");
    fs::remove_file(world.stored_path("bob")).expect("remove it");
    complains(&world.pool(&["use", "bob"]).run().expect(5), "`codex-pool reauth bob`");
    world.backend().revoke_logins("carol");
    world.backend().reject_access_tokens("carol");
    world.pool(&["refresh", "carol"]).run().expect(5);
    complains(&world.pool(&["use", "carol"]).run().expect(5), "reauth carol");
    world.edit_config(|config| drop(config.insert("forced_login_method".into(), "api".into())));
    complains(&world.pool(&["use", "alice"]).run().expect(4), "is forbidden here by Codex's configuration");
    complains(&world.pool(&["use", "--best"]).run().expect(4), "`codex-pool why`");
    assert_eq!((world.live(), world.account("alice")["pinned"].clone()), (live, false.into()));
}

#[test]
fn use_of_another_account_pins_it_and_leaves_the_file_to_its_sessions() {
    let world = World::logged_in(&["alice", "bob"]);
    let sessions = vec![session(&world, "alice"), session(&world, "alice")];
    let live = world.live();
    let output = world.pool(&["use", "bob"]).run().ok();
    for session in &sessions {
        complains(&output, &format!("codex exec (pid {}", session.pid()));
    }
    complains(&output, "keeps `alice` while ");
    complains(&output, "`codex-pool use bob --now` switches at once");
    output.says("`bob` is pinned: launches use it from now on; `codex-pool use --auto` unpins it");
    assert_eq!((world.live(), &world.account("bob")["pinned"]), (live.clone(), &true.into()));
    let exec = || world.exec().run().ok().says("hello from bob");
    exec();
    assert_eq!(world.live(), live, "the launch ran beside them");
    let said = world.pool(&["use", "bob", "--json"]).run().ok().json();
    assert_eq!((&said["pinned"], &said["live"]), (&true.into(), &false.into()));
    assert_eq!(said["waits_for"].as_array().expect("pids").len(), 2, "{said}");
    // Without a pin, launches pick what is best, and the file stays, too.
    world.usage(&[("alice", 90.0, 90.0), ("bob", 5.0, 5.0)]);
    world.pool(&["use", "--best"]).run().ok().says("nothing is pinned; launches pick `bob` now");
    assert_eq!((world.live(), &world.account("bob")["pinned"]), (live, &false.into()));
    world.pool(&["use", "bob"]).run().ok();
    end(&world, sessions);
    exec();
    assert_eq!(world.live_owner().as_deref(), Some("bob"), "it was free");
    world.backend().assert_clean();
}

#[test]
fn use_now_switches_under_the_sessions_and_names_them() {
    let world = World::logged_in(&["alice", "bob"]);
    let sessions = vec![session(&world, "alice"), session(&world, "alice")];
    // A switch to the live account disturbs no session.
    world.pool(&["use", "alice"]).run().ok();
    let output = world.pool(&["use", "bob", "--now"]).run().ok();
    for session in &sessions {
        complains(&output, &format!("codex exec (pid {}", session.pid()));
    }
    complains(&output, "`alice` is in use by ");
    complains(&output, "they stop with an error at their next token renewal");
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    end(&world, sessions);
    world.backend().assert_clean();
}

#[test]
fn restart_of_the_server_asks_and_heeds_what_changed_meanwhile() {
    let world = World::logged_in(&["alice", "bob"]);
    let mut sessions = vec![session(&world, "alice")];
    let command = || world.pool(&["use", "bob", "--restart-server"]);
    let unasked = command().run().expect(2);
    complains(&unasked, "error: `alice` is in use, nothing was switched");
    complains(&unasked, "next: add `--now`");
    let ask = || {
        let terminal = world.pty(command());
        terminal.wait_for_text("Switch to `bob` anyway?", SOON);
        terminal
    };
    let mut terminal = ask();
    terminal.send("\r");
    terminal.wait_for_text("nothing was switched", SOON);
    terminal.wait_for_text("`codex-pool use bob` lets new launches use it", SOON);
    assert_eq!(terminal.wait(SOON).code(), Some(1));
    let mut terminal = ask();
    terminal.send(testkit::pty::CTRL_C);
    assert_eq!(terminal.wait(SOON).code(), Some(1));
    assert_eq!(
        (world.live_owner().as_deref(), &world.account("bob")["pinned"]),
        (Some("alice"), &false.into())
    );
    // Another session starts while the question waits: the answer does not cover it.
    let mut terminal = ask();
    sessions.push(session(&world, "alice"));
    terminal.send("y\r");
    let second = format!("pid {}", sessions[1].pid());
    terminal.wait_for_text(&second, SOON);
    terminal.wait_for("the question again", SOON, |screen| screen.matches("Switch to `bob`").count() == 2);
    terminal.send("y\r");
    terminal.wait_for_text("`bob` is live and pinned", SOON);
    assert!(terminal.wait(SOON).success());
    end(&world, sessions);
}

#[test]
fn use_without_an_account_offers_a_choice() {
    let world = World::logged_in(&["alice", "bob"]);
    complains(&world.pool(&["use"]).run().expect(2), "`codex-pool use --best`");
    world.usage(&[("alice", 5.0, 5.0), ("bob", 30.0, 30.0)]);
    let open = || {
        let terminal = world.pty(world.pool(&["use"]));
        terminal.wait_for("the choice", SOON, |s| s.contains("70 %") && s.contains("every launch picks"));
        terminal
    };
    let mut terminal = open();
    terminal.send(testkit::pty::DOWN);
    terminal.send("\r");
    terminal.wait_for_text("`bob` is live and pinned", SOON);
    assert!(terminal.wait(SOON).success());
    let mut terminal = open();
    terminal.send(testkit::pty::UP);
    terminal.send("\r");
    terminal.wait_for_text("`bob` is no longer pinned", SOON);
    let mut terminal = open();
    terminal.send(testkit::pty::ESCAPE);
    assert!(terminal.wait(SOON).success());
    assert_eq!(world.account("bob")["live"], true, "Escape changes nothing");
}

#[test]
fn account_in_use_in_its_own_home_is_live_through_a_link() {
    let world = World::logged_in(&["alice", "bob"]);
    let sessions = vec![session(&world, "alice"), session(&world, "bob")];
    world.pool(&["use", "bob", "--force"]).run().ok();
    let live = world.codex_home().join("auth.json");
    assert!(fs::read_link(&live).expect("a link").starts_with(world.pool_home()));
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    end(&world, sessions);
    world.pool(&["use", "alice"]).run().ok();
    assert!(!live.is_symlink());
    assert_eq!(world.live_owner().as_deref(), Some("alice"));
    world.backend().assert_clean();
}

#[test]
fn unmanaged_login_is_never_overwritten_and_a_broken_one_is_kept() {
    let world = World::logged_in(&["alice", "bob"]);
    let token = r#"{"auth_mode":"personalAccessToken","personal_access_token":"fake"}"#;
    world.write_live(token);
    complains(
        &world.pool(&["use", "bob", "--force"]).run().expect(1),
        "holds a personal access token, which is never overwritten",
    );
    assert_eq!(world.live().as_deref(), Some(token));
    // Codex may be writing it just now; after two seconds it is not.
    world.write_live("{\"tokens\": {");
    world.pool(&["use", "bob"]).run().ok();
    assert_eq!(world.live_owner().as_deref(), Some("bob"));
    assert!(!world.pool_files_with("{\"tokens\": {").is_empty(), "it is in lost+found");
}

#[test]
fn server_that_cannot_be_restarted_is_reported() {
    let world = World::logged_in_with(Codex::Script("exit 9".into()), &["alice", "bob"]);
    let server = world.cmd("/bin/sleep").arg("1000").spawn();
    let record = world.codex_home().join("app-server-daemon/daemon.pid");
    world.write_private(&record, &json!({ "pid": server.pid() }).to_string());
    let output =
        world.pool(&["use", "bob", "--restart-server"]).run().expect(1).says("`bob` is live and pinned");
    complains(&output, "the account is switched, but the background server continues as before");
    complains(&output, "exit status: 9");
    drop(server);
    complains(
        &world.pool(&["use", "alice", "--restart-server"]).run().ok(),
        "no background server runs here",
    );
}

#[test]
fn ctrl_c_in_a_switch_leaves_all_or_nothing() {
    let world = World::logged_in(&["alice", "bob"]);
    let ids = ["alice", "bob"].map(|name| world.id(name));
    let live = world.codex_home().join("auth.json");
    for round in 1..=20 {
        let name = ["alice", "bob"][round % 2];
        let before = fs::read(&live).expect("a live login");
        let mut switch = world.pool(&["use", name]).spawn();
        // The moment when the login has changed and the pin may not have: no pause between two looks.
        while switch.is_running() && fs::read(&live).is_ok_and(|now| now == before) {
            std::hint::spin_loop();
        }
        if switch.is_running() {
            switch.signal_group(Signal::SIGINT);
        }
        switch.wait();
        let state = fs::read_to_string(world.pool_home().join("state.json")).expect("the state");
        let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
        assert_eq!(world.live_owner().as_deref(), Some(name));
        assert_eq!(state["pin"], *ids[round % 2], "half done: {name} is live, another one pinned");
    }
    world.backend().assert_clean();
}
