//! Several accounts at once: the session in the main home goes on undisturbed, others get own homes, and every answer
//! comes from the launch's own account. On the real Codex.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use testkit::backend::{LoginSpec, Step};
use testkit::files::files_below;
use testkit::{Running, SOON, World, answered};

use crate::ALL;

/// Requires that each turn of a session came from one user, and gives them by prompt.
#[track_caller]
fn users_by_prompt(world: &World) -> BTreeMap<String, String> {
    let mut sessions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut prompts = BTreeMap::new();
    for turn in world.backend().report().turns {
        assert_eq!(turn.status, 200, "{turn:?}");
        let user = turn.user.clone().expect("a user");
        sessions.entry(turn.session().expect("a session").to_owned()).or_default().insert(user.clone());
        prompts.insert(turn.prompt.expect("a prompt"), user);
    }
    for (session, users) in sessions {
        assert_eq!(users.len(), 1, "session {session} was answered by {users:?}");
    }
    prompts
}

#[test]
fn sessions_on_three_accounts_stay_on_their_own_and_share_history() {
    let Some(world) = World::real(&["alice", "bob"]) else { return };
    let backend = world.backend();
    // Carol's session rotates her tokens in her home.
    backend.add("carol");
    world.import("carol", &backend.auth_json_with("carol", &LoginSpec::expires_in(-60)));
    world.usage(&[("alice", 10.0, 10.0), ("bob", 60.0, 60.0), ("carol", 60.0, 60.0)]);
    let hold = backend.hold("alice");
    let mut ui = world.terminal(world.codex(&[]));
    ui.send_line("from the interface");
    let exec = world.codex(&["exec", "--skip-git-repo-check", "from exec"]).spawn();
    hold.wait_for(2, SOON);
    let launch = |name: &str, prompt: &str| {
        world.codex(&["exec", "--skip-git-repo-check", prompt]).env("CODEX_POOL_ACCOUNT", name).spawn()
    };
    let others = [launch("bob", "bob one"), launch("carol", "carol one"), launch("bob", "bob two")];
    for (running, user) in others.into_iter().zip(["bob", "carol", "bob"]) {
        answered(running.wait(), user);
    }
    assert_eq!(world.live_owner().as_deref(), Some("alice"), "the main home stayed hers");
    drop(hold);
    answered(exec.wait(), "alice");
    ui.wait_for_text("hello from alice", SOON);
    // A token of hers that the service rejects is renewed by her own session, in the main home.
    backend.reject_access_tokens("alice");
    ui.send_line("once more");
    backend.wait_for("alice's refresh", SOON, |report| !report.refreshes_of("alice").is_empty());
    backend.wait_for("alice's answer", SOON, |report| {
        report.turns_of("alice").iter().filter(|t| t.done).count() == 3
    });
    ui.send_line("/quit");
    assert!(ui.wait(SOON).success());

    let by_prompt = users_by_prompt_of_good_turns(&world);
    for (prompt, user) in [
        ("from the interface", "alice"),
        ("from exec", "alice"),
        ("bob one", "bob"),
        ("bob two", "bob"),
        ("carol one", "carol"),
        ("once more", "alice"),
    ] {
        assert_eq!(by_prompt.get(prompt).map(String::as_str), Some(user), "{prompt}");
    }
    assert_eq!(world.rollouts().len(), 5, "one shared history");
    world.assert_nothing_lost(&ALL);
}

/// As [`users_by_prompt`], without those that were rejected.
#[track_caller]
fn users_by_prompt_of_good_turns(world: &World) -> BTreeMap<String, String> {
    let turns = world.backend().report().turns;
    let good = turns.into_iter().filter(|t| t.status == 200);
    good.map(|t| (t.prompt.expect("a prompt"), t.user.expect("a user"))).collect()
}

/// Twenty launches at once, on accounts drawn from a seed, each of two turns.
#[track_caller]
fn twenty_at_once(world: &World, codex_home: Option<&Path>) {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .subsec_nanos();
    let mut state = u64::from(seed) | 1;
    let mut draw = || {
        // xorshift: good enough to mix.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ALL[usize::try_from(state % 3).expect("below 3")]
    };
    let launches: Vec<(String, &str)> = (0..20).map(|n| (format!("number {n}"), draw())).collect();
    for (_, user) in &launches {
        world
            .backend()
            .script(user, [Step::Shell("true".to_owned()), Step::Say(format!("hello from {user}"))]);
    }
    let running: Vec<Running> = launches
        .iter()
        .map(|(prompt, user)| {
            let launch = world.codex(&["exec", "--skip-git-repo-check", "-s", "danger-full-access", prompt]);
            let launch = launch.env("CODEX_POOL_ACCOUNT", user).timeout(4 * SOON);
            codex_home.iter().fold(launch, |launch, dir| launch.env("CODEX_HOME", dir)).spawn()
        })
        .collect();
    for (running, (prompt, user)) in running.into_iter().zip(&launches) {
        let output = running.wait().ok();
        assert!(output.stdout.contains(&format!("hello from {user}")), "seed {seed}, {prompt}: {output}");
    }
    let users = users_by_prompt(world);
    for (prompt, user) in &launches {
        assert_eq!(users.get(prompt).map(String::as_str), Some(*user), "seed {seed}, {prompt}");
    }
    let turns = world.backend().report().turns.len();
    assert_eq!(turns, 40, "seed {seed}");
    let sessions = codex_home.unwrap_or(&world.codex_home()).join("sessions");
    assert_eq!(files_below(&sessions).len(), 20, "one shared history");
    world.assert_nothing_lost(&ALL);
}

#[test]
fn twenty_launches_at_once_are_each_answered_by_the_account_they_chose() {
    let Some(world) = World::real(&ALL) else { return };
    answered(world.exec_as("alice").run(), "alice");
    for path in world.rollouts() {
        fs::remove_file(path).expect("forget the session");
    }
    world.backend().clear_report();
    twenty_at_once(&world, None);
}

#[test]
fn twenty_launches_at_once_from_a_codex_home_that_was_never_used() {
    let Some(world) = World::real(&ALL) else { return };
    let fresh = world.home().join("fresh");
    world.write_private(&fresh.join("config.toml"), &world.codex_config().to_string());
    twenty_at_once(&world, Some(&fresh));
}
