//! Writing: a temporary file in the same folder, then a rename. Callers hold the pool's lock, so a
//! fixed temporary name is safe and a crash leaves at most one, which the next write removes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Whether a write must survive a power cut before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and folder are synced before and after the rename.
    Durable,
    /// Whole or old after a crash of the process; a power cut may lose it (a cache, or a copy of
    /// what the pool holds durably).
    Fast,
}

/// Who must own what we write. It matters to root alone: `sudo codex` must not leave a user's
/// files in root's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The owner of an existing file or folder, if we are root and would have to give it away.
    fn of_existing(path: &Path) -> Option<Owner> {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            return None;
        }
        let meta = std::fs::symlink_metadata(path).ok()?;
        (meta.uid() != 0 || meta.gid() != 0).then(|| Owner { uid: meta.uid(), gid: meta.gid() })
    }

    /// Gives an open file to this owner.
    fn give(self, file: &File) -> io::Result<()> {
        fchown(file, Some(self.uid), Some(self.gid))
    }
}

/// Writes `bytes` to `path`, mode 0600: afterwards the file is the old one or the new one, never a mix.
///
/// # Errors
/// What the system says; the old file is then still there and the temporary one removed.
pub fn write_whole(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if path.file_name().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let temp = temp_name(path);
    let owner = Owner::of_existing(path).or_else(|| Owner::of_existing(dir));
    let written = (|| {
        let mut file = create_new(&temp)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        if let Some(owner) = owner {
            owner.give(&file)?;
        }
        file.write_all(bytes)?;
        if durability == Durability::Durable {
            file.sync_all()?;
        }
        drop(file);
        match durability {
            Durability::Durable => std::fs::rename(&temp, path)?,
            Durability::Fast => replace(&temp, path)?,
        }
        if durability == Durability::Durable { sync_dir(dir) } else { Ok(()) }
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written
}

/// Puts `temp` in the place of `path` by exchanging the two: as atomic as a rename, which ext4 makes wait
/// for the data to be laid out on disk (twice the time of all the rest of a small write).
fn replace(temp: &Path, path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        const RENAME_EXCHANGE: libc::c_uint = 2;
        // A folder could be exchanged, too, and must not be.
        let exchangeable = std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_dir());
        if exchangeable && rename_with(temp, path, RENAME_EXCHANGE).is_ok() {
            // What is left of the old file under the temporary name is of no more use.
            let _ = std::fs::remove_file(temp);
            return Ok(());
        }
    }
    // There is no old file yet, or the file system cannot exchange.
    std::fs::rename(temp, path)
}

/// Refuses a folder or file of the pool if it is a symbolic link by which a user leads root (`sudo codex`) to what
/// another user has. Anybody else cannot do there what its owner does not permit.
///
/// # Errors
/// It is such a link. Nothing at all is fine.
pub(crate) fn refuse_leading_root_astray(path: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() || !path.is_symlink() {
        return Ok(());
    }
    refuse_target_of_others(path, &std::fs::canonicalize(path)?)
}

/// The same of a link that is known to be one and was found to lead to `target`, a path without further links.
///
/// # Errors
/// It is such a link, or no link any more.
pub(crate) fn refuse_target_of_others(link: &Path, target: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let by = std::fs::symlink_metadata(link)?;
    // Where there is nothing, something could be made.
    let to = std::fs::symlink_metadata(target)
        .or_else(|_| std::fs::symlink_metadata(target.parent().unwrap_or(Path::new("/"))))?;
    if by.is_symlink() && (by.uid() == 0 || by.uid() == to.uid()) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "a user's link to what another user has"))
}

/// Gives a file that we just made to its folder's owner, if we are root.
pub(crate) fn adopt_owner(path: &Path) -> io::Result<()> {
    match path.parent().and_then(Owner::of_existing) {
        Some(owner) => owner.give(&File::open(path)?),
        None => Ok(()),
    }
}

/// The file that a write to `path` makes first.
pub fn temp_name(path: &Path) -> PathBuf {
    let mut temp = std::ffi::OsString::from(".");
    temp.push(path.file_name().unwrap_or_default());
    temp.push(".codex-pool.tmp");
    path.with_file_name(temp)
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a crash.
            std::fs::remove_file(path)?;
            options.open(path)
        }
        other => other,
    }
}

/// Makes the folder's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Renames without ever replacing something.
///
/// # Errors
/// `AlreadyExists` if the new name is taken; else what the system says.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    const EXCLUSIVE: libc::c_uint = 1;
    #[cfg(not(target_os = "linux"))]
    const EXCLUSIVE: libc::c_uint = libc::RENAME_EXCL;
    rename_with(from, to, EXCLUSIVE)
}

/// The rename that takes flags.
fn rename_with(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let c = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from, to) = (c(from)?, c(to)?);
    #[cfg(target_os = "linux")]
    // SAFETY: both are C strings that live until the call returns. The call itself, since not every C
    // library has a function for it.
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

/// Makes a folder of mode 0700, parents too, with the owner of the nearest existing one; one that
/// is there is fine.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    match create_private_dir_in_parent(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()).ok_or(e)?;
            create_private_dir(parent)?;
            // Where nothing can be made, as in `/proc`, it is not found again.
            create_private_dir_in_parent(dir)
        }
        result => result,
    }
}

fn create_private_dir_in_parent(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {
            // Whatever the umask, its owner can use it.
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
            if let Some(owner) = dir.parent().and_then(Owner::of_existing) {
                owner.give(&File::open(dir)?)?;
            }
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => refuse_leading_root_astray(dir),
        Err(e) => Err(e),
    }
}

/// Takes everybody else's access to a folder away.
///
/// # Errors
/// It is not there, or not ours.
pub fn make_private(dir: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
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
