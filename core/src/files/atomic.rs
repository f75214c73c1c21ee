//! Writing: a temporary file in the same folder, then a rename. Callers hold the pool's lock, so a fixed temporary name
//! is safe. A crash leaves at most one such file, which the next write removes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::open::{open_dir, open_with};

/// Whether a write must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The file is synced before the rename, and the folder after it.
    Durable,
    /// The file is the old or the new one after a crash of the process. A power failure may lose it: for a cache, or a
    /// copy of what the pool has durably.
    Fast,
}

/// Mode of what only its owner may read.
const PRIVATE: u32 = 0o600;

/// Writes a file of mode 0600. Afterwards it is the old one or the new one, never a mix.
///
/// # Errors
/// What the system says. The old file is still there then, and the temporary one is removed.
pub fn write_whole(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    write_whole_as(path, bytes, PRIVATE, durability)
}

/// Writes a file as [`write_whole`] does, of another mode.
///
/// # Errors
/// As there.
pub fn write_whole_as(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temp = write_temp(path, bytes, mode, durability)?;
    let written = match durability {
        Durability::Durable => std::fs::rename(&temp, path).and_then(|()| sync_dir(dir)),
        Durability::Fast => replace(&temp, path),
    };
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written
}

/// Writes what is to become `path` to [`temp_name`] beside it. [`Durability::Durable`]: its content is
/// synced. Returns where it is.
///
/// # Errors
/// What the system says. The temporary file is removed then.
pub(crate) fn write_beside(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<PathBuf> {
    write_temp(path, bytes, PRIVATE, durability)
}

fn write_temp(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<PathBuf> {
    if path.file_name().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let temp = temp_name(path);
    let written = (|| {
        let mut file = create_new(&temp)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        if durability == Durability::Durable { file.sync_all() } else { Ok(()) }
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written.map(|()| temp)
}

/// Puts `temp` in the place of `path` by exchanging the two. That is as atomic as a rename, but ext4 lets a rename wait
/// until the data has its place on disk, which takes twice the time of all else.
fn replace(temp: &Path, path: &Path) -> io::Result<()> {
    // A folder must not be exchanged.
    let exchangeable = std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_dir());
    if exchangeable && exchange(temp, path).is_ok() {
        // The old file has the temporary name now.
        let _ = std::fs::remove_file(temp);
        return Ok(());
    }
    // There is no old file, or the file system cannot exchange.
    std::fs::rename(temp, path)
}

/// Returns the temporary file of a write to `path`.
pub fn temp_name(path: &Path) -> PathBuf {
    let mut temp = std::ffi::OsString::from(".");
    temp.push(path.file_name().unwrap_or_default());
    temp.push(".codex-pool.tmp");
    path.with_file_name(temp)
}

fn create_new(path: &Path) -> io::Result<File> {
    let open =
        || open_with(OpenOptions::new().write(true).create_new(true).mode(0o600), libc::O_NOFOLLOW, path);
    match open() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // A crash left it.
            std::fs::remove_file(path)?;
            open()
        }
        other => other,
    }
}

/// Makes the folder's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    open_dir(dir)?.sync_all()
}

/// Removes a file if it is there.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Renames a file without replacing another one.
///
/// # Errors
/// `AlreadyExists` if there is a file of the new name; else what the system says.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    const EXCLUSIVE: libc::c_uint = 1;
    #[cfg(not(target_os = "linux"))]
    const EXCLUSIVE: libc::c_uint = libc::RENAME_EXCL;
    rename_with(from, to, EXCLUSIVE)
}

/// Exchanges two files.
///
/// # Errors
/// What the system says: not every file system can.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    const EXCHANGE: libc::c_uint = libc::RENAME_EXCHANGE;
    #[cfg(not(target_os = "linux"))]
    const EXCHANGE: libc::c_uint = libc::RENAME_SWAP;
    rename_with(one, other, EXCHANGE)
}

fn rename_with(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let c = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from, to) = (c(from)?, c(to)?);
    #[cfg(target_os = "linux")]
    // SAFETY: both are C strings that live until the call returns. Not every C library has a function for this call.
    #[expect(unsafe_code, reason = "renameat2")]
    let result = unsafe {
        let here = libc::AT_FDCWD;
        libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), flags)
    };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: both are C strings that live until the call returns.
    #[expect(unsafe_code, reason = "renamex_np")]
    let result = unsafe { libc::renamex_np(from.as_ptr(), to.as_ptr(), flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a folder of mode 0700 and its parents, unless they are there.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    match create_private_dir_in_parent(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()).ok_or(e)?;
            create_private_dir(parent)?;
            // Where no folder can be made, as in `/proc`, this fails again.
            create_private_dir_in_parent(dir)
        }
        result => result,
    }
}

fn create_private_dir_in_parent(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {
            // The umask may have taken the owner's access away.
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Takes the access of other users to a folder away.
///
/// # Errors
/// The folder is not there, or belongs to another user.
pub fn make_private(dir: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_write_replaces_the_file_and_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::fs::write(dir.path().join(".auth.json.codex-pool.tmp"), "half").unwrap();
        write_whole(&path, b"one", Durability::Fast).unwrap();
        write_whole(&path, b"two", Durability::Durable).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_mode_is_that_of_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rc");
        for (mode, durability) in [(0o640, Durability::Durable), (0o444, Durability::Fast)] {
            write_whole_as(&path, b"text", mode, durability).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::fs::create_dir(&path).unwrap();
        write_whole(&path, b"one", Durability::Fast).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_planted_link_at_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".a.codex-pool.tmp")).unwrap();
        write_whole(&dir.path().join("a"), b"one", Durability::Fast).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
    }
}
