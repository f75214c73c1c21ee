//! A pool whose accounts reach their limits in order, and interfaces of the real Codex with a task of four steps. The first
//! launch starts the attendant.

use std::fs;
use std::time::Duration;

use testkit::backend::{Limit, Report, Task, Turn, Usage};
use testkit::{Cmd, Codex, Pty, SOON, World, has_server, versions};

/// Options with which the interface asks for nothing.
pub(crate) const FREE: [&str; 4] = ["-s", "danger-full-access", "-a", "never"];

/// A world of each version with a background server. Alice is live and the pick; the model thinks and has a task of four
/// steps.
pub(crate) fn each(users: &[&str], test: impl Fn(&World)) {
    for version in versions().into_iter().filter(|version| has_server(version)) {
        let Some(codex) = Codex::real_of(&version) else { return };
        let world = World::with(codex, users);
        world.install_server();
        world.link_admin();
        world.settings("background_refresh = false\n");
        world.rank(users);
        world.make_live(users[0]);
        world.backend().think();
        world.backend().give_task(Task::new(4));
        test(&world);
    }
}

pub(crate) trait Moves {
    /// Starts an interface.
    fn open(&self, args: &[&str]) -> Pty;

    /// That user's limit comes after so many answers.
    fn limit(&self, user: &str, answers: usize);

    /// Who has done the steps, in order.
    fn steps(&self) -> String;

    /// Waits until the task is done, by these users: each step once, nothing refused.
    fn wait_for_task(&self, done: &[(&str, usize)]);

    /// What became of the last moves, for messages.
    fn moves(&self) -> String;
}

impl Moves for World {
    fn open(&self, args: &[&str]) -> Pty {
        self.terminal(free(self.codex(args)))
    }

    fn limit(&self, user: &str, answers: usize) {
        self.backend().set_usage(user, Usage::percent(40.0, 40.0));
        self.backend().limit_after(user, answers, Limit::Refuse);
    }

    fn steps(&self) -> String {
        fs::read_to_string(self.work().join("steps.txt")).unwrap_or_default()
    }

    #[track_caller]
    fn wait_for_task(&self, done: &[(&str, usize)]) {
        let by = done.iter().flat_map(|(user, steps)| std::iter::repeat_n(*user, *steps));
        let wanted: String = by.enumerate().map(|(at, user)| format!("{} {user}\n", at + 1)).collect();
        let until = std::time::Instant::now() + SOON;
        while self.steps() != wanted && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.steps(), wanted, "{}: {}", self.version(), self.moves());
        let refused: Vec<Turn> = self
            .backend()
            .report()
            .turns
            .into_iter()
            .filter(|turn| ![200, 429].contains(&turn.status))
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
        self.backend().assert_clean();
    }

    fn moves(&self) -> String {
        fs::read_to_string(self.pool_home().join("moves.json")).unwrap_or_default()
    }
}

/// An interface that asks for nothing.
pub(crate) fn free(cmd: Cmd) -> Cmd {
    cmd.args(FREE)
}

/// Seconds from the last answer that says limit to a user's first request.
pub(crate) fn seconds_to_go_on(report: &Report, from: &str, to: &str) -> f64 {
    let limit =
        report.turns.iter().rfind(|t| t.status == 429 && t.user.as_deref() == Some(from)).expect("a limit");
    let next =
        report.turns.iter().find(|t| t.at > limit.at && t.user.as_deref() == Some(to)).expect("a request");
    next.at - limit.at
}
