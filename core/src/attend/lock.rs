//! The lock that makes the attendant the only one of its pool, boot and pid namespace. Never makes the pool's folder.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs2::FileExt;

use crate::files;
use crate::ledger::UNSEEN_COUNTS;
use crate::paths::PoolPaths;

const PAUSE: Duration = Duration::from_millis(10);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct AttendLock {
    file: File,
    path: PathBuf,
}

impl AttendLock {
    /// Takes the lock, waiting at most `wait`; `None` if another process held it all the time.
    pub(super) fn acquire(path: &Path, wait: Duration) -> io::Result<Option<AttendLock>> {
        let until = Instant::now() + wait;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = files::open_with(&mut options, libc::O_NOFOLLOW, path)?;
            match FileExt::try_lock_exclusive(&file) {
                Ok(()) => {
                    let lock = AttendLock { file, path: path.to_owned() };
                    if lock.is_at_its_path() {
                        // So that its age tells whether it is abandoned.
                        let _ = lock.file.set_modified(std::time::SystemTime::now());
                        return Ok(Some(lock));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns whether its file is the one that others find. If not, another attendant can start beside this one.
    pub(super) fn is_at_its_path(&self) -> bool {
        let identity = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
        identity(self.file.metadata()).is_some_and(|own| identity(self.path.symlink_metadata()) == Some(own))
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
        if files::open(&path).is_ok_and(|file| FileExt::try_lock_exclusive(&file).is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}
