//! The only place that opens files; a lint forbids it elsewhere. What is at a path of the pool or of Codex may be a FIFO
//! or a device, which must not block: files are opened without blocking, and checked before anything is read or written.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
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
    let file = open_any(options.custom_flags(flags | libc::O_NONBLOCK), path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Opens a regular file to add to its end, and to read it. If there is none, it is made with mode 0600 whatever the umask.
///
/// # Errors
/// As [`open`].
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let file = open_with(OpenOptions::new().read(true).append(true).create(true).mode(0o600), 0, path)?;
    if file.metadata()?.mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Opens a folder, to sync it or to give it away.
///
/// # Errors
/// What the system says.
pub fn open_dir(dir: &Path) -> io::Result<File> {
    open_any(OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY), dir)
}

/// Opens what is neither the pool's nor Codex's: a file of the system, or a pipe that the user names. It may block.
///
/// # Errors
/// What the system says.
pub fn open_stream(path: &Path) -> io::Result<File> {
    open_any(OpenOptions::new().read(true), path)
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn open_any(options: &OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}

/// Reads the beginning of a regular file: as many bytes as there are, and as `head` has room for. Returns their number.
///
/// # Errors
/// As [`open`].
pub fn read_head(path: &Path, head: &mut [u8]) -> io::Result<usize> {
    let mut file = open(path)?;
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Copies a regular file, with its permissions, to a path where there is none.
///
/// # Errors
/// As [`open`]; `AlreadyExists` if there is a file.
pub fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = open(from)?;
    let mut copy = open_with(OpenOptions::new().write(true).create_new(true).mode(0o600), 0, to)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(source.metadata()?.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_none_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        for name in ["fifo", "folder", "device", "link"] {
            assert_eq!(open(&at(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
            let mut options = OpenOptions::new();
            open_with(options.write(true).create(true).truncate(true), 0, &at(name)).unwrap_err();
            open_with(OpenOptions::new().read(true).write(true), 0, &at(name)).unwrap_err();
        }
        assert_eq!(open(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(at("file"), "some text").unwrap();
        let mut head = [0; 4];
        assert_eq!((read_head(&at("file"), &mut head).unwrap(), &head), (4, b"some"));
        copy_new(&at("file"), &at("copy")).unwrap();
        assert_eq!(std::fs::read(at("copy")).unwrap(), b"some text");
        assert_eq!(copy_new(&at("file"), &at("copy")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
