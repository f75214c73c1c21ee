//! Usage and tokens, end to end: the real `codex-pool` against the stand-in service.

mod background;
mod errors;
mod loans;
mod logs;
mod places;
mod real;
mod renew;
mod tls;
mod usage;
mod watch;

use serde_json::Value;
use testkit::World;

/// Returns a pool with these users of the world's service, and no pause between requests.
fn pool_of(names: &[&str]) -> World {
    let world = World::new(names);
    world.settings("min_poll_interval = \"0s\"\n");
    world
}

/// Returns the account of that label in a JSON answer.
fn account<'a>(answer: &'a Value, label: &str) -> &'a Value {
    let accounts = answer["accounts"].as_array().expect("accounts");
    accounts.iter().find(|a| a["label"] == label).unwrap_or_else(|| panic!("no {label} in {answer}"))
}

/// Returns `list --json`.
fn listing(world: &World) -> Value {
    world.pool(&["list", "--json"]).run().ok().json()
}

/// Returns `refresh --json` for all accounts.
fn refresh(world: &World) -> Value {
    world.pool(&["refresh", "--json"]).run().json()
}
