//! The first half of the demo, which the recording in README shows, too: how accounts are picked, and how work goes on
//! at a limit.

use testkit::backend::{Limit, Task, Usage, Window};
use testkit::{Cmd, Codex, World};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Shows what happens.
pub(crate) trait Stage {
    /// Says what comes next.
    fn title(&mut self, text: &str);

    /// Runs `codex` or `codex-pool` in the world, and shows what a person would see of it.
    fn run(&mut self, world: &World, program: &str, args: &[&str]);

    /// Says what the service has seen.
    fn seen(&mut self, _text: &str) {}
}

/// Returns a world without accounts, where `codex` is this one.
pub(crate) fn world(codex: Codex) -> World {
    let world = World::with(codex, &[]);
    // The story is told in seconds, so usage may be asked for at once.
    world.settings("background_refresh = false\nmin_poll_interval = \"0s\"\n");
    world
}

/// Returns that command. Work is two requests of the stand-in for Codex, and all else is one.
pub(crate) fn command(world: &World, program: &str, args: &[&str]) -> Cmd {
    let command = if program == "codex" { world.codex(args) } else { world.pool(args) };
    command.env("STANDIN_LOG", "1").env("STANDIN_TURNS", if args.ends_with(&[WORK]) { "2" } else { "1" })
}

/// What is asked for where the limit is reached.
const WORK: &str = "fix the tests";

/// Tells the story, and leaves alice at her limit and bob live.
pub(crate) fn tell(world: &World, stage: &mut impl Stage) {
    for name in ["alice", "bob", "carol"] {
        world.add(name);
    }
    // What each has used of five hours and of the week, in percent.
    let used = |alice: f64| {
        for (name, five_hours, week) in [("alice", alice, 20.0), ("bob", 30.0, 60.0), ("carol", 5.0, 70.0)] {
            // Nearly a minute more than what is shown, so that it is still shown when it is asked for.
            let five_hours = Window::five_hours(five_hours).resets_in(2 * HOUR + 50);
            let week = Window::week(week).resets_in(2 * DAY + 50);
            world.backend().set_usage(name, Usage::windows(Some(five_hours), Some(week)));
        }
    };

    stage.title("Three accounts. alice has the most left, and it is lost soonest.");
    used(10.0);
    stage.run(world, "codex-pool", &["refresh"]);
    stage.run(world, "codex-pool", &["why"]);

    stage.title("You type `codex` as always. The shim picks the account and runs Codex.");
    stage.run(world, "codex", &["exec", "hi"]);

    stage.title(
        "alice reaches her limit in the middle of the work, which goes on as bob. Nothing is done twice.",
    );
    world.backend().clear_report();
    world.backend().limit_after("alice", 1, Limit::Refuse);
    if matches!(world.codex_kind(), Codex::Program(_)) {
        world.backend().give_task(Task::running(3, "echo step {step} of 3, as {user}"));
    }
    stage.run(world, "codex", &["exec", WORK]);
    world.backend().give_task(None);
    let turns = world.backend().report().turns.into_iter();
    let mut users: Vec<_> = turns.filter(|turn| turn.status == 200).filter_map(|turn| turn.user).collect();
    users.dedup();
    stage.seen(&format!("One command; the service has seen {}.", users.join(", then ")));
    // A real Codex goes on once it is known how it starts.
    assert!(users.len() == 2 || matches!(world.codex_kind(), Codex::Program(_)), "{users:?}");

    stage.title("The pool knows when alice is back. Until then, launches are bob's.");
    used(100.0);
    stage.run(world, "codex-pool", &["refresh"]);
    stage.run(world, "codex", &["exec", "hi"]);
}
