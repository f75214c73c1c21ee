//! Whose a file is. Only reads.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a file or folder is another user's than ours and root's. A link counts, and so does what it leads to. What
/// is not there is nobody's.
pub fn is_of_another_user(path: &Path) -> bool {
    let others = |meta: std::io::Result<Metadata>| meta.is_ok_and(|meta| is_another_user(meta.uid()));
    others(path.symlink_metadata()) || others(path.metadata())
}

/// Whether a user is another one than ours and root.
pub(crate) fn is_another_user(uid: u32) -> bool {
    uid != 0 && uid != nix::unistd::geteuid().as_raw()
}
