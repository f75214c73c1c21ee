//! Files as the pool needs them: written whole or not at all, private, owner kept, and locked.

mod atomic;
mod lock;

pub use atomic::{
    Durability, Owner, create_private_dir, make_private, remove_file, rename_new, sync_dir, temp_name,
    write_whole,
};
pub(crate) use atomic::{adopt_owner, refuse_leading_root_astray, refuse_target_of_others};
pub use lock::{FileLock, PoolLock, RenewalLock};

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a file of at most `limit` bytes; `Ok(None)` if it is not there.
///
/// # Errors
/// What the system says; `FileTooLarge` beyond the limit. A FIFO or device does not block: it is
/// opened non-blocking and refused.
pub fn read_small(path: &Path, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let open = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match open {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound) => return Ok(None),
        Err(e) => return Err(e),
    };
    read_open(&file, limit).map(Some)
}

/// Reads an open file of at most `limit` bytes from its start.
pub fn read_open(file: &std::fs::File, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if meta.len() > limit {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    // One read for the whole and one that finds the end: the file may be changing under us.
    let mut bytes = vec![0; meta.len() as usize + 1];
    let mut filled = 0;
    loop {
        let n = match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        filled += n;
        // Less than was asked for, yet as much as the file had: that is the end.
        let end = n == 0 || filled < bytes.len() && filled as u64 >= meta.len();
        if end || filled as u64 > limit {
            break;
        }
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
    if filled as u64 > limit {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads all of a stream up to `limit` bytes.
pub fn read_stream(stream: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
