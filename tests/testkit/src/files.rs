//! Files as tests look at them and lay them out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::Cmd;

/// Permission bits.
///
/// # Panics
/// If there is no such file.
#[track_caller]
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

/// Sets the permission bits.
///
/// # Panics
/// If that fails.
#[track_caller]
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("set the mode of {}: {e}", path.display()));
}

/// Makes a file that many seconds old, or dates it ahead if `seconds` is negative.
///
/// # Panics
/// If that fails.
#[track_caller]
pub fn set_age(path: &Path, seconds: i64) {
    let (now, span) = (SystemTime::now(), Duration::from_secs(seconds.unsigned_abs()));
    let at = if seconds < 0 { now + span } else { now - span };
    let file = fs::File::options().append(true).open(path);
    file.and_then(|file| file.set_modified(at)).unwrap_or_else(|e| panic!("date {}: {e}", path.display()));
}

/// Returns every file below a folder, in order; links are not followed, and are files themselves.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// Returns every readable file below a folder with its text; links are not followed.
pub fn texts_below(dir: &Path) -> BTreeMap<PathBuf, String> {
    let files = files_below(dir).into_iter().filter(|path| path.is_file() && !path.is_symlink());
    let texts = files.map(|path| {
        let bytes = fs::read(&path).unwrap_or_default();
        (path, String::from_utf8_lossy(&bytes).into_owned())
    });
    texts.collect()
}

/// Gives everything below a folder to a user, but for programs, which a sandbox shares with others.
///
/// # Panics
/// If that fails.
pub fn give(dir: &Path, uid: u32) {
    chown(dir, Some(uid), Some(uid)).expect("chown");
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        match entry.file_type().expect("its kind") {
            kind if kind.is_dir() => give(&entry.path(), uid),
            kind if kind.is_file() && mode(&entry.path()) & 0o111 == 0 => {
                chown(entry.path(), Some(uid), Some(uid)).expect("chown");
            }
            _ => {}
        }
    }
}

/// Takes the lock of a file as the pool's programs do, at once: an `fcntl` lock of the open file, for writing. It ends
/// when the answer is closed. `None`: it is taken.
///
/// # Panics
/// If the file cannot be opened, or the system has no such locks.
#[track_caller]
pub fn try_lock(path: &Path) -> Option<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    fcntl_lock(&file, libc::F_WRLCK as libc::c_short).then_some(file)
}

/// Waits for the lock of a file, see [`try_lock`].
///
/// # Panics
/// If it is not free soon, and as [`try_lock`].
#[track_caller]
pub fn lock(path: &Path) -> File {
    crate::wait_for("a lock", crate::SOON, || try_lock(path))
}

/// Takes what a program that can only read a file can hold on it: a flock, and an `fcntl` lock for reading. `None`: the
/// lock is taken.
///
/// # Panics
/// As [`try_lock`].
#[track_caller]
pub fn lock_as_reader(path: &Path) -> Option<File> {
    let file = File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    file.try_lock().ok()?;
    fcntl_lock(&file, libc::F_RDLCK as libc::c_short).then_some(file)
}

/// Returns whether the file has that lock now, all of it.
fn fcntl_lock(file: &File, kind: libc::c_short) -> bool {
    // SAFETY: `flock` is plain data, for which zeroes are valid.
    #[expect(unsafe_code, reason = "a C struct")]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the pointer is to a live `flock`.
    #[expect(unsafe_code, reason = "nix knows these locks on Linux alone")]
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    let error = std::io::Error::last_os_error();
    assert!(
        result == 0 || matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)),
        "lock: {error}"
    );
    result == 0
}

/// Puts a shell script there, in place of what there is.
pub fn write_script(path: &Path, text: &str) -> PathBuf {
    write_program(path, format!("#!/bin/sh\n{text}\n"))
}

/// Puts a copy of a program there, in place of what there is.
///
/// # Panics
/// If the program cannot be read.
pub fn copy_program(program: &Path, path: &Path) -> PathBuf {
    write_program(path, fs::read(program).expect("read the program"))
}

/// Puts a program there, in place of what there is. Another process writes it: a child that some other test forks while
/// we have it open for writing would keep it from being executed.
///
/// # Panics
/// If that fails.
pub fn write_program(path: &Path, bytes: impl AsRef<[u8]>) -> PathBuf {
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    let script = "PATH=/usr/bin:/bin; cat > \"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\"";
    Cmd::new("/bin/sh").args(["-c", script]).arg(path).stdin(bytes.as_ref()).run().ok();
    path.to_owned()
}
