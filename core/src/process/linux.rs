//! Linux: everything from `/proc`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{LockHolders, Stat};

/// Reads a small file of `/proc`, whose size is not known beforehand, with one read where it fits.
fn read_proc(path: &str) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
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

pub(super) fn stat(pid: u32) -> Option<Stat> {
    let bytes = read_proc(&format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything; the fields follow the last one.
    let after_name = bytes.iter().rposition(|&b| b == b')')? + 1;
    let fields = std::str::from_utf8(&bytes[after_name..]).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, start_ticks, ended })
}

pub(super) fn started_at(pid: u32) -> Option<i64> {
    let ticks = stat(pid)?.start_ticks;
    let text = String::from_utf8(read_proc("/proc/stat").ok()?).ok()?;
    let boot: i64 = text.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    // SAFETY: sysconf has no preconditions.
    #[expect(unsafe_code, reason = "sysconf")]
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(boot + (ticks / u64::try_from(per_second).ok().filter(|n| *n > 0)?) as i64)
}

pub(super) fn environ_var(pid: u32, name: &str) -> Option<Option<OsString>> {
    let bytes = read_proc(&format!("/proc/{pid}/environ")).ok()?;
    let value = bytes.split(|&b| b == 0).find_map(|var| {
        let rest = var.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    Some(value.map(|v| OsString::from_vec(v.to_vec())))
}

pub(super) fn program_name(pid: u32) -> Option<String> {
    let bytes = read_proc(&format!("/proc/{pid}/comm")).ok()?;
    let name: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

pub(super) fn terminal(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/0")).ok()?;
    Some(link.strip_prefix("/dev").ok()?.to_str().filter(|t| t.starts_with("pts/") || t.starts_with("tty"))?.to_owned())
}

pub(super) fn sqlite_users(shm: &Path) -> LockHolders {
    let file = match File::open(shm) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return LockHolders::default(),
        Err(_) => return LockHolders { others: true, ..LockHolders::default() },
    };
    match super::record_lock_holder(&file, 128, 1) {
        Ok(None) => LockHolders::default(),
        Ok(Some(_)) => {
            let Ok(meta) = file.metadata() else { return LockHolders { others: true, ..LockHolders::default() } };
            let mut holders = holders_of(&[(meta.dev(), meta.ino())], "POSIX");
            // Somebody is there; if the table shows nobody, it is somebody of another namespace.
            holders.others |= holders.pids.is_empty();
            holders
        }
        Err(_) => LockHolders { others: true, ..LockHolders::default() },
    }
}

pub(super) fn flock_holders(path: &Path) -> LockHolders {
    match fs::metadata(path) {
        Ok(meta) => holders_of(&[(meta.dev(), meta.ino())], "FLOCK"),
        Err(_) => LockHolders::default(),
    }
}

pub(super) fn flock_holders_in(dir: &Path) -> LockHolders {
    let Ok(entries) = fs::read_dir(dir) else { return LockHolders::default() };
    let files: Vec<_> =
        entries.filter_map(|e| e.ok()?.metadata().ok()).map(|meta| (meta.dev(), meta.ino())).collect();
    if files.is_empty() { LockHolders::default() } else { holders_of(&files, "FLOCK") }
}

/// The holders of locks of one kind on these files (device, inode), from `/proc/locks`, whose lines
/// are `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
fn holders_of(files: &[(u64, u64)], kind: &str) -> LockHolders {
    let mut holders = LockHolders::default();
    let Ok(bytes) = read_proc("/proc/locks") else { return LockHolders { others: true, ..holders } };
    for line in String::from_utf8_lossy(&bytes).lines() {
        let mut fields = line.split_ascii_whitespace().skip(1);
        // "->" marks one that waits, not one that holds.
        if fields.next() != Some(kind) {
            continue;
        }
        let (Some(pid), Some(file)) = (fields.nth(2), fields.next()) else { continue };
        let mut parts = file.split(':');
        let (Some(major), Some(minor), Some(inode)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (Ok(major), Ok(minor), Ok(inode)) =
            (u32::from_str_radix(major, 16), u32::from_str_radix(minor, 16), inode.parse::<u64>())
        else {
            continue;
        };
        let device = libc::makedev(major, minor);
        // File systems such as btrfs and overlayfs show another device here than stat does: the inode decides.
        let known = files.iter().any(|&(dev, ino)| ino == inode && (dev == device || libc::major(dev) == 0));
        if !known {
            continue;
        }
        match pid.parse::<u32>() {
            Ok(pid) if pid > 0 => {
                if !holders.pids.contains(&pid) {
                    holders.pids.push(pid);
                }
            }
            _ => holders.others = true,
        }
    }
    holders
}
