//! A `codex` inside a session of `codex`: how many shims deep it is, and which session that is. Writes nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Locked;
use crate::account::AccountId;
use crate::codex::running;
use crate::env::{Env, names};
use crate::homes::{CodexHome, in_use};
use crate::process::{self, Liveness, ProcessId};
use crate::store::path_of_key;

/// Returns how many shims deep this process is. The count belongs to a thread: a new thread is a new session, not a
/// loop.
pub(super) fn depth(value: Option<&str>, thread: Option<&str>) -> u32 {
    let Some(value) = value else { return 0 };
    let mut parts = value.split(':');
    let (count, counted_in) = (parts.next().unwrap_or_default(), parts.next());
    if thread.is_some() && thread != counted_in { 0 } else { count.parse().unwrap_or(0) }
}

/// Returns the programs that shims above this process have tried for Codex, if this process is still part of what the
/// last of them started. Below a native Codex it is not: that is a session which starts another one.
pub(super) fn tried(value: Option<&OsStr>) -> Vec<PathBuf> {
    let mut parts = value.unwrap_or_default().as_bytes().split(|byte| *byte == b':').skip(2);
    let process = parts.next().and_then(|part| ProcessId::parse(std::str::from_utf8(part).ok()?));
    let (Some(process), Ok(me)) = (process, ProcessId::of_self()) else { return Vec::new() };
    // What executed this program is gone: only those above can be a native Codex.
    let mut above = process::ancestors(me.pid);
    let mut inside = above.next().into_iter().chain(above.take_while(|pid| !running::runs_codex(*pid)));
    if process.liveness(&me) == Liveness::Dead || !inside.any(|pid| pid == process.pid) {
        return Vec::new();
    }
    parts.map(|part| PathBuf::from(OsStr::from_bytes(part))).collect()
}

/// Returns the value of the variable for the next level: the depth, the thread, the process, and the programs that were
/// tried, with the one that is about to start as the last.
pub(super) fn depth_value(depth: u32, thread: Option<&str>, tried: &[PathBuf], program: &Path) -> OsString {
    let mut value: OsString = format!("{depth}:{}", thread.unwrap_or_default()).into();
    if let Ok(me) = ProcessId::of_self() {
        value.push(format!(":{me}"));
        for path in tried.iter().map(PathBuf::as_path).chain([program]) {
            value.push(":");
            value.push(path);
        }
    }
    value
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
        assert_eq!(depth(Some("3::process:/a/codex"), None), 3);
        let value = depth_value(4, Some("t1"), &[PathBuf::from("/a")], Path::new("/b"));
        assert_eq!(depth(value.to_str(), Some("t1")), 4);
        assert_eq!(tried(Some(&value)), [PathBuf::from("/a"), PathBuf::from("/b")]);
        let me = ProcessId::of_self().unwrap().to_string();
        let (boot, _) = me.rsplit_once('-').unwrap();
        assert!(
            tried(Some(OsStr::new(&format!("4:t1:{boot}-1:/a")))).is_empty(),
            "an earlier process of that pid"
        );
    }
}
