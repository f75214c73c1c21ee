//! What the end-to-end tests, the demo and the benchmarks run on: a stand-in service, a sandbox with its own
//! HOME, a stand-in Codex, a probe, and a pseudo terminal. Must not depend on the product's own library:
//! it is the independent judge.
//!
//! ```no_run
//! use testkit::{World, answered};
//!
//! // Or World::real, with the real Codex. Alice is logged in; Bob is only in the pool.
//! let world = World::logged_in(&["alice", "bob"]);
//! world.usage(&[("alice", 100.0, 40.0), ("bob", 10.0, 20.0)]);
//! answered(world.exec().run(), "bob");
//! world.assert_nothing_lost(&["alice", "bob"]);
//! ```

pub mod backend;
pub mod bins;
mod cmd;
pub mod figures;
pub mod files;
mod http;
pub mod mcp;
mod needs;
mod neighbour;
pub mod picture;
pub mod postgres;
pub mod probe;
mod procs;
pub mod pty;
mod real_codex;
pub mod recording;
pub mod releases;
mod sandbox;
mod server;
pub mod tls;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use cmd::{Cmd, DEFAULT_TIMEOUT, Output, Running};
pub use needs::{leave_out, needs, takes};
pub use neighbour::Neighbour;
pub use procs::{NOBODY, Process, alive, children, heed_the_terminal, is_root, wait_for_end};
pub use pty::Pty;
pub use real_codex::{
    ALL, PINNED, RealCodex, archives, carried_versions, codex_sdk, has_server, real_codex, revokes, version,
    versions,
};
pub use sandbox::{Builder, Codex, Sandbox};
pub use world::{World, answered, complains, text};

/// How long to wait for something that happens at once, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(60);

/// Returns the time in Unix seconds.
///
/// # Panics
/// If the clock says a time before 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("fits")
}

/// Looks every 5 ms until `look` returns something, and returns that.
///
/// # Panics
/// If it does not within `limit`; `what` says what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks every 5 ms until `condition` holds.
///
/// # Panics
/// If it does not within `limit`; `what` says what was waited for.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Returns the first program of that name on the PATH of the tests themselves.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
