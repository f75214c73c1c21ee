//! The locks: flock on dedicated files that are never renamed or removed. Every function that writes takes a guard as
//! an argument, so the compiler proves that the lock is held.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::atomic::create_private_dir;
use crate::paths::PoolPaths;

/// The stack of a waiting thread, bytes.
const STACK: usize = 64 << 10;

/// A flock that is held, and released on drop.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// The lock of everything in the pool. No request is made while it is held.
#[derive(Debug)]
pub struct PoolLock(#[expect(dead_code, reason = "held, not read")] FileLock);

/// The lock of token renewals. One process of the machine renews at a time.
#[derive(Debug)]
pub struct RenewalLock(#[expect(dead_code, reason = "held, not read")] FileLock);

impl FileLock {
    /// Takes the lock, waiting at most `wait`; `None` if another process held it all the time.
    pub fn acquire(path: &Path, wait: Duration) -> io::Result<Option<FileLock>> {
        FileLock::of(open(path)?, wait)
    }

    /// As [`FileLock::acquire`], for an open file.
    pub(crate) fn of(file: File, wait: Duration) -> io::Result<Option<FileLock>> {
        let until = Instant::now() + wait;
        if try_lock(&file)? {
            return Ok(Some(FileLock { _file: file }));
        }
        if wait.is_zero() {
            return Ok(None);
        }
        match queue(&file, until) {
            Some(locked) => Ok(locked?.map(|file| FileLock { _file: file })),
            None => Ok(poll(&file, until)?.then_some(FileLock { _file: file })),
        }
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        return match FileExt::try_lock_exclusive(file) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
    }
}

/// Waits in the kernel's queue, which costs no time of the launches that wait. A thread does the waiting, since a time
/// limit would need a signal, and signals are Codex's. `None` if the system gives no thread.
fn queue(file: &File, until: Instant) -> Option<io::Result<Option<File>>> {
    let waiting = file.try_clone().ok()?;
    let (locked, answer) = mpsc::channel();
    let wait_for_it = move || {
        let result = loop {
            match FileExt::lock_exclusive(&waiting) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        // After the time limit it cannot be sent, and dropping it releases the lock.
        let _ = locked.send(result.map(|()| waiting));
    };
    std::thread::Builder::new().stack_size(STACK).spawn(wait_for_it).ok()?;
    match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(result) => Some(result.map(Some)),
        Err(_) => Some(Ok(None)),
    }
}

/// Tries again and again. Returns whether the lock was taken.
fn poll(file: &File, until: Instant) -> io::Result<bool> {
    let mut pause = Duration::from_micros(200);
    loop {
        if try_lock(file)? {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    // It is made with the owner of its folder, so that a first `sudo codex` does not lock the user out.
    if let Some(dir) = path.parent() {
        create_private_dir(dir)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // A umask that takes the owner's access away would lock everyone out for good.
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            super::atomic::adopt_owner(path)?;
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    options.open(path)
}

impl PoolLock {
    /// Takes the pool's lock, waiting at most `wait`; `None` if another process held it all the time.
    pub fn acquire(paths: &PoolPaths, wait: Duration) -> io::Result<Option<PoolLock>> {
        Ok(FileLock::acquire(&paths.pool_lock(), wait)?.map(PoolLock))
    }
}

impl RenewalLock {
    /// Takes the lock of renewals, waiting at most `wait`; `None` if another process held it all the time.
    pub fn acquire(paths: &PoolPaths, wait: Duration) -> io::Result<Option<RenewalLock>> {
        Ok(FileLock::acquire(&paths.refresh_lock(), wait)?.map(RenewalLock))
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

    #[test]
    fn who_waits_gets_it_when_it_is_free_and_who_gave_up_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for way in [queue as fn(&File, Instant) -> _, |file, until| {
            let file = file.try_clone().unwrap();
            Some(poll(&file, until).map(|had| had.then_some(file)))
        }] {
            let held = FileLock::acquire(&path, Duration::ZERO).unwrap().expect("free");
            let wait = |ms| way(&open(&path).unwrap(), Instant::now() + Duration::from_millis(ms)).unwrap();
            assert!(wait(3).unwrap().is_none());
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| wait(60_000).unwrap().is_some());
                // It gets the lock whether it waits already or not.
                drop(held);
                assert!(waiter.join().unwrap());
            });
            let free = FileLock::acquire(&path, Duration::from_secs(60)).unwrap();
            assert!(free.is_some(), "who gave up has let it go");
        }
    }
}
