//! What keeps an `auth.json` from being replaced: the file is mounted by itself, it must not be changed, or its folder
//! cannot be written. Only reads. What is not foreseen here fails at the exchange itself.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::AuthFile;

/// Why an `auth.json` cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// This file is a mount of its own, as in a container: it can be neither renamed nor replaced.
    Mounted(PathBuf),
    /// This file or folder has the attribute that it must not be changed.
    Immutable(PathBuf),
    /// The file system of this folder is mounted read-only.
    ReadOnly(PathBuf),
    /// This folder may not be written.
    NoAccess(PathBuf),
}

impl Obstacle {
    /// Returns what is in the way of replacing a home's file.
    pub fn of(file: &AuthFile) -> Option<Obstacle> {
        let at = file.replaced();
        match fixed(at) {
            Some(Fixed::Mount) => Some(Obstacle::Mounted(at.to_owned())),
            Some(Fixed::Immutable) => Some(Obstacle::Immutable(at.to_owned())),
            None => Obstacle::of_folder(at.parent()?),
        }
    }

    /// Returns what keeps files from being made, renamed and removed in a folder. One that is not there has none.
    pub fn of_folder(dir: &Path) -> Option<Obstacle> {
        match access(dir, AccessFlags::W_OK | AccessFlags::X_OK) {
            Err(Errno::EROFS) => Some(Obstacle::ReadOnly(dir.to_owned())),
            Err(Errno::EACCES | Errno::EPERM) => Some(Obstacle::NoAccess(dir.to_owned())),
            _ if fixed(dir) == Some(Fixed::Immutable) => Some(Obstacle::Immutable(dir.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Mounted(file) => write!(f, "{} is mounted by itself", file.display()),
            Obstacle::Immutable(path) => write!(f, "{} is set to be immutable", path.display()),
            Obstacle::ReadOnly(dir) => write!(f, "{} is on a read-only file system", dir.display()),
            Obstacle::NoAccess(dir) => write!(f, "{} cannot be written", dir.display()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fixed {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no mounts of single files there"))]
    Mount,
    Immutable,
}

/// Returns what the system says of a file or folder itself. A kernel or file system that says nothing lets the exchange
/// find out.
#[cfg(target_os = "linux")]
fn fixed(path: &Path) -> Option<Fixed> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).ok()?;
    let is = |attribute| stat.stx_attributes.intersects(attribute);
    if is(StatxAttributes::MOUNT_ROOT) {
        Some(Fixed::Mount)
    } else {
        is(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND).then_some(Fixed::Immutable)
    }
}

/// Returns what the system says of a file or folder itself. There are no mounts of single files.
#[cfg(not(target_os = "linux"))]
fn fixed(path: &Path) -> Option<Fixed> {
    use std::os::macos::fs::MetadataExt as _;

    let flags = std::fs::symlink_metadata(path).ok()?.st_flags();
    let immutable = libc::UF_IMMUTABLE | libc::UF_APPEND | libc::SF_IMMUTABLE | libc::SF_APPEND;
    (flags & immutable != 0).then_some(Fixed::Immutable)
}
