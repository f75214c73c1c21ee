//! Worlds of several versions of the real Codex, and what only these tests do in them.

use testkit::{Cmd, Codex, Output, Pty, Running, SOON, World, answered, children, has_server};

/// Who is in most of the pools.
pub(crate) const TWO: [&str; 2] = ["alice", "bob"];

/// The versions that differ in what is claimed here: all that `CODEX_POOL_TEST_VERSIONS=all` takes.
const DIFFERENT: [&str; 3] = ["0.140.0", "0.159.3", "0.169.0"];

/// Returns the versions of an ordinary run, or those that were asked for.
pub(crate) fn versions() -> Vec<String> {
    match std::env::var("CODEX_POOL_TEST_VERSIONS").as_deref() {
        Ok("all") => DIFFERENT.map(str::to_owned).into(),
        _ => testkit::versions(),
    }
}

/// Returns a world of each version with these accounts, the first of which ranks first and is live.
pub(crate) fn worlds(users: &[&str]) -> impl Iterator<Item = World> {
    worlds_of(|_| true, users)
}

/// Returns the same of the versions that have a background server.
pub(crate) fn worlds_with_server(users: &[&str]) -> impl Iterator<Item = World> {
    worlds_of(has_server, users)
}

/// The same of some versions. Where there is no real Codex there is no world: the test is left out.
pub(crate) fn worlds_of(which: fn(&str) -> bool, users: &[&str]) -> impl Iterator<Item = World> {
    let versions = versions().into_iter().filter(move |version| which(version));
    versions.filter_map(|version| {
        let world = World::with(Codex::real_of(&version)?, &[]);
        if has_server(&version) {
            world.install_server();
        }
        world.fill(users);
        Some(world)
    })
}

/// What these tests do beyond the common words.
pub(crate) trait Homes {
    /// Puts these accounts into the pool; the first ranks first and is live.
    fn fill(&self, users: &[&str]);

    /// Returns `codex exec hi` on the account of that label, through a shim that prints what it does.
    fn verbose_exec_as(&self, label: &str) -> Cmd;

    /// Starts `codex` in a terminal.
    fn ui(&self, args: &[&str]) -> Pty;
}

impl Homes for World {
    fn fill(&self, users: &[&str]) {
        for user in users {
            self.add(user);
        }
        self.rank(users);
        self.make_live(users[0]);
    }

    fn verbose_exec_as(&self, label: &str) -> Cmd {
        self.exec_as(label).env("CODEX_POOL_VERBOSE", "1")
    }

    fn ui(&self, args: &[&str]) -> Pty {
        self.terminal(self.codex(args))
    }
}

/// Returns the native Codex below a launcher.
#[track_caller]
pub(crate) fn native_of(launcher: &Running) -> u32 {
    testkit::wait_for("the native Codex", SOON, || children(launcher.pid()).first().copied())
}

/// Launches bob, and requires that he gets his own home since alice has the main home. Returns what it wrote.
#[track_caller]
pub(crate) fn bob_goes_elsewhere(world: &World) -> Output {
    let output = answered(world.verbose_exec_as("bob").run(), "bob");
    assert_eq!(world.live_owner().as_deref(), Some("alice"), "{}", world.version());
    assert_eq!(world.owner_at(&world.own_home("bob")).as_deref(), Some("bob"), "{}", world.version());
    output
}
