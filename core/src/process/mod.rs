//! Processes: this one, whether another runs, and which hold a lock. What differs between Linux and macOS is in
//! `linux.rs` and `macos.rs`, behind the same few functions. What a system does not tell is `None`, which callers take
//! as "in use". Only reads.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod macos;
#[cfg(any(test, not(target_os = "linux")))]
mod procargs;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use macos as system;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Gid, Pid, Uid, User, setgid, setuid};
use serde::{Deserialize, Serialize};

use crate::env::{self, names};
use crate::files::record_lock::{self, Kind};
use crate::files::{self, Owner};

/// A process, which cannot be confused with a later one of the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessId {
    /// The boot that it runs in: 32 hexadecimal characters.
    pub boot: String,
    /// Its pid namespace (0 where there are none).
    pub pid_namespace: u64,
    /// Its pid there.
    pub pid: u32,
    /// Its start: clock ticks since boot on Linux, microseconds of the epoch on macOS.
    pub start_ticks: u64,
}

/// Whether a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs.
    Alive,
    /// It is gone, or a zombie.
    Dead,
    /// It belongs to another pid namespace of this boot, which cannot be seen from here.
    Unknown,
}

impl ProcessId {
    /// Returns this process.
    ///
    /// # Errors
    /// The system does not tell (there is no `/proc`).
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

    /// Returns whether it runs, as seen from `me`.
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

/// Makes this process, which is root's, one of another user for good, with the user's group alone.
///
/// # Errors
/// The system does not permit it. The process must end then.
pub fn become_user(owner: Owner) -> std::io::Result<()> {
    let gid =
        User::from_uid(Uid::from_raw(owner.uid)).ok().flatten().map_or(owner.gid, |user| user.gid.as_raw());
    // SAFETY: the list has as many groups as is said.
    #[expect(unsafe_code, reason = "nix has no setgroups for macOS")]
    let result = unsafe { libc::setgroups(1, &raw const gid) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    setgid(Gid::from_raw(gid))?;
    setuid(Uid::from_raw(owner.uid))?;
    // It must not be able to go back.
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(std::io::Error::other("root's rights could not be given up"));
    }
    Ok(())
}

/// Returns the boot that this process runs in, see [`ProcessId::boot`].
///
/// # Errors
/// The system does not tell.
pub fn boot_id() -> std::io::Result<String> {
    system::boot_id()
}

/// An entry of the process table.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// The pid of its parent.
    pub parent: u32,
    /// Its start, as in [`ProcessId::start_ticks`].
    pub start_ticks: u64,
    /// Whether it is a zombie.
    pub ended: bool,
}

/// Returns the entry of a process. `None`: there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    system::stat(pid)
}

/// Returns whether a process is there and can still do something. One that is about to end has no memory any more, and
/// nothing can be read of it.
pub(crate) fn can_act(pid: u32) -> bool {
    system::stat(pid).is_some_and(|stat| !stat.ended) && system::has_memory(pid)
}

/// Returns the start of a process, Unix seconds. `None`: it has ended, or the system does not tell.
pub fn started_at(pid: u32) -> Option<i64> {
    system::started_at(pid)
}

/// Returns the time by the clock of [`ProcessId::start_ticks`]. `None`: the system does not tell.
pub fn ticks_now() -> Option<u64> {
    system::ticks_now()
}

/// Returns the entries (`NAME=value`) of the environment that a process was started with. `None`: they may not be read.
pub fn environ(pid: u32) -> Option<Vec<OsString>> {
    system::environ(pid)
}

/// What a process passes on to its children, beside the environment. What is unknown is `None` or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// The current folder
    pub folder: Option<PathBuf>,
    /// The file mode mask
    pub umask: Option<u32>,
    /// The limits by their names in `/proc/<pid>/limits`: soft and hard, `None` for "unlimited"
    pub limits: Vec<(String, Option<u64>, Option<u64>)>,
}

/// Returns what a process passes on to its children.
pub fn inherited(pid: u32) -> Inherited {
    system::inherited(pid)
}

/// Returns the arguments of a process, the program's name first.
pub fn arguments(pid: u32) -> Option<Vec<OsString>> {
    system::arguments(pid)
}

/// Returns whether another process belongs to the same user and the same control group as this one.
pub fn is_kin(pid: u32) -> bool {
    system::user(pid).is_none_or(|user| user == nix::unistd::getuid().as_raw())
        && system::control_group(pid) == system::control_group(std::process::id())
}

/// Returns the processes of a launch that have one of these words among their arguments. The list is empty, too, if the
/// system does not tell.
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

/// Returns whether there is a process of this pid, of any user.
fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    // Without a signal, only the permission to send one is checked.
    matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM))
}

/// Returns the files that a process has open. `None`: they cannot be seen.
pub fn open_files(pid: u32) -> Option<Vec<PathBuf>> {
    system::open_files(pid)
}

/// Returns those of the files that a process may write to, of those that are `wanted`. `None`: they cannot be seen.
pub fn written_files(pid: u32, wanted: impl Fn(&Path) -> bool) -> Option<Vec<PathBuf>> {
    system::written_files(pid, wanted)
}

