//! Codex's own lock of a thread: a flock on `thread-writer-locks/<id>.lock`, held by whoever has the thread loaded (from
//! 0.159 on). Taken and given back in Codex's own way, as seen with strace on 0.159.3 and 0.169.0: opening and removing
//! the file happens under a flock on `.coordination.lock` beside it, and the file is gone once nobody holds it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::codex::argv::is_uuid;
use crate::codex::lock_file::take;
use crate::files::FileLock;

/// How long it may take until the lock of the locks is free; Codex holds it for microseconds.
const COORDINATION: Duration = Duration::from_millis(500);

/// A thread that no Codex has loaded, nor can load meanwhile. Given back on drop.
#[derive(Debug)]
pub struct WriterLock {
    thread: String,
    folder: PathBuf,
    lock: Option<FileLock>,
}

/// What came of an attempt to take the lock.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Held(WriterLock),
    /// A Codex has the thread loaded.
    InUse,
    /// No Codex that locks threads has been here (0.140 and older): the lock says nothing.
    NoLocks,
}

impl WriterLock {
    /// Takes the lock of a thread (a UUID) under that CODEX_HOME, without waiting for whoever holds it.
    ///
    /// # Errors
    /// What the system says; a file system without locks is one.
    pub fn take(codex_home: &Path, thread: &str) -> io::Result<Taken> {
        if !is_uuid(thread) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let thread = thread.to_ascii_lowercase();
        let folder = codex_home.join("thread-writer-locks");
        if !folder.is_dir() {
            return Ok(Taken::NoLocks);
        }
        let Some(_coordination) = coordinate(&folder)? else { return Ok(Taken::InUse) };
        let lock = take(&path(&folder, &thread), Duration::ZERO)?;
        Ok(lock.map_or(Taken::InUse, |lock| Taken::Held(WriterLock { thread, folder, lock: Some(lock) })))
    }

    /// The thread, in lower case.
    pub fn thread(&self) -> &str {
        &self.thread
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // Without the lock of the locks, the file stays: a later Codex takes it as it is.
        if let Ok(Some(_coordination)) = coordinate(&self.folder) {
            drop(self.lock.take());
            let _ = std::fs::remove_file(path(&self.folder, &self.thread));
        }
    }
}

fn path(folder: &Path, thread: &str) -> PathBuf {
    folder.join(format!("{thread}.lock"))
}

fn coordinate(folder: &Path) -> io::Result<Option<FileLock>> {
    take(&folder.join(".coordination.lock"), COORDINATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    use fs2::FileExt;
    use std::os::unix::fs::PermissionsExt as _;

    const THREAD: &str = "01A20399-89f9-7f61-a9c3-c721a01b72f4";

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("thread-writer-locks");
        std::fs::create_dir(&folder).unwrap();
        (home, folder)
    }

    fn held(home: &Path) -> WriterLock {
        match WriterLock::take(home, THREAD).unwrap() {
            Taken::Held(lock) => lock,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_thread_is_had_once_and_its_lock_is_gone_afterwards() {
        let (home, folder) = home();
        let lock = held(home.path());
        let file = folder.join(format!("{}.lock", THREAD.to_lowercase()));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(WriterLock::take(home.path(), THREAD).unwrap(), Taken::InUse));
        // As Codex tries it.
        let other = OpenOptions::new().read(true).write(true).open(&file).unwrap();
        assert!(other.try_lock_exclusive().is_err());
        drop(lock);
        assert!(!file.exists());
        drop(held(home.path()));
    }

    #[test]
    fn one_that_codex_holds_is_in_use_and_stays() {
        let (home, folder) = home();
        let file = folder.join(format!("{}.lock", THREAD.to_lowercase()));
        let codex = File::create(&file).unwrap();
        codex.lock_exclusive().unwrap();
        assert!(matches!(WriterLock::take(home.path(), THREAD).unwrap(), Taken::InUse));
        assert!(file.exists());
        FileExt::unlock(&codex).unwrap();
        drop(held(home.path()));
    }

    #[test]
    fn nothing_is_made_where_codex_has_no_locks() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(WriterLock::take(home.path(), THREAD).unwrap(), Taken::NoLocks));
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        assert!(WriterLock::take(home.path(), "../../etc").is_err());
    }
}
