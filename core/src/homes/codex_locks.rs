//! Codex's own locks of an `auth.json`: `auth.lock` in the home, then `<real path of auth.json>.lock`. From 0.169 on
//! Codex holds both while it re-reads and writes the file. Held too long, they cost it the tokens that it has just got.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{AuthFile, CodexHome};
use crate::codex::lock_file;
use crate::error::{Error, ErrorKind, Result, os_text};
use crate::files::FileLock;
use crate::paths::PoolPaths;

/// How long an exchange waits for both. Codex holds them for some milliseconds.
const WAIT: Duration = Duration::from_millis(100);

/// Both locks, as far as they can be had, released on drop.
#[derive(Debug)]
pub(super) struct CodexLocks {
    held: Vec<FileLock>,
    /// Whether one cannot be had, though no process holds it.
    incomplete: bool,
}

impl CodexLocks {
    /// Takes the locks of a home's file. Where a lock cannot be made or locked (a read-only folder, a file system
    /// without locks), it is done without.
    ///
    /// # Errors
    /// [`ErrorKind::LockedByCodex`].
    pub(super) fn take(home: &CodexHome, file: &AuthFile) -> Result<CodexLocks> {
        let busy = |path: PathBuf| {
            let text = format!("Codex has locked {} and writes auth.json", path.display());
            Error::of(ErrorKind::LockedByCodex, text)
        };
        CodexLocks::within(home, &file.real, WAIT).map_err(busy)
    }

    /// Takes the locks if no process holds one.
    pub(super) fn try_take(home: &CodexHome, file: &AuthFile) -> Option<CodexLocks> {
        CodexLocks::within(home, &file.real, Duration::ZERO).ok()
    }

    /// Returns whether both are held by this process.
    pub(super) fn exclude_codex(&self) -> bool {
        !self.incomplete
    }

    /// The error is the lock that another process holds.
    fn within(home: &CodexHome, real: &Path, wait: Duration) -> Result<CodexLocks, PathBuf> {
        let until = Instant::now() + wait;
        let mut locks = CodexLocks { held: Vec::new(), incomplete: false };
        for path in paths(home, real) {
            match lock_file::take(&path, until.saturating_duration_since(Instant::now())) {
                Ok(Some(lock)) => locks.held.push(lock),
                Ok(None) => return Err(path),
                Err(_) => locks.incomplete = true,
            }
        }
        Ok(locks)
    }
}

/// Returns the locks of a home's file in the order in which Codex takes them.
fn paths(home: &CodexHome, real: &Path) -> [PathBuf; 2] {
    let mut name = OsString::from(real.file_name().unwrap_or_default());
    name.push(".lock");
    [home.dir().join("auth.lock"), real.with_file_name(name)]
}

/// Returns a lock of a home's file that no process holds and that cannot be had all the same, with the reason, for the
/// doctor. Makes none.
pub fn unusable_lock(pool: &PoolPaths, home: &CodexHome) -> Option<(PathBuf, String)> {
    let file = AuthFile::find(pool, home.auth_json()).ok()?;
    let mut there = paths(home, &file.real).into_iter().filter(|path| path.symlink_metadata().is_ok());
    there.find_map(|path| {
        let error = lock_file::take(&path, Duration::ZERO).err()?;
        Some((path, os_text(&error)))
    })
}
