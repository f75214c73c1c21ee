//! The only place that opens files. A FIFO or a device at a path of the pool or of Codex must not block: files are opened
//! without blocking, and checked before anything is read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file to read it.
///
/// # Errors
/// What the system says; `InvalidInput` if it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), 0, path)
}

/// Opens a regular file with these options, which have no flags of their own, and with these flags.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: &mut OpenOptions, flags: i32, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(flags | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}
