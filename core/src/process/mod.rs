//! Processes: who we are, who still lives, who holds a lock. What differs between Linux and macOS is
//! in `linux.rs` and `macos.rs`, behind the same few functions; what a system cannot tell is `None`,
//! and callers take that as "in use".

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use macos as system;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::env::{self, names};

/// A process that cannot be confused with a later one of the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessId {
    /// The boot it runs in: 32 hexadecimal characters, or the boot time.
    pub boot: String,
    /// Its pid namespace (0 where there are none).
    pub pid_namespace: u64,
    /// Its pid there.
    pub pid: u32,
    /// Its start: clock ticks since boot (Linux), or microseconds of the epoch (macOS).
    pub start_ticks: u64,
}

/// Whether a process is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs.
    Alive,
    /// It is gone, or a zombie.
    Dead,
    /// It belongs to another pid namespace of this boot, where we cannot look.
    Unknown,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// Where the system does not tell (no `/proc`).
    pub fn of_self() -> std::io::Result<ProcessId> {
        let unknown = || std::io::Error::other("the system does not tell when this process started");
        Ok(ProcessId {
            boot: system::boot_id()?,
            pid_namespace: system::pid_namespace()?,
            pid: std::process::id(),
            start_ticks: system::start_of_self().ok_or_else(unknown)?,
        })
    }

    /// Reads the form that `Display` writes.
    pub fn parse(text: &str) -> Option<ProcessId> {
        let mut parts = text.split('-');
        let id = ProcessId {
            boot: parts.next()?.to_owned(),
            pid_namespace: parts.next()?.parse().ok()?,
            pid: parts.next()?.parse().ok()?,
            start_ticks: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(id)
    }

    /// Whether it still lives, as seen from `me`.
    pub fn liveness(&self, me: &ProcessId) -> Liveness {
        if self.boot != me.boot {
            return Liveness::Dead;
        }
        if self.pid_namespace != me.pid_namespace {
            return Liveness::Unknown;
        }
        match system::stat(self.pid) {
            Some(stat) if stat.start_ticks == self.start_ticks && !stat.ended => Liveness::Alive,
            Some(_) => Liveness::Dead,
            // `/proc` can be told to hide other users' processes (hidepid).
            None if exists(self.pid) => Liveness::Unknown,
            None => Liveness::Dead,
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.boot, self.pid_namespace, self.pid, self.start_ticks)
    }
}

/// The boot that we run in: see [`ProcessId::boot`].
///
/// # Errors
/// Where the system does not tell.
pub fn boot_id() -> std::io::Result<String> {
    system::boot_id()
}

/// What the process table says of a process.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Its parent.
    pub parent: u32,
    /// Its start, as in [`ProcessId::start_ticks`].
    pub start_ticks: u64,
    /// A zombie, or about to vanish.
    pub ended: bool,
}

/// The process table's entry; `None` if there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    system::stat(pid)
}

/// A process's start in Unix seconds; `None` if it is gone or the system does not tell.
pub fn started_at(pid: u32) -> Option<i64> {
    system::started_at(pid)
}

/// The clock that [`ProcessId::start_ticks`] is read from; `None` if the system does not tell.
pub fn ticks_now() -> Option<u64> {
    system::ticks_now()
}

/// The environment that a process was started with, entry by entry (`NAME=value`); `None` if we may not look.
pub fn environ(pid: u32) -> Option<Vec<OsString>> {
    system::environ(pid)
}

/// Processes of this launch whose arguments have one of these words. It is empty, too, where the system
/// does not tell.
pub fn of_launch(launch: &ProcessId, words: &[&str]) -> Vec<u32> {
    let name = launch.to_string();
    let ours = |pid: u32| {
        let environ = system::environ(pid)?;
        environ
            .iter()
            .find(|entry| env::value_of(entry, names::CODEX_POOL_LAUNCH).is_some_and(|v| *v == *name))?;
        system::arguments(pid)?.iter().any(|arg| words.iter().any(|word| arg == word)).then_some(pid)
    };
    system::pids().into_iter().flatten().filter_map(ours).collect()
}

