//! A command that goes on with a session runs on the account that began it. Where that account cannot be used, the user
//! is told which one goes on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::pty::ENTER;
use testkit::{Cmd, Output, Pty, SOON, World, answered, has_server};

use crate::rpc::Editor;
use crate::world::{Homes as _, TWO, worlds, worlds_with_server};

/// Returns the session that was asked in last.
fn last_session(world: &World) -> String {
    let report = world.backend().report();
    let turn = report.turns.iter().rfind(|turn| turn.session().is_some()).expect("a turn");
    turn.session().expect("a session").to_owned()
}

/// Returns a session of bob's, made while alice ranks first and is live.
fn session_of_bob(world: &World) -> String {
    answered(world.exec_as("bob").run(), "bob");
    let session = last_session(world);
    answered(world.exec_as("alice").run(), "alice");
    session
}

fn resume(world: &World, session: &str) -> Cmd {
    world.codex(&["exec", "--skip-git-repo-check", "resume", session, "go on"])
}

/// Requires that this user went on with that session.
#[track_caller]
fn went_on(world: &World, output: Output, session: &str, user: &str) -> Output {
    let output = answered(output, user);
    assert_eq!(last_session(world), session, "{}: {output}", world.version());
    output
}

fn log_of(world: &World, session: &str) -> PathBuf {
    fn search(dir: &Path, session: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.into_iter().find_map(|path| match path.is_dir() {
            true => search(&path, session),
            false => path.to_string_lossy().contains(session).then_some(path),
        })
    }
    search(&world.codex_home().join("sessions"), session).expect("the session's log")
}

/// Removes the creator from the log, as older versions write it.
fn forget_creator(world: &World, session: &str) {
    let path = log_of(world, session);
    let text = fs::read_to_string(&path).expect("the log");
    let (first, rest) = text.split_once('\n').expect("a first line");
    let mut meta: Value = serde_json::from_str(first).expect("JSON");
    let payload = meta["payload"].as_object_mut().expect("the session's description");
    payload.retain(|key, _| !key.starts_with("creator_"));
    fs::write(&path, format!("{meta}\n{rest}")).expect("write the log");
}

/// Quits an interactive session of bob's, who is not the pick. Returns the session, and the command that Codex printed
/// to go on with it.
fn quit_session_of_bob(world: &World) -> (String, String) {
    let mut ui = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
    world.ask(&mut ui, "bob");
    let session = last_session(world);
    ui.quit_codex();
    let screen = ui.screen();
    world.rank(&TWO);
    let printed = screen.lines().find_map(|line| Some(line[line.find("codex resume ")?..].trim().to_owned()));
    // 0.150 prints how to choose it from the list.
    let listed = || screen.contains("codex resume, then select").then(|| format!("codex resume {session}"));
    let printed = printed.or_else(listed);
    (session, printed.unwrap_or_else(|| panic!("{}: {screen}", world.version())))
}

/// Types a command into a shell, and requires that this user goes on with that session.
#[track_caller]
fn type_and_go_on(world: &World, command: &str, session: &str, user: &str) {
    let mut ui = world.terminal(world.cmd("sh").args(["-c", command]));
    world.ask(&mut ui, user);
    assert_eq!(last_session(world), session, "{}", world.version());
    ui.quit_codex();
}

