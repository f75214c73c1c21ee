//! The locks of the pool, on files of their own. Every function that writes takes a guard as an argument, so the compiler
//! proves that the lock is held. A process that can only read the pool, such as a tool in Codex's sandbox,
//! cannot hold one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fs2::FileExt;

use super::atomic::{create_private_dir, exchange, remove_file};
use super::open::open_with;
use super::record_lock::{self, Kind};
use crate::paths::PoolPaths;

/// The stack of a waiting thread, bytes.
const STACK: usize = 64 << 10;

/// How often a waiting process looks whether it waits for the right file.
const LOOK: Duration = Duration::from_millis(25);
/// How often it asks for the lock, where no thread waits for it.
const POLL: Duration = Duration::from_millis(1);

/// A flock on a file that Codex locks, too. Released on drop.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of an open file, waiting at most `wait`. `Ok(None)`: another process held it all the time.
    pub(crate) fn of(file: File, wait: Duration) -> io::Result<Option<FileLock>> {
        let until = Instant::now() + wait;
        loop {
            match FileExt::try_lock_exclusive(&file) {
                Ok(()) => return Ok(Some(FileLock { _file: file })),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(POLL.min(left));
        }
    }
}

/// The lock of everything in the pool. No request is made while it is held.
#[derive(Debug)]
pub struct PoolLock(#[expect(dead_code, reason = "held, not read")] WriteLock);

impl PoolLock {
    /// Takes the pool's lock, waiting at most `wait`; `None` if another process held it all the time.
    pub fn acquire(paths: &PoolPaths, wait: Duration) -> io::Result<Option<PoolLock>> {
        Ok(WriteLock::acquire(&paths.pool_lock(), Make::FileAndFolder, wait)?.map(PoolLock))
    }

    /// As [`PoolLock::acquire`], for what runs after a session: a pool that was removed meanwhile stays removed.
    ///
    /// # Errors
    /// The pool's folder is not there, or the file cannot be opened or locked.
    pub(crate) fn acquire_again(paths: &PoolPaths, wait: Duration) -> io::Result<Option<PoolLock>> {
        Ok(WriteLock::acquire(&paths.pool_lock(), Make::File, wait)?.map(PoolLock))
    }

    /// Takes the pool's lock if it is free and its file is there. Makes nothing, so that a pool that was removed stays
    /// removed.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub(crate) fn try_existing(paths: &PoolPaths) -> io::Result<Option<PoolLock>> {
        Ok(WriteLock::acquire(&paths.pool_lock(), Make::Nothing, Duration::ZERO)?.map(PoolLock))
    }
}

/// Returns whether a process that may write a file holds its lock.
///
/// # Errors
/// The file cannot be opened, other than that it is not there, or the system gives no locks.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    match open_with(OpenOptions::new().read(true), libc::O_NOFOLLOW, path) {
        Ok(file) => Ok(record_lock::in_the_way(&file, Kind::Read)?.is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The lock of token renewals. One process of the machine renews at a time.
#[derive(Debug)]
pub struct RenewalLock(#[expect(dead_code, reason = "held, not read")] WriteLock);

impl RenewalLock {
    /// Takes the lock of renewals, waiting at most `wait`; `None` if another process held it all the time.
    pub fn acquire(paths: &PoolPaths, wait: Duration) -> io::Result<Option<RenewalLock>> {
        Ok(WriteLock::acquire(&paths.refresh_lock(), Make::FileAndFolder, wait)?.map(RenewalLock))
    }
}

/// A write lock on the file at a path. Released on drop.
#[derive(Debug)]
pub(crate) struct WriteLock {
    file: File,
}

/// What is made if it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Nothing,
    File,
    FileAndFolder,
}

/// The result of waiting.
enum Waited {
    Locked(File),
    /// Another file is at the path now.
    Moved,
    /// A process that may only read the file keeps all others out with a read lock.
    KeptOut,
    TooLong,
}

impl WriteLock {
    /// Takes the lock, waiting at most `wait`. `Ok(None)`: another process held it all the time.
    pub(crate) fn acquire(path: &Path, make: Make, wait: Duration) -> io::Result<Option<WriteLock>> {
        let until = Instant::now() + wait;
        loop {
            let Some(file) = open(path, make)? else { return read_only(path, until) };
            let locked = match try_or_wait(path, file, until)? {
                Waited::Locked(file) => Some(file),
                Waited::KeptOut => replace(path, until)?,
                Waited::Moved => None,
                Waited::TooLong => return Ok(None),
            };
            // A file that is not at the path any more is no lock.
            if let Some(file) = locked
                && is_at(path, &file)
            {
                record_lock::sign(&file);
                return Ok(Some(WriteLock { file }));
            }
            if Instant::now() >= until && !wait.is_zero() {
                return Ok(None);
            }
        }
    }
}

impl WriteLock {
    /// Returns the locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns whether the file is the one at this path. If not, another process can take the lock there.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        is_at(path, &self.file)
    }
}

