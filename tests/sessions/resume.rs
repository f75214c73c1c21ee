//! `resume`, `exec resume`, `--last`: whoever ranks first, a session is continued by its own account, and
//! where that cannot be, a line says so.

use testkit::{has_server, version};

use crate::world::{BOB_FIRST, World};

/// Carol ranks first here, so that nobody is asked by chance.
const CAROL_FIRST: [(&str, f64, f64); 3] =
    [("alice", 50.0, 70.0), ("bob", 30.0, 40.0), ("carol", 10.0, 10.0)];

fn world() -> World {
    let world = World::real(&["alice", "bob", "carol"]);
    world.usage(&BOB_FIRST);
    world
}

/// A session of bob's: its id.
fn session_of_bob(world: &World) -> String {
    let out = world.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok();
    assert!(out.stdout.contains("hello from bob"), "{}", out.stdout);
    let line = out.stderr.lines().find(|l| l.to_lowercase().contains("session id")).expect("a session id");
    line.split_whitespace().last().expect("the id").to_owned()
}

#[test]
fn exec_resume_goes_to_the_account_that_made_the_session() {
    let world = world();
    let id = session_of_bob(&world);
    world.usage(&CAROL_FIRST);
    assert_eq!(world.why()[0], "carol");
    let out = world.codex(&["exec", "--skip-git-repo-check", "resume", &id, "go on"]).run().ok();
    assert!(out.stdout.contains("hello from bob"), "{}{}", out.stdout, out.stderr);
    // Where the log says whose it is, there is nothing more to say.
    assert_eq!(out.stderr.contains("codex-pool:"), !has_server(&version()), "{}", out.stderr);
    world.backend().assert_clean();
}

#[test]
fn exec_resume_last_goes_to_the_account_of_the_last_launch_in_this_folder() {
    let world = world();
    session_of_bob(&world);
    world.usage(&CAROL_FIRST);
    let elsewhere = world.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    let there = world.codex(&["exec", "--skip-git-repo-check", "hi"]).current_dir(&elsewhere).run().ok();
    assert!(there.stdout.contains("hello from carol"), "{}", there.stdout);
    let out = world.codex(&["exec", "--skip-git-repo-check", "resume", "--last", "go on"]).run().ok();
    assert!(out.stdout.contains("hello from bob"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn an_owner_at_its_limit_is_named_with_its_reset_and_another_goes_on() {
    let world = world();
    let id = session_of_bob(&world);
    world.usage(&[("alice", 50.0, 70.0), ("bob", 100.0, 40.0), ("carol", 10.0, 10.0)]);
    let out = world.codex(&["exec", "--skip-git-repo-check", "resume", &id, "go on"]).run().ok();
    assert!(out.stdout.contains("hello from carol"), "{}", out.stdout);
    let said = |word: &str| out.stderr.lines().any(|l| l.starts_with("codex-pool:") && l.contains(word));
    assert!(said("bob") && said("carol") && said("resets in"), "{}", out.stderr);
}

#[test]
fn the_session_of_a_disabled_or_removed_account_is_never_continued_silently() {
    let world = world();
    let id = session_of_bob(&world);
    world.usage(&CAROL_FIRST);
    world.pool(&["disable", "bob"]).run().ok();
    let out = world.codex(&["exec", "--skip-git-repo-check", "resume", &id, "go on"]).run().ok();
    assert!(out.stdout.contains("hello from carol"), "{}", out.stdout);
    assert!(out.stderr.contains("belongs to bob (disabled)"), "{}", out.stderr);
    world.pool(&["rm", "bob", "--yes"]).run().ok();
    let out = world.codex(&["exec", "--skip-git-repo-check", "resume", &id, "go on"]).run().ok();
    if has_server(&version()) {
        assert!(out.stderr.contains("an account that is not in the pool"), "{}", out.stderr);
    }
}

#[test]
fn a_pin_stays_in_force_and_the_line_says_whose_session_it_is() {
    let world = world();
    let id = session_of_bob(&world);
    world.pool(&["use", "alice"]).run().ok();
    let out = world.codex(&["exec", "--skip-git-repo-check", "resume", &id, "go on"]).run().ok();
    assert!(out.stdout.contains("hello from alice"), "{}", out.stdout);
    assert!(out.stderr.contains("belongs to bob (another account is pinned)"), "{}", out.stderr);
}