#[test]
fn printed_resume_command_goes_on_at_once_as_its_account() {
    for world in worlds(&TWO) {
        let (session, printed) = quit_session_of_bob(&world);
        assert_eq!(printed, format!("codex resume {session}"), "{}", world.version());
        type_and_go_on(&world, &printed, &session, "bob");
        // The same when other accounts were there in between, or are there now.
        answered(world.exec().run(), "alice");
        type_and_go_on(&world, &printed, &session, "bob");
        let alice = Editor::open(world.codex(&["app-server"]));
        type_and_go_on(&world, &printed, &session, "bob");
        alice.close();
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn printed_resume_command_goes_on_while_another_has_the_main_home() {
    for world in worlds_with_server(&TWO) {
        let (session, printed) = quit_session_of_bob(&world);
        // As if the minute had passed after which the server forgets its thread.
        world.codex(&["app-server", "daemon", "stop"]).run().ok();
        let mut alice = world.ui(&[]);
        world.ask(&mut alice, "alice");
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        type_and_go_on(&world, &printed, &session, "bob");
        assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"), "{}", world.version());
        world.ask(&mut alice, "alice");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn list_of_sessions_is_that_of_the_folders_last_account() {
    for world in worlds(&TWO) {
        let (session, _) = quit_session_of_bob(&world);
        answered(world.exec().run(), "alice");
        for verb in ["resume", "fork"] {
            let mut list = Pty::spawn(world.codex(&[verb]), 40, 120);
            list.wait_for_text("question ", SOON);
            assert!(
                list.raw().contains("the session you choose will run as bob"),
                "{}: {}",
                world.version(),
                list.raw()
            );
            list.send(ENTER);
            list.wait_for_codex(SOON);
            world.ask(&mut list, "bob");
            assert_eq!(last_session(&world) == session, verb == "resume", "{}", world.version());
            list.quit_codex();
        }
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn printed_resume_command_goes_on_after_a_session_in_an_own_home() {
    for world in worlds(&TWO) {
        let alice = Editor::open(world.codex(&["app-server"]));
        let mut ui = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
        world.ask(&mut ui, "bob");
        let session = last_session(&world);
        ui.quit_codex();
        let mut ui = world.ui(&["resume", &session]);
        world.ask(&mut ui, "bob");
        ui.quit_codex();
        alice.close();
        // Now the main home is free, but a server in bob's home may still hold the thread.
        let mut ui = world.ui(&["resume", &session]);
        world.ask(&mut ui, "bob");
        assert_eq!(last_session(&world), session, "{}", world.version());
        ui.quit_codex();
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn exec_resume_goes_on_as_the_account_that_began() {
    for world in worlds(&TWO) {
        let session = session_of_bob(&world);
        let output = went_on(&world, resume(&world, &session).run(), &session, "bob");
        // From 0.159 on the session says so itself; before, the user is told what it is taken from.
        let told = output
            .stderr
            .contains("this session records no account; continuing as bob, who last used this folder");
        assert_eq!(told, world.version() < "0.159", "{output}");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn forks_are_made_by_the_account_that_began() {
    for world in worlds(&TWO) {
        let session = session_of_bob(&world);
        if has_server(world.version()) {
            // Not known before 0.159.
            let fork = world.codex(&["exec", "fork", "--skip-git-repo-check", &session, "another way"]);
            answered(fork.run(), "bob");
            assert_ne!(last_session(&world), session);
            answered(world.exec_as("alice").run(), "alice");
        }
        let mut ui = world.ui(&["fork", &session]);
        world.ask(&mut ui, "bob");
        assert_ne!(last_session(&world), session);
        ui.quit_codex();
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn last_session_is_that_of_the_folder() {
    for world in worlds(&TWO) {
        let other = world.root().join("other");
        fs::create_dir(&other).expect("make a folder");
        answered(world.exec_as("alice").run(), "alice");
        let alices = last_session(&world);
        answered(world.exec_as("bob").current_dir(&other).run(), "bob");
        let bobs = last_session(&world);
        let last = || world.codex(&["exec", "--skip-git-repo-check", "resume", "--last", "go on"]);
        for (folder, session, user) in
            [(other.clone(), &bobs, "bob"), (world.work(), &alices, "alice"), (other.clone(), &bobs, "bob")]
        {
            went_on(&world, last().current_dir(folder).run(), session, user);
        }
        // As seen from elsewhere.
        let cd = ["exec", "--skip-git-repo-check", "-C", "../other", "resume", "--last", "go on"];
        went_on(&world, world.codex(&cd).run(), &bobs, "bob");
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn last_interactive_session_of_a_folder_outlives_later_execs() {
    for world in worlds(&TWO) {
        let (session, _) = quit_session_of_bob(&world);
        answered(world.exec().run(), "alice");
        type_and_go_on(&world, "codex resume --last", &session, "bob");
        let mut fork = world.ui(&["fork", "--last"]);
        world.ask(&mut fork, "bob");
        assert_ne!(last_session(&world), session, "{}", world.version());
        fork.quit_codex();
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn session_is_found_by_its_name() {
    for world in worlds(&TWO) {
        world.rank(&["bob", "alice"]);
        let mut editor = Editor::open(world.codex(&["app-server"]));
        editor.ask(&world, "hello from bob");
        let session = last_session(&world);
        editor.call("thread/name/set", &json!({"threadId": session, "name": "the big one"}));
        editor.close();
        world.rank(&TWO);
        answered(world.exec_as("alice").run(), "alice");
        went_on(&world, resume(&world, "the big one").run(), &session, "bob");
        answered(world.exec_as("alice").run(), "alice");
        type_and_go_on(&world, "codex resume 'the big one'", &session, "bob");
    }
}

#[test]
fn session_without_a_creator_goes_to_the_account_then_in_its_folder() {
    for world in worlds(&TWO) {
        let bobs = session_of_bob(&world);
        let alices = last_session(&world);
        let others = answered(world.verbose_exec_as("bob").run(), "bob");
        assert!(!others.stderr.contains("does not say"), "{others}");
        for (session, user) in [(&bobs, "bob"), (&alices, "alice")] {
            forget_creator(&world, session);
            let elsewhere = resume(&world, session).current_dir(world.home());
            let output = went_on(&world, elsewhere.run(), session, user);
            // Alice is the pick anyway: there is nothing to say.
            let told = output
                .stderr
                .contains("this session records no account; continuing as bob, who last used this folder");
            assert_eq!(told, user == "bob", "{output}");
        }
        // It began in a folder without launches: its account is unknown.
        let path = log_of(&world, &bobs);
        let text = fs::read_to_string(&path).expect("the log");
        fs::write(&path, text.replacen("/work\"", "/nowhere\"", 1)).expect("write the log");
        let output = went_on(&world, resume(&world, &bobs).run(), &bobs, "alice");
        assert!(output.stderr.contains("this session records no account; continuing as alice"), "{output}");
        // Nor of one that cannot be found, which is left to Codex.
        let nowhere = "01a2045b-b297-7ec2-9a4e-4dd57c69b732";
        let output = resume(&world, nowhere).run();
        assert!(output.stderr.contains("no such session was found here; continuing as alice"), "{output}");
    }
}

#[test]
fn queued_message_is_answered_by_the_account_that_began() {
    for world in worlds_with_server(&TWO) {
        let mut ui = world.terminal(world.codex(&[]).env("CODEX_POOL_ACCOUNT", "bob"));
        world.ask(&mut ui, "bob");
        let session = last_session(&world);
        world.rank(&TWO);
        let queue = || world.codex(&["queue", "--thread", &session, "--message", "and then"]);
        queue().run().ok();
        let done = |r: &testkit::backend::Report| r.turns_of("bob").iter().filter(|t| t.done).count();
        world.backend().wait_for("an answer to the first", SOON, |report| done(report) == 2);
        ui.quit_codex();
        queue().run().ok();
        world.backend().wait_for("an answer to the second", SOON, |report| done(report) == 3);
        assert!(world.backend().report().turns_of("alice").is_empty(), "{}", world.version());
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn owner_that_cannot_go_on_is_named_with_reason_and_successor() {
    for world in worlds_with_server(&TWO) {
        let session = session_of_bob(&world);
        world.usage(&[("alice", 2.5, 5.0), ("bob", 50.0, 100.0)]);
        let output = went_on(&world, resume(&world, &session).run(), &session, "alice");
        let line = "this session is bob's (at its limit, back in ";
        assert!(output.stderr.contains(line) && output.stderr.contains("continuing as alice"), "{output}");

        // Who ran a thread last owns it, so each reason gets a thread of its own.
        world.rank(&TWO);
        let session = session_of_bob(&world);
        world.pool(&["disable", "bob"]).run().ok();
        let output = went_on(&world, resume(&world, &session).run(), &session, "alice");
        assert!(output.stderr.contains("this session is bob's (disabled"), "{output}");
        world.pool(&["enable", "bob"]).run().ok();

        let session = session_of_bob(&world);
        world.pool(&["use", "alice"]).run().ok();
        let output = went_on(&world, resume(&world, &session).run(), &session, "alice");
        assert!(output.stderr.contains("this session is bob's (another account is pinned)"), "{output}");
        world.pool(&["use", "--auto"]).run().ok();

        let session = session_of_bob(&world);
        world.pool(&["rm", "bob", "--yes"]).run().ok();
        let output = went_on(&world, resume(&world, &session).run(), &session, "alice");
        assert!(output.stderr.contains("this session is of an account that is not in the pool"), "{output}");
        world.assert_nothing_lost(&["alice"]);
    }
}

#[test]
fn owner_whose_server_has_the_session_goes_on_with_a_line() {
    for world in worlds_with_server(&TWO) {
        let (session, printed) = quit_session_of_bob(&world);
        world.pool(&["disable", "bob"]).run().ok();
        // No other Codex can open it while the server has it.
        let mut ui = world.terminal(world.cmd("sh").args(["-c", &printed]));
        let line = "this session is open in a running Codex, which answers as bob (disabled)";
        assert!(ui.raw().contains(line), "{}: {}", world.version(), ui.raw());
        world.ask(&mut ui, "bob");
        assert_eq!(last_session(&world), session, "{}", world.version());
        ui.quit_codex();
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn last_session_whose_account_cannot_go_on_is_not_taken_silently() {
    for world in worlds(&TWO) {
        answered(world.exec_as("bob").run(), "bob");
        world.usage(&[("alice", 2.5, 5.0), ("bob", 50.0, 100.0)]);
        let last = world.codex(&["exec", "--skip-git-repo-check", "resume", "--last", "go on"]);
        let output = answered(last.run(), "alice");
        assert!(output.stderr.contains("the last session here is bob's (at its limit"), "{output}");
    }
}

#[test]
fn session_held_by_a_server_of_a_changed_home_is_joined_with_a_line() {
    for world in worlds_with_server(&TWO) {
        let mut ui = world.ui(&[]);
        world.ask(&mut ui, "alice");
        let session = last_session(&world);
        ui.quit_codex();
        let before = world.server(&world.codex_home());
        world.pool(&["use", "bob", "--force"]).run().ok();
        assert_eq!(world.live_owner().as_deref(), Some("bob"));
        let mut ui = world.ui(&["resume", &session]);
        world.ask(&mut ui, "alice");
        assert_eq!(
            (last_session(&world), world.server(&world.codex_home())),
            (session, before),
            "{}",
            world.version()
        );
        let said = ui.raw();
        assert!(
            said.contains("open in a running Codex, which answers as alice"),
            "{}: {said}",
            world.version()
        );
        ui.quit_codex();
    }
}