/// Opens the file of a lock, or creates it. `None`: nothing can be written here.
fn open(path: &Path, make: Make) -> io::Result<Option<File>> {
    let opened = match open_existing(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && make != Make::Nothing => {
            if make == Make::FileAndFolder
                && let Some(dir) = path.parent()
            {
                create_private_dir(dir)?;
            }
            match create(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => open_existing(path),
                other => other,
            }
        }
        other => other,
    };
    match opened {
        Err(e) if may_be_read_only(&e) && !is_writable(path.parent().unwrap_or(path)) => Ok(None),
        other => other.map(Some),
    }
}

fn open_existing(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true).write(true), libc::O_NOFOLLOW, path)
}

/// Creates the file of a lock.
fn create(path: &Path) -> io::Result<File> {
    let file = open_with(OpenOptions::new().read(true).write(true).create_new(true).mode(0o600), 0, path)?;
    // With a umask that denies its owner, the file would keep all others out for good.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn may_be_read_only(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

fn is_writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Waits until no process holds the lock. That is enough where nothing can be written, as in Codex's sandbox.
fn read_only(path: &Path, until: Instant) -> io::Result<Option<WriteLock>> {
    let file = open_with(OpenOptions::new().read(true), libc::O_NOFOLLOW, path)?;
    let free = wait_until_unlocked(&file, until)?;
    Ok(free.then_some(WriteLock { file }))
}

/// Returns whether the write lock is free, or became free in time.
fn wait_until_unlocked(file: &File, until: Instant) -> io::Result<bool> {
    while record_lock::in_the_way(file, Kind::Read)?.is_some() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(POLL.min(left));
    }
    Ok(true)
}

fn try_or_wait(path: &Path, file: File, until: Instant) -> io::Result<Waited> {
    if record_lock::try_write_lock(&file)? {
        return Ok(Waited::Locked(file));
    }
    let mut waiting = None;
    loop {
        if is_kept_out(&file)? {
            return Ok(Waited::KeptOut);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Waited::TooLong);
        }
        match waiting.get_or_insert_with(|| queue(&file)) {
            Some(queue) => match queue.recv_timeout(LOOK.min(left)) {
                Ok(locked) => return locked.map(Waited::Locked),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("no answer")),
            },
            None => {
                std::thread::sleep(POLL.min(left));
                if record_lock::try_write_lock(&file)? {
                    return Ok(Waited::Locked(file));
                }
            }
        }
        if !is_at(path, &file) {
            return Ok(Waited::Moved);
        }
    }
}

/// Waits in the kernel's queue, first come, first served, since dozens of launches that poll slow each other down. A
/// thread waits, because a time limit would need a signal, and those are Codex's. `None`: the system gives no thread.
fn queue(file: &File) -> Option<mpsc::Receiver<io::Result<File>>> {
    let waiting = file.try_clone().ok()?;
    let (locked, answer) = mpsc::channel();
    let wait_for_it = move || {
        let result = record_lock::write_lock(&waiting);
        // If the receiver has given up, the lock is released with the file.
        let _ = locked.send(result.map(|()| waiting));
    };
    std::thread::Builder::new().stack_size(STACK).spawn(wait_for_it).ok()?;
    Some(answer)
}

/// Returns whether the file has a read lock. The pool's programs take none.
fn is_kept_out(file: &File) -> io::Result<bool> {
    Ok(record_lock::in_the_way(file, Kind::Write)?.is_some_and(|found| found.kind == Kind::Read))
}

fn is_at(path: &Path, file: &File) -> bool {
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let there = std::fs::symlink_metadata(path).map(id);
    file.metadata().map(id).is_ok_and(|ours| there.is_ok_and(|there| there == ours))
}

