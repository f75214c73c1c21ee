//! The marks of homes whose background server is moving to another account: `moving/<home>`, durable, and beside it the
//! lock of who is at it. A mark whose lock is free was left by a crash: whoever finds it completes or undoes the move.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::error::{Error, Result};
use crate::files::{self, Durability, Make, WriteLock};
use crate::hash::short_hash_text;
use crate::homes::CodexHome;
use crate::paths::PoolPaths;
use crate::store::{path_key, path_of_key};

/// The version of the file that is written here.
const VERSION: u32 = 1;
/// No mark is longer, bytes.
const MAX: u64 = 1 << 20;
const LOCK: &str = "lock";

/// What a move is about, for whoever has to end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveMark {
    version: u32,
    /// The `auth.json` of the home (see [`path_key`]).
    home: String,
    /// The account that the home had.
    pub from: AccountId,
    /// The account that goes on: the same one where only a history is put right.
    pub to: AccountId,
    /// The server that is stopped: pid, and start in clock ticks.
    pub server: (u32, u64),
    /// The logs of the threads that it held (see [`path_key`]).
    pub threads: Vec<String>,
    /// Whether the new server runs: the home has its account, and threads are told to go on.
    #[serde(default)]
    pub started: bool,
    /// When it began, Unix milliseconds.
    pub at_ms: i64,
}

impl MoveMark {
    /// A move that begins.
    pub fn new(home: &CodexHome, from: AccountId, to: AccountId, server: (u32, u64), at_ms: i64) -> MoveMark {
        let home = path_key(&home.auth_json());
        MoveMark { version: VERSION, home, from, to, server, threads: Vec::new(), started: false, at_ms }
    }

    /// Returns the home.
    pub fn home(&self, paths: &PoolPaths) -> Option<CodexHome> {
        CodexHome::of_auth_json(paths, &path_of_key(&self.home))
    }

    /// Returns the mark of a home, if there is one that can be read.
    pub fn of_home(paths: &PoolPaths, home: &CodexHome) -> Option<MoveMark> {
        MoveMark::read(&path(paths, home))
    }

    fn read(path: &Path) -> Option<MoveMark> {
        let mark: MoveMark = serde_json::from_slice(&files::read_small(path, MAX).ok()??).ok()?;
        (mark.version == VERSION).then_some(mark)
    }

    /// Returns all marks.
    pub fn all(paths: &PoolPaths) -> Vec<MoveMark> {
        let entries = fs::read_dir(paths.moving()).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_none()).filter_map(|path| MoveMark::read(&path)).collect()
    }

    /// Writes the mark durably.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, _lock: &MarkLock, paths: &PoolPaths, home: &CodexHome) -> Result<()> {
        let path = path(paths, home);
        let bytes = serde_json::to_vec(self).map_err(|e| Error::new(format!("cannot write a mark: {e}")))?;
        files::write_whole(&path, &bytes, Durability::Durable).map_err(|e| Error::io("write", &path, &e))
    }
}

/// Removes the mark of a home.
///
/// # Errors
/// What the system says.
pub fn remove(_lock: &MarkLock, paths: &PoolPaths, home: &CodexHome) -> Result<()> {
    let path = path(paths, home);
    files::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))
}

/// Returns whether a home is just moving, so that no launch may join it.
pub fn is_moving(paths: &PoolPaths, home: &CodexHome) -> bool {
    MoveMark::of_home(paths, home).is_some_and(|mark| !mark.started)
}

/// Returns whether a mark of this home was left by a crash.
pub fn is_left(paths: &PoolPaths, home: &CodexHome) -> bool {
    let path = path(paths, home);
    path.exists() && !files::is_locked(&path.with_extension(LOCK)).unwrap_or(true)
}

fn path(paths: &PoolPaths, home: &CodexHome) -> PathBuf {
    paths.moving().join(short_hash_text(&[home.auth_json().as_os_str().as_bytes()]))
}

/// The right to move the server of a home, held by one process at a time.
#[derive(Debug)]
pub struct MarkLock {
    _lock: WriteLock,
}

impl MarkLock {
    /// Takes it. `None`: another process has had it all the time.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(paths: &PoolPaths, home: &CodexHome, wait: Duration) -> Result<Option<MarkLock>> {
        let path = path(paths, home).with_extension(LOCK);
        let lock = WriteLock::acquire(&path, Make::FileAndFolder, wait);
        let lock = lock.map_err(|e| Error::io("lock", &path, &e))?;
        Ok(lock.map(|lock| MarkLock { _lock: lock }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_without_its_lock_was_left_by_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        fs::create_dir(paths.root()).unwrap();
        let home = CodexHome::main(dir.path().join("codex"));
        assert!(!is_moving(&paths, &home) && !is_left(&paths, &home));
        let lock = MarkLock::take(&paths, &home, Duration::ZERO).unwrap().unwrap();
        assert!(MarkLock::take(&paths, &home, Duration::ZERO).unwrap().is_none());
        let id = |name| AccountId::of_chatgpt(name, "space");
        let mut mark = MoveMark::new(&home, id("alice"), id("bob"), (1, 2), 3);
        mark.write(&lock, &paths, &home).unwrap();
        assert!(is_moving(&paths, &home) && !is_left(&paths, &home));
        assert_eq!(MoveMark::all(&paths), [mark.clone()]);
        assert_eq!(mark.home(&paths), Some(home.clone()));
        drop(lock);
        assert!(is_left(&paths, &home));
        let lock = MarkLock::take(&paths, &home, Duration::ZERO).unwrap().unwrap();
        mark.started = true;
        mark.write(&lock, &paths, &home).unwrap();
        assert!(!is_moving(&paths, &home));
        remove(&lock, &paths, &home).unwrap();
        assert!(MoveMark::all(&paths).is_empty());
    }
}
