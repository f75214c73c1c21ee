//! Whether the tools of a session can reach the pool. Codex protects its own folder in a working root, but not ours.
//! Only reads.

use std::fs;
use std::path::PathBuf;

use crate::codex::argv::Invocation;
use crate::codex::configuration::working_root;
use crate::env::Env;
use crate::paths::PoolPaths;

/// Returns what the user is told if the pool is in a folder that the tools of this session may change, as far as the
/// command line says.
pub(super) fn line(env: &Env, paths: &PoolPaths, call: &Invocation<'_>) -> Option<String> {
    if !call.may_change_files() {
        return None;
    }
    let cwd = env.cwd.as_deref();
    let added = call.added_dirs.iter().filter_map(|dir| Some(cwd?.join(dir)));
    let folders = working_root(cwd, call).into_iter().chain(added);
    let pool = fs::canonicalize(paths.root()).ok()?;
    let contains_the_pool = |dir: &PathBuf| fs::canonicalize(dir).is_ok_and(|dir| pool.starts_with(dir));
    let dir = folders.filter(|dir| dir.is_absolute()).find(contains_the_pool)?;
    Some(format!(
        "Codex works in {}, which contains the pool: its tools can change the pool unless their sandbox is read-only; \
         better work in a folder below",
        dir.display()
    ))
}
