//! Files as the pool needs them: written whole or not at all, private, with their owner kept, and locked.

mod atomic;
mod lock;
mod open;
mod owner;
pub(crate) mod record_lock;

pub use atomic::{
    Durability, create_private_dir, make_private, remove_file, rename_new, sync_dir, temp_name, write_whole,
    write_whole_as,
};
pub(crate) use atomic::{exchange, write_beside};
pub(crate) use lock::{FileLock, Make, WriteLock};
pub use lock::{PoolLock, RenewalLock, is_locked};
pub use open::{copy_new, open, open_dir, open_stream, open_to_append, open_with, read_head};
pub(crate) use owner::is_another_user;
pub use owner::{Owner, another_user_of_root, is_of_another_user};

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// Reads a file of at most `limit` bytes; `None` if it is not there.
///
/// # Errors
/// What the system says; `FileTooLarge` beyond the limit. A FIFO or device is refused, and does not block.
pub fn read_small(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    read_into(room_for(&file, limit)?, file, limit).map(Some)
}

/// Reads an open file of at most `limit` bytes from its start.
///
/// # Errors
/// As [`read_small`].
pub fn read_open(mut file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let room = room_for(file, limit)?;
    file.rewind()?;
    read_into(room, file, limit)
}

/// Returns memory for a regular file of at most `limit` bytes.
fn room_for(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if meta.len() > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Vec::with_capacity(meta.len() as usize + 1))
}

/// Reads all of a stream up to `limit` bytes.
///
/// # Errors
/// `FileTooLarge` beyond the limit; else what the system says.
pub fn read_stream(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    read_into(Vec::new(), stream, limit)
}

fn read_into(mut bytes: Vec<u8>, stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    stream.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
