//! The first half of the demo, which the recording in README shows, too: how accounts are picked, and what happens at a
//! limit.

use testkit::backend::{Usage, Window};
use testkit::{Codex, World};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Shows what happens.
pub(crate) trait Stage {
    /// Says what comes next.
    fn title(&mut self, text: &str);

    /// Runs `codex` or `codex-pool` in the world, and shows what a person would see of it.
    fn run(&mut self, world: &World, program: &str, args: &[&str]);
}

/// Returns a world without accounts, where `codex` is this one.
pub(crate) fn world(codex: Codex) -> World {
    let world = World::with(codex, &[]);
    // The story is told in seconds, so usage may be asked for at once.
    world.settings("background_refresh = false\nmin_poll_interval = \"0s\"\n");
    world
}

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

    stage.title("You type `codex` as always. The shim picks the account and runs Codex.");
    stage.run(world, "codex", &["exec", "hi"]);

    stage.title("alice reaches her limit. Codex can only say so.");
    used(100.0);
    stage.run(world, "codex", &["exec", "hi"]);

    stage.title("The pool notices, and the next launch continues with another account.");
    stage.run(world, "codex-pool", &["refresh"]);
    stage.run(world, "codex", &["exec", "hi"]);
    stage.run(world, "codex-pool", &["why"]);
}
