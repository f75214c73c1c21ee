//! A `codex` inside a session of `codex`: how many shims deep it is, and which session that is. Writes nothing.

use std::ffi::OsString;

use super::Locked;
use crate::account::AccountId;
use crate::env::{Env, names};
use crate::homes::{CodexHome, in_use};
use crate::process::{self, Liveness};
use crate::store::path_of_key;

/// Returns how many shims deep this process is. The count belongs to a thread: a new thread is a new session, not a
/// loop.
pub(super) fn depth(value: Option<&str>, thread: Option<&str>) -> u32 {
    let Some(value) = value else { return 0 };
    let (count, counted_in) = match value.split_once(':') {
        Some((count, counted_in)) => (count, Some(counted_in)),
        None => (value, None),
    };
    if thread.is_some() && thread != counted_in { 0 } else { count.parse().unwrap_or(0) }
}

/// Returns the value of the variable for the next level.
pub(super) fn depth_value(depth: u32, thread: Option<&str>) -> OsString {
    match thread {
        Some(thread) => format!("{depth}:{thread}").into(),
        None => depth.to_string().into(),
    }
}

/// Returns the home of the session that this process runs inside, and its account if that is known.
pub(super) fn session(env: &Env, locked: &Locked<'_>) -> Option<(CodexHome, Option<AccountId>)> {
    let account_in = |home: &CodexHome| {
        let record = locked.pool.state().home(&home.auth_json());
        record.map(|record| record.account.clone())
    };
    // The environment may be that of the first session which a background server served. The process tree is more
    // precise, but costs more; it is read only if Codex says that we are in a thread.
    if env.text(names::CODEX_THREAD_ID).is_some()
        && let Some(home) = home_above(locked)
    {
        let account = account_in(&home);
        return Some((home, account));
    }
    let launch = locked.processes.ledger.find(env.text(names::CODEX_POOL_LAUNCH)?)?;
    let entry = launch.entry.as_ref()?;
    let home = CodexHome::of_auth_json(&locked.pool.paths, &path_of_key(&entry.home))?;
    // The account of the home may have changed under the session (`use --force`).
    let account = account_in(&home).or_else(|| entry.account.clone());
    Some((home, account))
}

/// Returns the home of the nearest launch or background server that this process descends from.
fn home_above(locked: &Locked<'_>) -> Option<CodexHome> {
    let paths = &locked.pool.paths;
    let launches = &locked.processes.ledger.launches;
    let home_of = |pid: u32| {
        let launch = launches.iter().find(|l| l.liveness == Liveness::Alive && l.process.pid == pid);
        match launch.and_then(|launch| launch.entry.as_ref()) {
            Some(entry) => CodexHome::of_auth_json(paths, &path_of_key(&entry.home)),
            None => in_use::home_served_by(paths, locked.main_home, pid),
        }
    };
    let me = locked.processes.me.as_ref()?;
    process::ancestors(me.pid).skip(1).find_map(home_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_starts_again_in_a_new_thread_only() {
        assert_eq!(depth(None, None), 0);
        assert_eq!(depth(Some("3"), None), 3);
        assert_eq!(depth(Some("3"), Some("t1")), 0);
        assert_eq!(depth(Some("3:t1"), Some("t1")), 3);
        assert_eq!(depth(Some("3:t1"), Some("t2")), 0);
        assert_eq!(depth(Some("rubbish"), None), 0);
        assert_eq!(depth_value(4, Some("t1")), "4:t1");
    }
}
