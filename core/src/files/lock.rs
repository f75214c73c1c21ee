//! The two locks: flock on dedicated files that are never renamed or deleted. A guard is an
//! argument of every function that writes, so that the compiler proves the lock is held.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::atomic::create_private_dir;
use crate::paths::PoolPaths;

/// A held flock, released on drop.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// The pool is ours: nobody else changes anything on its disk. No network meanwhile.
#[derive(Debug)]
pub struct PoolLock(#[expect(dead_code, reason = "held, not read")] FileLock);

/// Nobody else on this machine refreshes a token.
#[derive(Debug)]
pub struct RefreshLock(#[expect(dead_code, reason = "held, not read")] FileLock);

impl FileLock {
    /// Takes the lock, waiting at most `wait`; `Ok(None)` if somebody else held it all the time.
    pub fn acquire(path: &Path, wait: Duration) -> io::Result<Option<FileLock>> {
        let file = open(path)?;
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            match FileExt::try_lock_exclusive(&file) {
                Ok(()) => return Ok(Some(FileLock { _file: file })),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            // A blocking flock with a time limit would need a signal, and those are Codex's.
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    // Not there yet. Whoever makes it owns it like its folder, so that a first `sudo` locks nobody out.
    if let Some(dir) = path.parent() {
        create_private_dir(dir)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // A lock that the umask closes for its owner would lock everybody out for good.
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            super::atomic::adopt_owner(path)?;
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    options.open(path)
}

impl PoolLock {
    /// Takes the pool's lock, waiting at most `wait`.
    pub fn acquire(paths: &PoolPaths, wait: Duration) -> io::Result<Option<PoolLock>> {
        Ok(FileLock::acquire(&paths.pool_lock(), wait)?.map(PoolLock))
    }
}

impl RefreshLock {
    /// Takes the lock of token refreshes, waiting at most `wait`.
    pub fn acquire(paths: &PoolPaths, wait: Duration) -> io::Result<Option<RefreshLock>> {
        Ok(FileLock::acquire(&paths.refresh_lock(), wait)?.map(RefreshLock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_not_given_twice_and_a_dropped_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        let held = PoolLock::acquire(&paths, Duration::ZERO).unwrap().expect("free");
        assert!(PoolLock::acquire(&paths, Duration::from_millis(3)).unwrap().is_none());
        drop(held);
        assert!(PoolLock::acquire(&paths, Duration::ZERO).unwrap().is_some());
    }
}