/// Whether there is a process of this pid, ours or not.
fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    // SAFETY: signal 0 is never sent.
    #[expect(unsafe_code, reason = "kill")]
    let result = unsafe { libc::kill(pid, 0) };
    result == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// The name of the program that a process runs, for messages.
pub fn program_name(pid: u32) -> Option<String> {
    system::program_name(pid)
}

/// The terminal of a process (`pts/3`), for messages.
pub fn terminal(pid: u32) -> Option<String> {
    system::terminal(pid)
}

/// Who holds locks on files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockHolders {
    /// The processes that are known to.
    pub pids: Vec<u32>,
    /// Somebody holds one, and we cannot tell who or whether that is all.
    pub others: bool,
}

/// Who holds SQLite's shared lock (byte 128) on this `-shm` file.
pub fn sqlite_users(shm: &Path) -> LockHolders {
    system::sqlite_users(shm)
}

/// Who holds a flock on this file.
pub fn flock_holders(path: &Path) -> LockHolders {
    system::flock_holders(path)
}

/// Whether a process holds a flock on any file of this folder; `None` if that cannot be told.
pub fn holds_flock_in(pid: u32, dir: &Path) -> Option<bool> {
    system::holds_flock_in(pid, dir)
}

/// A process and those that it descends from, the nearest first, without the first of all.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    let above = |pid: &u32| stat(*pid).map(|stat| stat.parent).filter(|parent| *parent > 1);
    // The table can change while we climb; the bound keeps that harmless.
    std::iter::successors(Some(pid), above).take(64)
}

/// Asks with `F_GETLK` whether somebody else holds a record lock on the byte range: the pid of one
/// (0: of another pid namespace), `Ok(None)` if nobody does.
fn record_lock_holder(file: &std::fs::File, start: i64, len: i64) -> std::io::Result<Option<i32>> {
    use std::os::fd::AsRawFd;
    // SAFETY: `flock` is plain data, for which zeroes are valid.
    #[expect(unsafe_code, reason = "a C struct")]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = start;
    lock.l_len = len;
    // SAFETY: the descriptor is open and the pointer is to a live `flock`.
    #[expect(unsafe_code, reason = "fcntl")]
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) };
    match result {
        -1 => Err(std::io::Error::last_os_error()),
        _ if lock.l_type == libc::F_UNLCK as libc::c_short => Ok(None),
        _ => Ok(Some(lock.l_pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_live_and_our_id_survives_text() {
        let me = ProcessId::of_self().unwrap();
        assert_eq!(me.liveness(&me), Liveness::Alive);
        assert_eq!(ProcessId::parse(&me.to_string()), Some(me.clone()));
        let earlier = ProcessId { start_ticks: me.start_ticks.wrapping_sub(1), ..me.clone() };
        assert_eq!(earlier.liveness(&me), Liveness::Dead, "the same pid, another process");
        let other_boot = ProcessId { boot: "0".into(), ..me.clone() };
        assert_eq!(other_boot.liveness(&me), Liveness::Dead);
        let elsewhere = ProcessId { pid_namespace: me.pid_namespace + 1, ..me.clone() };
        assert_eq!(elsewhere.liveness(&me), Liveness::Unknown);
    }

    #[test]
    fn a_child_descends_from_us_and_its_environment_can_be_read() {
        let mut child = std::process::Command::new("sleep").arg("60").env("PROBE", "yes").spawn().unwrap();
        assert!(ancestors(child.id()).any(|pid| pid == std::process::id()));
        assert!(ancestors(std::process::id()).all(|pid| pid != child.id()));
        #[cfg(target_os = "linux")]
        {
            // exec may not have happened yet; the environment is then still ours.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !environ(child.id()).is_some_and(|vars| vars.iter().any(|v| v == "PROBE=yes")) {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_flock_names_its_holder() {
        use fs2::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("x.lock")).unwrap();
        assert_eq!(holds_flock_in(std::process::id(), dir.path()), Some(false));
        FileExt::lock_exclusive(&file).unwrap();
        assert_eq!(holds_flock_in(std::process::id(), dir.path()), Some(true));
        assert_eq!(flock_holders(&dir.path().join("x.lock")).pids, vec![std::process::id()]);
    }
}
