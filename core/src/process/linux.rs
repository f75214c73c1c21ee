//! Linux: everything comes from `/proc`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::{Inherited, LockHolders, Stat};
use crate::files;
use crate::files::record_lock::{self, Owner};

/// The inode of the first pid namespace (`PROC_PID_INIT_INO`), from which all processes can be seen.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// How long it may take until a program that is being executed has its arguments and environment.
const EXECUTED_WITHIN: Duration = Duration::from_millis(300);

/// Reads a small file of `/proc`, whose size is not known beforehand, with one read if it fits.
fn read_proc(path: &str) -> io::Result<Vec<u8>> {
    let mut file = files::open_stream(Path::new(path))?;
    let mut bytes = vec![0; 1024];
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

pub(super) fn boot_id() -> io::Result<String> {
    let bytes = read_proc("/proc/sys/kernel/random/boot_id")?;
    Ok(bytes.iter().filter(|b| b.is_ascii_hexdigit()).map(|&b| char::from(b)).collect())
}

pub(super) fn pid_namespace() -> io::Result<u64> {
    // "pid:[4026531836]"
    let link = fs::read_link("/proc/self/ns/pid")?;
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| io::Error::other("/proc/self/ns/pid has no number"))
}

pub(super) fn start_of_self() -> Option<u64> {
    let bytes = read_proc("/proc/self/stat").ok()?;
    let pid = bytes.split(|&b| b == b' ').next()?;
    // In a `/proc` of another pid namespace (`unshare` without a new mount), our pid is another process.
    let ours = std::str::from_utf8(pid).ok()?.parse() == Ok(std::process::id());
    ours.then(|| parse_stat(&bytes)).flatten().map(|stat| stat.start_ticks)
}

pub(super) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&read_proc(&format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the fields of a `stat` from the third on.
fn fields(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    // The name of the program, in parentheses, may contain anything. The fields follow the last parenthesis.
    let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
    Some(std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace())
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let mut fields = fields(bytes)?;
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let threads: u32 = fields.nth(15)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    // The first thread can be a zombie while others still run, and hold files and locks.
    let ended = matches!(state, "Z" | "X" | "x") && threads <= 1;
    Some(Stat { parent, start_ticks, ended })
}

/// Returns whether a thread of a process still has memory. Once none has, the process can do nothing any more. Its first
/// thread can be without while others run.
pub(super) fn has_memory(pid: u32) -> bool {
    let gone = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH));
    match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(threads) => threads
            .flatten()
            .any(|thread| fs::read_link(thread.path().join("exe")).map_or_else(|e| !gone(&e), |_| true)),
        Err(e) => !gone(&e),
    }
}

pub(super) fn started_at(pid: u32) -> Option<i64> {
    let ticks = stat(pid)?.start_ticks;
    let text = String::from_utf8(read_proc("/proc/stat").ok()?).ok()?;
    let boot: i64 = text.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + (ticks / ticks_per_second()?) as i64)
}

fn ticks_per_second() -> Option<u64> {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    u64::try_from(per_second).ok().filter(|n| *n > 0)
}

pub(super) fn ticks_now() -> Option<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let (secs, nanos) = (u64::try_from(time.tv_sec()).ok()?, u64::try_from(time.tv_nsec()).ok()?);
    let per_second = ticks_per_second()?;
    Some(secs * per_second + nanos * per_second / 1_000_000_000)
}

pub(super) fn environ(pid: u32) -> Option<Vec<OsString>> {
    strings(pid, "environ", || is_executed(pid))
}

pub(super) fn arguments(pid: u32) -> Option<Vec<OsString>> {
    // A program without arguments has a name. A process can have erased both.
    strings(pid, "cmdline", || false)
}

