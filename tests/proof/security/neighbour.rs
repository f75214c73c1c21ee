//! What a second user of the machine does to files that can be read.

use std::ffi::CString;
use std::os::fd::{IntoRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::{fs, io};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use testkit::{Cmd, Neighbour, Running, SOON, World, wait_until};

/// Starts a process of the neighbour's that holds a lock of this file for as long as it runs.
pub(super) fn neighbour_holds(neighbour: &Neighbour, world: &World, file: &Path, lock: Lock) -> Running {
    holds(neighbour.runs(world.cmd("sleep").arg("600")), file, lock)
}

/// Starts a program that holds a lock of this file for as long as it runs.
pub(super) fn holds(mut cmd: Cmd, file: &Path, lock: Lock) -> Running {
    let path = CString::new(file.as_os_str().as_bytes()).expect("a path");
    let hold = move || {
        // The file stays open, and with it the lock, in the program that is executed.
        let fd = open(path.as_c_str(), OFlag::O_RDONLY, Mode::empty())?.into_raw_fd();
        lock.take(fd)
    };
    // SAFETY: the closure makes system calls alone.
    #[expect(unsafe_code, reason = "between fork and exec")]
    unsafe {
        cmd.inner().pre_exec(hold)
    };
    let running = cmd.spawn();
    wait_until("the neighbour's program", SOON, || {
        fs::read(format!("/proc/{}/cmdline", running.pid())).is_ok_and(|line| line.starts_with(b"sleep"))
    });
    running
}

/// A lock that a process can hold which can only read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Only the open file.
    None,
    Flock,
    /// Of the process, for reading, as SQLite has it.
    OfProcess,
    /// Of the open file, for reading.
    OfFile,
}

impl Lock {
    fn take(self, fd: RawFd) -> io::Result<()> {
        // SAFETY: `flock` is plain data, for which zeroes are valid.
        #[expect(unsafe_code, reason = "a C struct")]
        let mut read: nix::libc::flock = unsafe { std::mem::zeroed() };
        read.l_type = nix::libc::F_RDLCK as nix::libc::c_short;
        // SAFETY: the descriptor is open, and the pointer is to a live `flock`.
        #[expect(unsafe_code, reason = "locks")]
        let result = unsafe {
            match self {
                Lock::None => 0,
                Lock::Flock => nix::libc::flock(fd, nix::libc::LOCK_EX | nix::libc::LOCK_NB),
                Lock::OfProcess => nix::libc::fcntl(fd, nix::libc::F_SETLK, &raw const read),
                Lock::OfFile => nix::libc::fcntl(fd, nix::libc::F_OFD_SETLK, &raw const read),
            }
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Writes a file, making its folders.
pub(super) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}
