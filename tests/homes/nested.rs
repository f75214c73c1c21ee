//! `codex` inside a session of `codex`: in its shell tool, below its background server, in a script that `codex-pool
//! run` started. It stays on the session's account and home, though another account ranks first meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use testkit::backend::{Hold, Step};
use testkit::{Pty, Running, SOON, World, answered, has_server, wait_until};

use crate::world::{Homes as _, TWO, worlds, worlds_with_server};

const INNER: &str = "codex exec --skip-git-repo-check inner";

/// Lets tools run without approval. Options on the command line would keep an interface off its background server.
fn let_tools_run(world: &World) {
    world.edit_config(|config| {
        config.insert("sandbox_mode".into(), "danger-full-access".into());
        config.insert("approval_policy".into(), "never".into());
    });
}

/// Returns the users who answered this prompt, in order.
fn asked(world: &World, prompt: &str) -> Vec<String> {
    let turns = world.backend().report().turns.into_iter().filter(|t| t.prompt.as_deref() == Some(prompt));
    turns.filter_map(|turn| turn.user).collect()
}

/// Starts a session of alice's in the main home, so that bob gets his own home.
fn alice(world: &World) -> (Hold, Running) {
    let hold = world.backend().hold("alice");
    let running = world.exec_as("alice").spawn();
    hold.wait_for(1, SOON);
    (hold, running)
}

/// Runs `codex exec` on bob, whose tool runs this; alice ranks first by then.
#[track_caller]
fn outer(world: &World, tool: &str) {
    world.backend().script("bob", [Step::Shell(tool.to_owned())]);
    let hold = world.backend().hold("bob");
    world.rank(&["bob", "alice"]);
    let running = world.codex(&["exec", "--skip-git-repo-check", "outer"]).spawn();
    hold.wait_for(1, SOON);
    world.rank(&["alice", "bob"]);
    drop(hold);
    answered(running.wait(), "bob");
}

#[test]
fn nested_codex_in_a_shell_tool_of_the_main_home_stays_put() {
    for world in worlds(&TWO) {
        let_tools_run(&world);
        outer(&world, &format!("{INNER}; {INNER}"));
        assert_eq!(asked(&world, "inner"), ["bob", "bob"], "{}", world.version());
        assert_eq!(world.live_owner().as_deref(), Some("bob"), "{}", world.version());
        assert!(!world.pool_home().join("homes").exists(), "{}: no own home was needed", world.version());
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn nested_codex_in_a_shell_tool_of_an_own_home_stays_put() {
    for world in worlds(&TWO) {
        let_tools_run(&world);
        let (hold, alice) = alice(&world);
        // The main home gets free while the session runs.
        let gate = world.root().join("gate");
        let tool = format!(
            "{INNER}; touch {0}.begun; while [ ! -e {0} ]; do sleep 0.02; done; {INNER}",
            gate.display()
        );
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("the inner session", SOON, || gate.with_extension("begun").exists());
                drop(hold);
                answered(alice.wait(), "alice");
                fs::write(&gate, "").expect("open the gate");
            });
            outer(&world, &tool);
        });
        assert_eq!(asked(&world, "inner"), ["bob", "bob"], "{}", world.version());
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"), "{}", world.version());
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn nested_codex_with_a_reduced_environment_stays_put() {
    // The variables that the shim set are gone; Codex's own and the process tree tell.
    for world in worlds(&TWO) {
        let_tools_run(&world);
        world.edit_config(|config| {
            let policy = toml::Table::from_iter([("inherit".to_owned(), "core".into())]);
            config.insert("shell_environment_policy".into(), policy.into());
        });
        let (hold, alice) = alice(&world);
        // What this test's Codex needs to reach the stand-in service.
        let urls = format!(
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE={} CODEX_REVOKE_TOKEN_URL_OVERRIDE={}",
            world.backend().token_url(),
            world.backend().revoke_url()
        );
        let env = world.root().join("env");
        let unset = "unset CODEX_POOL_LAUNCH CODEX_POOL_DEPTH CODEX_HOME CODEX_SQLITE_HOME";
        outer(&world, &format!("env > {}; {unset}; {urls} {INNER}", env.display()));
        let cut = fs::read_to_string(env).expect("the tool's environment");
        let is_cut = !cut.contains("CODEX_POOL_LAUNCH") && !cut.contains("CODEX_HOME=");
        assert!(is_cut || !has_server(world.version()), "{}, which cuts it: {cut}", world.version());
        assert_eq!(asked(&world, "inner"), ["bob"], "{}", world.version());
        drop(hold);
        answered(alice.wait(), "alice");
        world.assert_nothing_lost(&TWO);
    }
}