/// Reads the strings that a process was started with. There are none for a moment while a program is being executed, and
/// while a process ends; either is waited for. `may_be_none`: whether there can be none at other times, and this is one.
fn strings(pid: u32, name: &str, may_be_none: impl Fn() -> bool) -> Option<Vec<OsString>> {
    let path = format!("/proc/{pid}/{name}");
    let until = Instant::now() + EXECUTED_WITHIN;
    let bytes = loop {
        match read_proc(&path) {
            Ok(bytes) if !bytes.is_empty() => break bytes,
            // They may have come since they were read, and the program may have begun.
            Ok(_) if may_be_none() && read_proc(&path).is_ok_and(|bytes| bytes.is_empty()) => {
                return Some(Vec::new());
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return None,
            _ if Instant::now() > until || !super::can_act(pid) => return None,
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    };
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    Some(bytes.split(|&b| b == 0).map(|s| OsString::from_vec(s.to_vec())).collect())
}

/// Returns whether a process has executed its program, and not ended. The kernel sets the end of its code (the 27th
/// field) after its arguments and its environment; what may not be seen is 1.
fn is_executed(pid: u32) -> bool {
    let end_of_code = |bytes: Vec<u8>| fields(&bytes)?.nth(24)?.parse::<u64>().ok();
    read_proc(&format!("/proc/{pid}/stat")).ok().and_then(end_of_code).is_some_and(|end| end > 1)
}

pub(super) fn pids() -> Option<Vec<u32>> {
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    Some(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

pub(super) fn program_name(pid: u32) -> Option<String> {
    let bytes = read_proc(&format!("/proc/{pid}/comm")).ok()?;
    let name: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

pub(super) fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Returns the path by which the program of a process can be read, even if the file is no longer where it was.
pub(super) fn program_file(pid: u32) -> PathBuf {
    format!("/proc/{pid}/exe").into()
}

pub(super) fn open_files(pid: u32) -> Option<Vec<PathBuf>> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    Some(open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect())
}

pub(super) fn written_files(pid: u32, wanted: impl Fn(&Path) -> bool) -> Option<Vec<PathBuf>> {
    let is_written = |number: &OsStr| -> Option<bool> {
        let info = read_proc(&format!("/proc/{pid}/fdinfo/{}", number.to_str()?)).ok()?;
        // "flags:\t0102001", octal
        let flags = std::str::from_utf8(&info).ok()?.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(i32::from_str_radix(flags.trim(), 8).ok()? & libc::O_ACCMODE != libc::O_RDONLY)
    };
    let written = |entry: fs::DirEntry| {
        let path = fs::read_link(entry.path()).ok().filter(|path| wanted(path))?;
        is_written(&entry.file_name()).unwrap_or(false).then_some(path)
    };
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().filter_map(written).collect())
}

pub(super) fn inherited(pid: u32) -> Inherited {
    let text =
        |name: &str| read_proc(&format!("/proc/{pid}/{name}")).ok().and_then(|b| String::from_utf8(b).ok());
    let umask = text("status").and_then(|text| {
        u32::from_str_radix(text.lines().find_map(|l| l.strip_prefix("Umask:"))?.trim(), 8).ok()
    });
    let value = |word: &str| (word != "unlimited").then(|| word.parse().ok()).flatten();
    // "Max open files            1024                 524288               files"
    let limits = text("limits")
        .unwrap_or_default()
        .lines()
        .skip(1)
        .filter_map(|line| {
            let name = line.get(..25)?.trim().to_owned();
            let mut words = line.get(25..)?.split_ascii_whitespace();
            Some((name, value(words.next()?), value(words.next()?)))
        })
        .collect();
    Inherited { folder: fs::read_link(format!("/proc/{pid}/cwd")).ok(), umask, limits }
}

pub(super) fn control_group(pid: u32) -> Option<Vec<u8>> {
    read_proc(&format!("/proc/{pid}/cgroup")).ok()
}

pub(super) fn terminal(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/0")).ok()?;
    Some(
        link.strip_prefix("/dev")
            .ok()?
            .to_str()
            .filter(|t| t.starts_with("pts/") || t.starts_with("tty"))?
            .to_owned(),
    )
}

/// Returns the user of a process. It is the real one, which a program with another user's rights keeps, and which the
/// process cannot hide, unlike the owner of its folder in `/proc`.
pub(super) fn user(pid: u32) -> Option<u32> {
    let text = String::from_utf8(read_proc(&format!("/proc/{pid}/status")).ok()?).ok()?;
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_ascii_whitespace().next()?.parse().ok()
}

pub(super) fn sqlite_users(shm: &Path) -> LockHolders {
    let unknown = LockHolders { others: true, ..LockHolders::default() };
    let file = match files::open(shm) {
        Ok(file) => file,
        // What is no regular file is no database.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            return LockHolders::default();
        }
        Err(_) => return unknown,
    };
    let found = match record_lock::on_byte(&file, 128) {
        Ok(None) => return LockHolders::default(),
        Ok(Some(found)) => found,
        Err(_) => return unknown,
    };
    let Ok(meta) = file.metadata() else { return unknown };
    let mut holders = holders_of(&[meta], "POSIX");
    // SQLite takes locks of its process, which have a pid unless they are of a pid namespace that cannot be seen.
    let strangers = found.owner == Owner::OpenFile || found.pid().is_some_and(|pid| !super::counts(pid));
    // The table leaves out processes of pid namespaces that cannot be seen from here.
    holders.others |=
        !strangers && (holders.pids.is_empty() || pid_namespace().ok() != Some(FIRST_PID_NAMESPACE));
    holders.strangers |= strangers;
    holders
}

/// Returns the processes that have a locked open file description of a file, as far as they may be inspected.
pub(super) fn ofd_lock_holders(file: &File) -> Vec<u32> {
    let Ok(meta) = file.metadata() else { return Vec::new() };
    let inode = format!(":{} ", meta.ino());
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        descriptors.filter_map(|entry| read_proc(entry.path().to_str()?).ok()).any(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let locks = text.lines().filter(|line| line.starts_with("lock:") && line.contains("OFDLCK"));
            locks.into_iter().any(|line| line.contains(&inode))
        })
    };
    pids().into_iter().flatten().filter(holds).collect()
}

