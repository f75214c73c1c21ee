//! The lock that makes the attendant the only one of its pool, boot and pid namespace. Never makes the pool's folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs2::FileExt;

use crate::files::{self, Make, WriteLock};
use crate::ledger::UNSEEN_COUNTS;
use crate::paths::PoolPaths;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct AttendLock {
    lock: WriteLock,
    path: PathBuf,
}

impl AttendLock {
    /// Takes the lock, waiting at most `wait`; `None` if another process held it all the time.
    pub(super) fn acquire(path: &Path, wait: Duration) -> io::Result<Option<AttendLock>> {
        let Some(lock) = WriteLock::acquire(path, Make::File, wait)? else { return Ok(None) };
        // So that `flock` shows it, too. It decides nothing: a process that can only read the file can have it.
        let _ = FileExt::try_lock_exclusive(lock.file());
        let lock = AttendLock { lock, path: path.to_owned() };
        lock.show_life();
        Ok(Some(lock))
    }

    /// Touches its file. Launches do not rely on an attendant that has not done so for a minute, and a file that has been
    /// left alone for hours is abandoned.
    pub(super) fn show_life(&self) {
        let _ = self.lock.file().set_modified(std::time::SystemTime::now());
    }

    /// Returns whether its file is the one that others find. If not, another attendant can start beside this one.
    pub(super) fn is_at_its_path(&self) -> bool {
        self.lock.is_at(&self.path)
    }
}

/// Removes the lock files of other boots and pid namespaces that no process holds and none has taken for hours. `own`:
/// the lock of this one. `now`: Unix seconds.
pub(super) fn clear_abandoned(paths: &PoolPaths, own: &Path, now: i64) {
    let entries = fs::read_dir(paths.root()).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path != own) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("attend-") || !name.ends_with(".lock") {
            continue;
        }
        let Ok(meta) = path.symlink_metadata() else { continue };
        if !meta.is_file() || now.saturating_sub(meta.mtime()) < UNSEEN_COUNTS {
            continue;
        }
        if matches!(files::is_locked(&path), Ok(false)) {
            let _ = fs::remove_file(&path);
        }
    }
}
