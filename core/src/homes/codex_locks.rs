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
    /// The reason why one cannot be had, though no process holds it.
    trouble: Option<String>,
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
        self.trouble.is_none()
    }

    /// The error is the lock that another process holds.
    fn within(home: &CodexHome, real: &Path, wait: Duration) -> Result<CodexLocks, PathBuf> {
        let until = Instant::now() + wait;
        let mut locks = CodexLocks { held: Vec::new(), trouble: None };
        for path in paths(home, real) {
            match lock_file::take(&path, until.saturating_duration_since(Instant::now())) {
                Ok(Some(lock)) => locks.held.push(lock),
                Ok(None) => return Err(path),
                Err(e) => locks.trouble = Some(format!("{} ({})", path.display(), os_text(&e))),
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

/// Returns the lock of a home that cannot be had at all, with the reason, for the doctor. Codex needs it: it loses a
/// login when it renews tokens there.
pub fn unusable_lock(paths: &PoolPaths, home: &CodexHome) -> Option<String> {
    let file = AuthFile::find(paths, home.auth_json()).ok()?;
    file.open().ok().flatten()?;
    CodexLocks::try_take(home, &file)?.trouble
}
