//! Lock files of Codex's: empty files, on which it takes a flock. One that Codex cannot open costs it a login, so a file
//! that is made here belongs to the owner of the folder, and to nobody else.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::files::{FileLock, open_with};

/// Takes a lock, and makes its file if need be. `Ok(None)`: another process held it all the time.
///
/// # Errors
/// What the system says; a file system without locks is one.
pub(crate) fn take(path: &Path, wait: Duration) -> io::Result<Option<FileLock>> {
    let mut new = OpenOptions::new();
    match open_with(new.read(true).write(true).create_new(true).mode(0o600), 0, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let file = open_with(OpenOptions::new().read(true).write(true), libc::O_NOFOLLOW, path)?;
    FileLock::of(file, wait)
}