/// Has a tool of the session in this interface run `codex exec`, and gives who answered that.
#[track_caller]
fn nested_in(world: &World, ui: &mut Pty, user: &str) {
    let before = asked(world, "inner").len();
    world.backend().script(user, [Step::Shell(INNER.to_owned())]);
    ui.send_line("outer");
    wait_until("the inner session", SOON, || asked(world, "inner").len() > before);
    assert_eq!(asked(world, "inner").last().map(String::as_str), Some(user), "{}", world.version());
    let done = |t: &testkit::backend::Turn| t.prompt.as_deref() == Some("outer") && t.done;
    world
        .backend()
        .wait_for("the outer answer", SOON, |r| r.turns.iter().filter(|t| done(t)).count() % 2 == 0);
}

#[test]
fn nested_codex_below_a_background_server_stays_put() {
    for world in worlds_with_server(&TWO) {
        let_tools_run(&world);
        let mut stays = Vec::new();
        // Both in the main home and in a home: a first session starts the server, the second one joins it.
        for (user, dir) in [("alice", world.codex_home()), ("bob", PathBuf::new())] {
            let other = if user == "alice" { "bob" } else { "alice" };
            world.rank(&[user, other]);
            let mut first = world.ui(&[]);
            world.ask(&mut first, user);
            let dir = if user == "bob" { world.own_home("bob") } else { dir };
            let served_by = world.server(&dir);
            assert!(served_by.is_some(), "{}: a server in {}", world.version(), dir.display());
            let mut second = world.ui(&[]);
            world.ask(&mut second, user);
            first.quit_codex();
            world.rank(&[other, user]);
            nested_in(&world, &mut second, user);
            assert_eq!(world.server(&dir), served_by, "{}: it was not disturbed", world.version());
            assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
            if user == "alice" {
                // She stays, so that bob gets his own home.
                stays.push(second);
            } else {
                second.quit_codex();
            }
        }
        world.assert_nothing_lost(&TWO);
    }
}

#[test]
fn nested_codex_in_a_script_of_run_stays_put() {
    for world in worlds(&TWO) {
        let (script, gate) = (world.work().join("ci.sh"), world.root().join("gate"));
        let text = format!(
            "#!/bin/sh\nset -e\n{INNER}\ntouch {0}.begun\nwhile [ ! -e {0} ]; do sleep 0.02; done\n{INNER}\n\
             codex exec --skip-git-repo-check resume --last inner\n",
            gate.display()
        );
        fs::write(&script, text).expect("write the script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("make it executable");
        let (hold, alice) = alice(&world);
        let run = world.pool(&["run", "bob", "--program", "./ci.sh"]).timeout(2 * SOON).spawn();
        wait_until("the first call", SOON, || gate.with_extension("begun").exists());
        drop(hold);
        answered(alice.wait(), "alice");
        // The main home is free and alice ranks first; the script stays where it is.
        fs::write(&gate, "").expect("open the gate");
        let output = run.wait().ok();
        assert_eq!(output.stdout.matches("hello from bob").count(), 3, "{}: {output}", world.version());
        assert_eq!(asked(&world, "inner"), ["bob"; 3], "{}", world.version());
        assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
        assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"), "{}", world.version());
        world.assert_nothing_lost(&TWO);
    }
}
