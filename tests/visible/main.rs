//! What people look at all day: the history of usage and what follows from it, the status line, the log, notices, and
//! the live view.

mod history;
mod log;
mod notices;
mod plain;
mod recipes;
mod status;
mod watch;

use testkit::World;
use testkit::backend::Usage;

/// Returns a pool with these users of the world's service, and no pause between requests.
fn pool_of(names: &[&str]) -> World {
    let world = World::new(names);
    world.settings("min_poll_interval = \"0s\"\n");
    world
}

/// Fetches what the service says of an account after this use.
fn use_up(world: &World, name: &str, five_hours: f64, week: f64) {
    world.backend().set_usage(name, Usage::percent(five_hours, week));
    world.pool(&["refresh", name]).run().ok();
}