/// Returns our own processes, or as root all users', that have one of these files open. Files are known by their path
/// without links.
pub fn with_open_file(files: &[PathBuf]) -> Openers {
    let files: Vec<PathBuf> = files.iter().filter_map(|file| std::fs::canonicalize(file).ok()).collect();
    if files.is_empty() {
        return Openers::Known(Vec::new());
    }
    let Some(mut pids) = system::pids() else { return Openers::Unknown };
    pids.retain(|pid| system::open_files(*pid).is_some_and(|open| open.iter().any(|f| files.contains(f))));
    pids.retain(|pid| counts(*pid));
    Openers::Known(pids)
}

/// The processes that have a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Openers {
    /// These.
    Known(Vec<u32>),
    /// The system does not tell.
    Unknown,
}

/// Returns all processes that can be seen. `None`: the system does not tell.
pub fn all() -> Option<Vec<u32>> {
    system::pids()
}

/// Returns the name of the program that a process runs, for messages.
pub fn program_name(pid: u32) -> Option<String> {
    system::program_name(pid)
}

/// Returns the terminal of a process (`pts/3`), for messages.
pub fn terminal(pid: u32) -> Option<String> {
    system::terminal(pid)
}

/// The processes that hold a lock on a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockHolders {
    /// Those that are known.
    pub pids: Vec<u32>,
    /// Whether there are, or may be, others.
    pub others: bool,
    /// Whether other users than ours and root hold one, too. They are not among the holders.
    pub strangers: bool,
}

/// Returns the processes that hold SQLite's shared lock (byte 128) on this `-shm` file.
pub fn sqlite_users(shm: &Path) -> LockHolders {
    system::sqlite_users(shm)
}

/// Returns the processes that hold a flock on any of these files.
pub fn flock_holders(paths: &[PathBuf]) -> LockHolders {
    system::flock_holders(paths)
}

/// Returns whether a process holds a flock on any file of this folder. `None`: unknown.
pub fn holds_flock_in(pid: u32, dir: &Path) -> Option<bool> {
    system::holds_flock_in(pid, dir)
}

/// Returns the file that a process executes. `None`: unknown.
pub fn program(pid: u32) -> Option<PathBuf> {
    system::program(pid)
}

/// Returns the path by which that file can be read, even if another one has taken its place.
pub fn program_file(pid: u32) -> PathBuf {
    system::program_file(pid)
}

/// Returns a process and its ancestors, the nearest first, without init.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    let above = |pid: &u32| stat(*pid).map(|stat| stat.parent).filter(|parent| *parent > 1);
    // The table may change meanwhile; the bound keeps that from going on for ever.
    std::iter::successors(Some(pid), above).take(64)
}

/// Returns the processes that hold the write lock of a file of ours, such as the pool's.
pub fn write_lock_holders(path: &Path) -> LockHolders {
    let unknown = LockHolders { others: true, ..LockHolders::default() };
    let file = match files::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return LockHolders::default(),
        Err(_) => return unknown,
    };
    let Ok(found) = record_lock::in_the_way(&file, Kind::Read) else { return unknown };
    let Some(found) = found else { return LockHolders::default() };
    let signed = || record_lock::holder(&file).ok().flatten();
    let pids = found.pid().or_else(signed).map_or_else(|| system::ofd_lock_holders(&file), |pid| vec![pid]);
    LockHolders { others: pids.is_empty(), pids, strangers: false }
}

/// Returns whether the locks and the open files of this process count: of the user's own processes and root's. Other
/// users can lock what they can read, which means nothing.
pub fn counts(pid: u32) -> bool {
    !system::user(pid).is_some_and(files::is_another_user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_its_id_survives_text() {
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
    fn a_child_descends_from_this_process_and_its_environment_can_be_read() {
        let mut child = std::process::Command::new("sleep").arg("60").env("PROBE", "yes").spawn().unwrap();
        assert!(ancestors(child.id()).any(|pid| pid == std::process::id()));
        assert!(ancestors(std::process::id()).all(|pid| pid != child.id()));
        #[cfg(target_os = "linux")]
        {
            // Before exec, the environment is still that of this process.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !environ(child.id()).is_some_and(|vars| vars.iter().any(|v| v == "PROBE=yes")) {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn process_that_ends_cannot_act_before_it_is_gone() {
        assert!(can_act(std::process::id()));
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert!(can_act(child.id()));
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while system::has_memory(child.id()) && !stat(child.id()).is_some_and(|stat| stat.ended) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(!can_act(child.id()));
        let me = ProcessId::of_self().unwrap();
        let start_ticks = stat(child.id()).expect("it is not waited for yet").start_ticks;
        let process = ProcessId { pid: child.id(), start_ticks, ..me.clone() };
        assert_eq!(process.liveness(&me), Liveness::Dead);
        child.wait().unwrap();
        assert!(!can_act(child.id()));
    }

    #[test]
    fn files_that_are_only_read_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let [read, appended, other] = ["read", "appended", "other"].map(|name| dir.join(name));
        std::fs::write(&read, "").unwrap();
        let _read = std::fs::File::open(&read).unwrap();
        let append = |path| std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        let _written = [append(&appended), append(&other)];
        let found = written_files(std::process::id(), |path| path.starts_with(&dir) && path != other);
        assert_eq!(found, Some(vec![appended]));
        assert!(open_files(std::process::id()).unwrap().contains(&read));
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
        assert_eq!(flock_holders(&[dir.path().join("x.lock")]).pids, vec![std::process::id()]);
    }
}
