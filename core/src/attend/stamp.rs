//! When a file last changed, as far as a stat tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Times of files are only as exact as the system's clock tick.
const COARSE: Duration = Duration::from_millis(100);

/// What a stat says of a file, behind links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the stamp of a file; `None` if it is not there.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Returns whether the file changed so recently that a next change might not show.
    pub(super) fn is_young(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = Duration::new(self.changed.0.max(0) as u64, self.changed.1.max(0) as u32);
        now.checked_sub(at).is_none_or(|age| age < COARSE)
    }

    /// Returns whether it is the same file with the same content, wherever links lead to it.
    pub(super) fn is_same_program(&self, other: &Stamp) -> bool {
        (self.device, self.inode, self.modified) == (other.device, other.inode, other.modified)
    }
}
