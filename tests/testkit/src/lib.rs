//! What the end-to-end tests, the demo and the benchmarks run on: a stand-in service, a sandbox with its own
//! HOME, a stand-in Codex, a probe, and a pseudo terminal. Must not depend on the product's own library:
//! it is the independent judge.
//!
//! ```no_run
//! use testkit::Sandbox;
//! use testkit::backend::Usage;
//!
//! let sandbox = Sandbox::new(); // or Sandbox::real(), with the real Codex
//! let backend = sandbox.backend();
//! backend.add("alice");
//! backend.set_usage("alice", Usage::percent(100.0, 40.0));
//! sandbox.write_live(&backend.auth_json("alice"));
//! sandbox.import("bob");
//! sandbox.pool(&["refresh"]).run().ok();
//! sandbox.codex(&["exec", "--skip-git-repo-check", "hi"]).run().ok().says("hello from bob");
//! backend.assert_clean();
//! ```

pub mod backend;
pub mod bins;
mod cmd;
pub mod figures;
mod http;
pub mod mcp;
pub mod picture;
mod pool;
pub mod probe;
mod procs;
pub mod pty;
mod real_codex;
pub mod recording;
pub mod releases;
mod sandbox;
pub mod tls;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use cmd::{Cmd, DEFAULT_TIMEOUT, Output, Running};
pub use procs::{Process, heed_the_terminal};
pub use pty::Pty;
pub use real_codex::{
    ALL, PINNED, RealCodex, archives, carried_versions, has_server, real_codex, revokes, version, versions,
};
pub use sandbox::{Builder, Codex, Sandbox};

/// Looks every 5 ms until `look` gives something.
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

/// The first program of that name on the PATH of the tests themselves.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