pub(super) fn flock_holders(paths: &[PathBuf]) -> LockHolders {
    // They stay open: the inode of a file that is removed meanwhile would go to another one, whose lock this is not.
    let open = |path: &PathBuf| files::open_with(File::options().read(true), libc::O_PATH, path).ok();
    let open: Vec<File> = paths.iter().filter_map(open).collect();
    let files: Vec<fs::Metadata> = open.iter().filter_map(|file| file.metadata().ok()).collect();
    if files.is_empty() { LockHolders::default() } else { holders_of(&files, "FLOCK") }
}

pub(super) fn holds_flock_in(pid: u32, dir: &Path) -> Option<bool> {
    let held: Vec<u64> =
        locks("FLOCK")?.into_iter().filter(|l| l.pid == Some(pid)).map(|l| l.inode).collect();
    if held.is_empty() {
        return Some(false);
    }
    let Ok(entries) = fs::read_dir(dir) else { return Some(false) };
    Some(entries.filter_map(Result::ok).any(|e| held.contains(&e.ino())))
}

/// One line of `/proc/locks`.
struct Lock {
    /// `None`: a process of another pid namespace.
    pid: Option<u32>,
    device: u64,
    inode: u64,
}

/// Returns the held locks of one kind. Lines are `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; those that wait
/// have `->` before the kind.
fn locks(kind: &str) -> Option<Vec<Lock>> {
    let bytes = read_proc("/proc/locks").ok()?;
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != kind {
            return None;
        }
        let pid = fields.nth(2)?.parse::<u32>().ok().filter(|pid| *pid > 0);
        let mut file = fields.next()?.split(':');
        let major = u32::from_str_radix(file.next()?, 16).ok()?;
        let minor = u32::from_str_radix(file.next()?, 16).ok()?;
        Some(Lock { pid, device: libc::makedev(major, minor), inode: file.next()?.parse().ok()? })
    };
    Some(String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect())
}

/// Returns the processes that hold a lock of this kind on any of these files.
fn holders_of(files: &[fs::Metadata], kind: &str) -> LockHolders {
    let mut holders = LockHolders::default();
    let Some(locks) = locks(kind) else { return LockHolders { others: true, ..holders } };
    // For file systems without a device of their own (major 0: btrfs, overlayfs), this is another device than that of
    // stat. There the inode decides.
    let is_of = |l: &Lock, meta: &fs::Metadata| {
        l.inode == meta.ino() && (l.device == meta.dev() || libc::major(meta.dev()) == 0)
    };
    let here = |l: &Lock| files.iter().any(|meta| is_of(l, meta));
    for lock in locks.into_iter().filter(here) {
        match lock.pid {
            // A flock stays with the children of a process that has ended. Codex leaves none.
            Some(pid) if !super::exists(pid) || !super::counts(pid) => holders.strangers = true,
            Some(pid) if holders.pids.contains(&pid) => {}
            Some(pid) => holders.pids.push(pid),
            None => holders.others = true,
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn lock_of_a_file_with_the_number_of_a_removed_one_is_not_taken_for_its() {
        let dir = tempfile::tempdir().unwrap();
        let (removed, locked) = (dir.path().join("removed"), dir.path().join("locked"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(File::create(&removed).unwrap());
                    fs::remove_file(&removed).unwrap();
                    // Many file systems give it the number that is free again.
                    let file = File::create(&locked).unwrap();
                    file.lock().unwrap();
                    std::thread::sleep(Duration::from_micros(200));
                    fs::remove_file(&locked).unwrap();
                }
            });
            let begin = Instant::now();
            let mut holders = LockHolders::default();
            while begin.elapsed() < Duration::from_secs(1) && holders.pids.is_empty() {
                holders = flock_holders(std::slice::from_ref(&removed));
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(holders.pids, Vec::<u32>::new(), "nobody has locked it");
        });
    }
}
