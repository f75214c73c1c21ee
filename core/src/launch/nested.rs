//! A `codex` inside a session of `codex`: how deep we are, and whose session it is.

use std::ffi::OsString;

use super::Locked;
use crate::account::AccountId;
use crate::env::{Env, names};
use crate::homes::{CodexHome, in_use};
use crate::ledger::LaunchEntry;
use crate::process::{self, Liveness};
use crate::store::path_of_key;

/// How many shims deep we are. The count is kept with the thread it was made in: a new thread is a
/// new session, not a loop.
pub(super) fn depth(value: Option<&str>, thread: Option<&str>) -> u32 {
    let Some(value) = value else { return 0 };
    let (count, counted_in) = match value.split_once(':') {
        Some((count, counted_in)) => (count, Some(counted_in)),
        None => (value, None),
    };
    if thread.is_some() && thread != counted_in { 0 } else { count.parse().unwrap_or(0) }
}

/// The value for the next level.
pub(super) fn depth_value(depth: u32, thread: Option<&str>) -> OsString {
    match thread {
        Some(thread) => format!("{depth}:{thread}").into(),
        None => depth.to_string().into(),
    }
}

/// The session that we run inside: its home, and its account if that is known.
pub(super) fn session(env: &Env, held: &Locked<'_>) -> Option<(CodexHome, Option<AccountId>)> {
    let (paths, processes) = (&held.pool.paths, &held.processes);
    let of_entry = |entry: &LaunchEntry| {
        let home = CodexHome::of_auth_json(paths, &path_of_key(&entry.home))?;
        // The home may have changed hands under it (`use --force`).
        let account = held.pool.state().home(&home.auth_json()).map(|memory| memory.account.clone());
        Some((home, account.or_else(|| entry.account.clone())))
    };
    let thread = env.text(names::CODEX_THREAD_ID);
    // The environment may be of the first session that a background server served. The process tree
    // tells better, but costs more; only where Codex says that we are in a thread is it worth that.
    if thread.is_some()
        && let Some(home) = above(held)
    {
        let account = held.pool.state().home(&home.auth_json()).map(|memory| memory.account.clone());
        return Some((home, account));
    }
    let launch = processes.ledger.find(env.text(names::CODEX_POOL_LAUNCH)?)?;
    of_entry(launch.entry.as_ref()?)
}

/// The home of the nearest launch or background server that this process descends from.
fn above(held: &Locked<'_>) -> Option<CodexHome> {
    let me = held.processes.me.as_ref()?;
    let mut at = process::stat(me.pid)?.parent;
    // The table can change while we climb; the bound keeps that harmless.
    for _ in 0..64 {
        if at <= 1 {
            return None;
        }
        let launch = held
            .processes
            .ledger
            .launches
            .iter()
            .find(|l| l.liveness == Liveness::Alive && l.process.pid == at);
        if let Some(entry) = launch.and_then(|l| l.entry.as_ref()) {
            return CodexHome::of_auth_json(&held.pool.paths, &path_of_key(&entry.home));
        }
        if let Some(dir) = in_use::server_dir(&held.pool.paths, held.main_home, at) {
            return CodexHome::of_auth_json(&held.pool.paths, &dir.join("auth.json"));
        }
        at = process::stat(at)?.parent;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_starts_again_in_a_new_thread_only() {
        assert_eq!(depth(None, None), 0);
        assert_eq!(depth(Some("3"), None), 3);
        assert_eq!(depth(Some("3"), Some("t1")), 0);
        assert_eq!(depth(Some("3:t1"), Some("t1")), 3);
        assert_eq!(depth(Some("3:t1"), Some("t2")), 0);
        assert_eq!(depth(Some("rubbish"), None), 0);
        assert_eq!(depth_value(4, Some("t1")), "4:t1");
    }
}
