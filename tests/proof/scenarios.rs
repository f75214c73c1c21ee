//! The worlds of the commands whose system calls fail, laid out anew for each call.

use testkit::Running;
use testkit::backend::LoginSpec;

use crate::lab::Lab;

/// A command whose calls fail, and the world it runs in.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// What a launch says when it works; `None` for other commands.
    pub(crate) starts: Option<&'static str>,
    /// Also its threads and children.
    pub(crate) follow: bool,
    /// Lays out the world anew. What it returns runs meanwhile.
    pub(crate) prepare: fn(&Lab) -> Option<Running>,
    pub(crate) program: &'static str,
    pub(crate) args: &'static [&'static str],
}

/// Lays out a world where Carol's newest token is live and nowhere else, and another account is the pick.
fn rotated(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::default());
    rotate(world);
    None
}

fn rotate(world: &Lab) {
    let backend = world.backend();
    for name in ["alice", "bob", "carol"] {
        // What the pool has is older, and used up.
        world.store(name, &backend.auth_json_with(name, &LoginSpec::expires_in(5 * 86_400)));
    }
    world.write_live(&backend.auth_json("carol"));
}

/// Lays out the same after launches that saw older tokens: Carol's, and those of the pick, which are in a home that was
/// in use until a moment ago.
fn left(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::default());
    let carol = hold(world, "carol");
    world.exec_as("alice").run().ok();
    let home = world.documents().into_iter().find(|path| path.starts_with(world.pool_home().join("homes")));
    drop(carol);
    rotate(world);
    let newest = world.backend().auth_json_with("alice", &LoginSpec::expires_in(6 * 86_400));
    world.write_private(&home.expect("Alice's home"), &newest);
    None
}

/// Lays out the first world, with a session of Carol in the main home: the pick gets its own home.
fn occupied(world: &Lab) -> Option<Running> {
    rotated(world);
    Some(hold(world, "carol"))
}

/// Returns a session of that account, until it is dropped.
fn hold(world: &Lab, name: &str) -> Running {
    world.hold(world.exec_as(name))
}

/// Lays out a world where all tokens end within the day, so that a refresh renews them, and Carol's newest is live.
fn due(world: &Lab) -> Option<Running> {
    world.reset(&LoginSpec::expires_in(20_000));
    world.write_live(&world.backend().auth_json_with("carol", &LoginSpec::expires_in(40_000)));
    None
}

pub(crate) const LAUNCH: Scenario = Scenario {
    starts: Some("hello from"),
    follow: false,
    prepare: rotated,
    program: "codex",
    args: &["exec", "--skip-git-repo-check", "hi"],
};

pub(crate) const LEFT: Scenario = Scenario { prepare: left, ..LAUNCH };

pub(crate) const PARALLEL: Scenario = Scenario { prepare: occupied, ..LAUNCH };

pub(crate) const REFRESH: Scenario =
    Scenario { starts: None, follow: true, prepare: due, program: "codex-pool", args: &["refresh"] };

pub(crate) const USE: Scenario =
    Scenario { starts: None, follow: false, prepare: rotated, program: "codex-pool", args: &["use", "bob"] };
