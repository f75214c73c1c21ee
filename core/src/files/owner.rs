//! The owner of a file. Writes nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns whether a file or folder, or what it links to, belongs to a user other than this one and root. A file that
/// is not there does not.
pub fn is_of_another_user(path: &Path) -> bool {
    let others = |meta: std::io::Result<Metadata>| meta.is_ok_and(|meta| is_another_user(meta.uid()));
    others(path.symlink_metadata()) || others(path.metadata())
}

/// Returns whether a user is neither this one nor root.
pub(crate) fn is_another_user(uid: u32) -> bool {
    uid != 0 && uid != nix::unistd::geteuid().as_raw()
}
