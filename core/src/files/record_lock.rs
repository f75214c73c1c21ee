//! Locks of an open file description (`fcntl`). A child inherits them, and they end with the last descriptor, like a
//! flock. A write lock needs a descriptor that is open for writing, so that a process which can only read the file cannot
//! hold one. It can hold a read lock, though.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use fs2::FileExt;

/// The kind of a lock that is asked for, or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// The owner of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Process(u32),
    /// A process of a pid namespace that cannot be seen from here.
    UnseenProcess,
    /// An open file description.
    OpenFile,
}

/// A lock of another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) owner: Owner,
}

impl Found {
    /// Returns the process, if it can be seen.
    pub(crate) fn pid(self) -> Option<u32> {
        match self.owner {
            Owner::Process(pid) => Some(pid),
            Owner::UnseenProcess | Owner::OpenFile => None,
        }
    }
}

/// The byte that the lock of a file is on.
const LOCK: i64 = 0;
/// The byte on which the holder has a lock of its process, too. That one tells the pid, unlike the first.
const HOLDER: i64 = 1;

/// Takes the write lock of a file, unless there is another lock. On a system without such locks, this is a flock.
///
/// # Errors
/// What the system says.
pub(crate) fn try_write_lock(file: &File) -> io::Result<bool> {
    loop {
        let result = match fcntl(file, libc::F_OFD_SETLK, Kind::Write, LOCK) {
            Err(e) if is_unknown(&e) => FileExt::try_lock_exclusive(file),
            other => other.map(drop),
        };
        return match result {
            Ok(()) => Ok(true),
            // POSIX permits both.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
    }
}

/// Waits for the write lock of a file.
///
/// # Errors
/// What the system says.
pub(super) fn write_lock(file: &File) -> io::Result<()> {
    loop {
        let result = match fcntl(file, libc::F_OFD_SETLKW, Kind::Write, LOCK) {
            Err(e) if is_unknown(&e) => FileExt::lock_exclusive(file),
            other => other.map(drop),
        };
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Makes [`holder`] tell that this process holds the lock. If that fails, the holder stays unknown.
pub(super) fn sign(file: &File) {
    let _ = fcntl(file, libc::F_SETLK, Kind::Write, HOLDER);
}

/// Returns the lock that prevents a lock of this kind.
///
/// # Errors
/// What the system says.
pub(crate) fn in_the_way(file: &File, of: Kind) -> io::Result<Option<Found>> {
    match fcntl(file, libc::F_OFD_GETLK, of, LOCK) {
        Err(e) if is_unknown(&e) => {
            let free = FileExt::try_lock_shared(file).is_ok();
            if free {
                FileExt::unlock(file)?;
            }
            Ok((!free).then_some(Found { kind: Kind::Write, owner: Owner::OpenFile }))
        }
        other => other.map(found),
    }
}

/// Returns the process that holds the write lock of a file and has signed it.
///
/// # Errors
/// What the system says.
pub(crate) fn holder(file: &File) -> io::Result<Option<u32>> {
    // Read locks do not prevent read locks: only a process that may write the file is named.
    let lock = fcntl(file, libc::F_GETLK, Kind::Read, HOLDER)?;
    Ok(found(lock).and_then(Found::pid))
}

/// Returns the lock that prevents a write lock of this process on a byte.
///
/// # Errors
/// What the system says.
pub(crate) fn on_byte(file: &File, byte: i64) -> io::Result<Option<Found>> {
    fcntl(file, libc::F_GETLK, Kind::Write, byte).map(found)
}

fn found(lock: libc::flock) -> Option<Found> {
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    let kind = if lock.l_type == libc::F_RDLCK as libc::c_short { Kind::Read } else { Kind::Write };
    let owner = match u32::try_from(lock.l_pid) {
        Ok(0) => Owner::UnseenProcess,
        Ok(pid) => Owner::Process(pid),
        Err(_) => Owner::OpenFile,
    };
    Some(Found { kind, owner })
}

/// Takes a read lock, unless there is a write lock.
#[cfg(test)]
pub(crate) fn try_read_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, libc::F_OFD_SETLK, Kind::Read, LOCK) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        other => other.map(|_| true),
    }
}

/// Returns whether the system does not know the request.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP))
}

fn fcntl(file: &File, request: i32, kind: Kind, byte: i64) -> io::Result<libc::flock> {
    // SAFETY: `flock` is plain data, for which zeroes are valid.
    #[expect(unsafe_code, reason = "a C struct")]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = match kind {
        Kind::Read => libc::F_RDLCK as _,
        Kind::Write => libc::F_WRLCK as _,
    };
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the descriptor is open and the pointer is to a live `flock`.
    #[expect(unsafe_code, reason = "fcntl")]
    let result = unsafe { libc::fcntl(file.as_raw_fd(), request, &raw mut lock) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(lock) }
}