/// Puts a new file, which is locked already, at the path. `None`: a process holds the write lock of the old one.
///
/// A process that opens the path from now on waits for the new lock. One that got the write lock of the old file before
/// is waited for here. One that gets it afterwards sees that the file is not at the path any more.
fn replace(path: &Path, until: Instant) -> io::Result<Option<File>> {
    let aside = aside(path);
    let new = create(&aside)?;
    let result = (|| {
        if !record_lock::try_write_lock(&new)? {
            return Ok(None);
        }
        exchange(&aside, path)?;
        let free = open_existing(&aside).and_then(|old| wait_until_unlocked(&old, until));
        if !matches!(free, Ok(true)) {
            // The old file stays the lock, since it is held. The new one has had no other holder.
            exchange(&aside, path)?;
            return free.map(|_| None);
        }
        Ok(Some(new))
    })();
    remove_file(&aside)?;
    result
}

/// Returns a name that no other process uses, not even one of the same pid in another namespace.
fn aside(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    path.with_file_name(format!(".{name}.{pid}-{count}-{time}.codex-pool.tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    fn lock(path: &Path, wait: Duration) -> Option<WriteLock> {
        WriteLock::acquire(path, Make::File, wait).unwrap()
    }

    /// Takes what a process can hold that can only read the file.
    fn read_lock(path: &Path) -> File {
        let file = File::open(path).unwrap();
        while !record_lock::try_read_lock(&file).unwrap() {
            thread::yield_now();
        }
        file
    }

    #[test]
    fn held_lock_is_not_given_twice_and_a_dropped_one_is() {
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
        let held = lock(&path, Duration::ZERO).expect("free");
        assert!(lock(&path, Duration::from_millis(3)).is_none());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| lock(&path, LONG).is_some());
            // Whether it waits already or comes later: it gets it.
            drop(held);
            assert!(waiter.join().unwrap());
        });
        assert!(lock(&path, LONG).is_some(), "who gave up has let it go");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn holder_signs_with_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let signed = || {
            let inode = std::fs::metadata(&path).unwrap().ino();
            let signature = format!("POSIX  ADVISORY  WRITE {} ", std::process::id());
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains(&signature) && line.ends_with(&format!(":{inode} 1 1")))
        };
        // Whether it is had at once, after waiting, or past a reader.
        let held = lock(&path, Duration::ZERO);
        assert!(signed());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| lock(&path, LONG));
            drop(held);
            let held = waiter.join().unwrap();
            assert!(signed());
            drop(held);
        });
        assert!(!signed());
        let _read = read_lock(&path);
        let _held = lock(&path, Duration::ZERO);
        assert!(signed());
    }

    #[test]
    fn who_can_only_read_the_file_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(lock(&path, Duration::ZERO));
        for wait in [Duration::ZERO, LONG] {
            let flock = File::open(&path).unwrap();
            FileExt::lock_exclusive(&flock).unwrap();
            let read = read_lock(&path);
            let held = lock(&path, wait).expect("free");
            assert!(lock(&path, Duration::from_millis(3)).is_none(), "and it is a lock");
            drop((held, read));
            let names: Vec<_> =
                std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, ["lock"]);
        }
        // Also if it is the first to get the file when its holder lets it go.
        let held = lock(&path, Duration::ZERO).expect("free");
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_lock(&path));
            let waiter = scope.spawn(|| lock(&path, LONG).is_some());
            drop(held);
            assert!(waiter.join().unwrap());
            drop(reader.join());
        });
    }

    #[test]
    fn one_alone_has_it_while_readers_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(lock(&path, Duration::ZERO));
        let (inside, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let file = File::open(&path).unwrap();
                    if record_lock::try_read_lock(&file).unwrap() {
                        thread::yield_now();
                    }
                }
            });
            let writer = || {
                for _ in 0..200 {
                    let held = lock(&path, LONG).expect("it was had");
                    assert!(!inside.swap(true, Ordering::SeqCst), "two have it");
                    thread::yield_now();
                    inside.store(false, Ordering::SeqCst);
                    drop(held);
                }
            };
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(writer)).collect();
            let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ended.store(true, Ordering::Relaxed);
            reader.join().unwrap();
            assert!(results.iter().all(Result::is_ok));
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
