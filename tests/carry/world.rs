//! A pool whose accounts reach their limits in order, and a model with a task of four steps.

use std::fs;

use serde_json::Value;
use testkit::backend::{Limit, Task, Usage};
use testkit::{Cmd, Codex, Output, World, carried_versions, real_codex};

/// Flags without which Codex asks or cannot write.
pub(crate) const FLAGS: [&str; 4] = ["exec", "--skip-git-repo-check", "-s", "danger-full-access"];

/// A world with the real Codex of each version, started natively.
pub(crate) fn each(users: &[&str], mut test: impl FnMut(&str, World)) {
    for version in carried_versions() {
        let Some(world) = world(&version, users) else { return };
        test(&version, world);
    }
}

/// A world with the newest real Codex.
pub(crate) fn newest(users: &[&str]) -> Option<World> {
    world(&carried_versions().pop()?, users)
}

/// A world with that real Codex. Alice is live and the pick; the model thinks and has a task of four steps.
pub(crate) fn world(version: &str, users: &[&str]) -> Option<World> {
    let native = real_codex(version)?.native;
    let world = World::with(Codex::Program(native), users);
    world.link_admin();
    world.settings("background_refresh = false\nattend = false\n");
    world.rank(users);
    world.make_live(users[0]);
    world.backend().think();
    world.backend().give_task(Task::new(4));
    Some(world)
}

pub(crate) trait Carry {
    /// `codex exec` through the shim with these arguments.
    fn exec_with(&self, args: &[&str]) -> Cmd;

    /// Forgets all sessions, with what their logs say of limits.
    fn forget(&self);

    /// Who has done the steps, in order.
    fn steps(&self) -> String;

    /// That user's limit comes after so many answers.
    fn limit(&self, user: &str, answers: usize);

    /// Requires that each step was done once, by these users, and that nothing was lost or refused.
    fn assert_done(&self, done: &[(&str, usize)], what: &str);
}

impl Carry for World {
    fn exec_with(&self, args: &[&str]) -> Cmd {
        self.codex(&[&FLAGS, args].concat())
    }

    fn forget(&self) {
        let _ = fs::remove_file(self.work().join("steps.txt"));
        let _ = fs::remove_dir_all(self.codex_home().join("sessions"));
        self.backend().clear_report();
    }

    fn steps(&self) -> String {
        fs::read_to_string(self.work().join("steps.txt")).unwrap_or_default()
    }

    fn limit(&self, user: &str, answers: usize) {
        self.backend().set_usage(user, Usage::percent(40.0, 40.0));
        self.backend().limit_after(user, answers, Limit::Refuse);
    }

    #[track_caller]
    fn assert_done(&self, done: &[(&str, usize)], what: &str) {
        let by = done.iter().flat_map(|(user, steps)| std::iter::repeat_n(*user, *steps));
        let wanted: String = by.enumerate().map(|(at, user)| format!("{} {user}\n", at + 1)).collect();
        assert_eq!(self.steps(), wanted, "{what}");
        let report = self.backend().report();
        let refused: Vec<_> = report.turns.iter().filter(|turn| ![200, 429].contains(&turn.status)).collect();
        assert!(refused.is_empty(), "{what}: {refused:#?}");
        self.backend().assert_clean();
    }
}

/// The lines of `--json`.
pub(crate) fn events(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// Requires one conversation: one beginning, items that are counted on, one end.
#[track_caller]
pub(crate) fn assert_one_conversation(output: &Output, what: &str) {
    let events = events(&output.stdout);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    let count = |kind: &str| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!(
        (count("thread.started"), count("turn.started"), count("turn.completed")),
        (1, 1, 1),
        "{what}: {kinds:?}"
    );
    assert_eq!((count("turn.failed"), count("error")), (0, 0), "{what}: {}", output.stdout);
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("thread.started", "turn.completed"), "{what}");
    let ids: Vec<u64> = events
        .iter()
        .filter(|event| event["type"] == "item.completed")
        .map(|event| event["item"]["id"].as_str().and_then(|id| id[5..].parse().ok()).expect("an id"))
        .collect();
    let mut sorted = ids.clone();
    sorted.dedup();
    sorted.sort_unstable();
    assert_eq!(ids, sorted, "{what}: each id once, in order");
    assert_eq!(
        ids.iter().copied().max(),
        Some(ids.len() as u64 - 1),
        "{what}: none left out: {}",
        output.stdout
    );
}

/// The thread that a run with `--json` names.
pub(crate) fn thread_of(stdout: &str) -> String {
    events(stdout)[0]["thread_id"].as_str().unwrap_or_else(|| panic!("no thread: {stdout}")).to_owned()
}
