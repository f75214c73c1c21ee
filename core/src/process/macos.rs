//! macOS, and in part other Unix: libproc and sysctl. The holders of a lock cannot be listed here. Those of our processes
//! that have the locked file open are taken for them; if there is none, the holders are unknown.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::procargs::{self, ProcArgs};
use super::{Inherited, LockHolders, Openers, Stat};
use crate::files;
use crate::files::record_lock;

pub(super) fn boot_id() -> io::Result<String> {
    // Unlike the time of the boot, it does not change when the clock is set.
    let mut uuid = [0u8; 64];
    let mut size = uuid.len();
    // SAFETY: the name is a C string, and `uuid` is as large as `size` says.
    #[expect(unsafe_code, reason = "sysctlbyname")]
    let result = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            uuid.as_mut_ptr().cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let hex = uuid.iter().take_while(|byte| **byte != 0).filter(|byte| byte.is_ascii_hexdigit());
    Ok(hex.map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

pub(super) fn pid_namespace() -> io::Result<u64> {
    Ok(0)
}

fn bsd_info(pid: u32) -> Option<libc::proc_bsdinfo> {
    // SAFETY: `proc_bsdinfo` is plain data, for which zeroes are valid.
    #[expect(unsafe_code, reason = "a C struct")]
    let mut info: libc::proc_bsdinfo = unsafe { std::mem::zeroed() };
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // SAFETY: the buffer is as large as `size` says.
    #[expect(unsafe_code, reason = "proc_pidinfo")]
    let filled = unsafe {
        // Zombies are looked for only if this is not 0.
        let zombies = 1;
        let buffer = (&raw mut info).cast();
        libc::proc_pidinfo(i32::try_from(pid).ok()?, libc::PROC_PIDTBSDINFO, zombies, buffer, size)
    };
    (filled == size).then_some(info)
}

pub(super) fn inherited(_pid: u32) -> Inherited {
    Inherited::default()
}

pub(super) fn control_group(_pid: u32) -> Option<Vec<u8>> {
    None
}

pub(super) fn stat(pid: u32) -> Option<Stat> {
    let info = bsd_info(pid)?;
    Some(Stat {
        parent: info.pbi_ppid,
        start_ticks: info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec,
        ended: info.pbi_status == libc::SZOMB,
    })
}

/// What the system does not tell counts as running.
pub(super) fn has_memory(_pid: u32) -> bool {
    true
}

pub(super) fn started_at(pid: u32) -> Option<i64> {
    i64::try_from(bsd_info(pid)?.pbi_start_tvsec).ok()
}

pub(super) fn start_of_self() -> Option<u64> {
    Some(stat(std::process::id())?.start_ticks)
}

pub(super) fn ticks_now() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

/// Returns how a process was started. The system tells it of our own processes only.
fn started_with(pid: u32) -> Option<ProcArgs> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, libc::c_int::try_from(pid).ok()?];
    let mut bytes = vec![0u8; 1 << 20];
    let mut size = bytes.len();
    // SAFETY: the name has as many numbers as is said, and `bytes` is as large as `size` says.
    #[expect(unsafe_code, reason = "sysctl")]
    let result = unsafe {
        libc::sysctl(
            name.as_mut_ptr(),
            name.len() as libc::c_uint,
            bytes.as_mut_ptr().cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    procargs::parse(bytes.get(..size).filter(|_| result == 0)?)
}

pub(super) fn environ(pid: u32) -> Option<Vec<OsString>> {
    started_with(pid)?.environ
}

pub(super) fn arguments(pid: u32) -> Option<Vec<OsString>> {
    Some(started_with(pid)?.arguments)
}

/// Calls a function of libproc that fills a buffer and returns how many bytes it wrote, with more and more room until
/// some is left over.
fn filled<T: Copy>(empty: T, fill: impl Fn(*mut libc::c_void, libc::c_int) -> libc::c_int) -> Option<Vec<T>> {
    let mut room = 1024;
    loop {
        let mut items = vec![empty; room];
        let bytes = libc::c_int::try_from(room.checked_mul(size_of::<T>())?).ok()?;
        let wrote = fill(items.as_mut_ptr().cast(), bytes);
        if wrote <= 0 {
            return None;
        }
        if wrote < bytes {
            items.truncate(usize::try_from(wrote).ok()? / size_of::<T>());
            return Some(items);
        }
        room *= 2;
    }
}

pub(super) fn pids() -> Option<Vec<u32>> {
    const ALL: u32 = 1;
    let list = |buffer: *mut libc::c_void, size| {
        // SAFETY: the buffer is as large as `size` says.
        #[expect(unsafe_code, reason = "proc_listpids")]
        unsafe {
            libc::proc_listpids(ALL, 0, buffer, size)
        }
    };
    let pids: Vec<libc::pid_t> = filled(0, list)?;
    Some(pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0).collect())
}

pub(super) fn program_name(pid: u32) -> Option<String> {
    let info = bsd_info(pid)?;
    let bytes: Vec<u8> = info.pbi_comm.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    let name: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

pub(super) fn program(pid: u32) -> Option<PathBuf> {
    let mut path = vec![0u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    let (pid, room) = (i32::try_from(pid).ok()?, u32::try_from(path.len()).ok()?);
    // SAFETY: the buffer has `room` bytes, and the call writes no more than that.
    #[expect(unsafe_code, reason = "proc_pidpath")]
    let filled = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), room) };
    path.truncate(usize::try_from(filled).ok().filter(|filled| *filled > 0)?);
    Some(PathBuf::from(OsStr::from_bytes(&path)))
}

/// Returns the path of the program, which on this system is also how it can be read.
pub(super) fn program_file(pid: u32) -> PathBuf {
    program(pid).unwrap_or_default()
}

pub(super) fn open_files(pid: u32) -> Option<Vec<PathBuf>> {
    files_opened(pid, |_| true)
}

pub(super) fn written_files(pid: u32, wanted: impl Fn(&Path) -> bool) -> Option<Vec<PathBuf>> {
    /// The kernel's `FWRITE`.
    const FOR_WRITING: u32 = 2;
    let mut files = files_opened(pid, |flags| flags & FOR_WRITING != 0)?;
    files.retain(|file| wanted(file));
    Some(files)
}

/// Returns the files that a process has opened with such flags, which are the kernel's.
fn files_opened(pid: u32, such: impl Fn(u32) -> bool) -> Option<Vec<PathBuf>> {
    const WITH_PATH: libc::c_int = 2;
    /// `struct vnode_fdinfowithpath`, which begins with the flags and ends with the path.
    const INFO: usize = 1200;
    const PATH: usize = 1024;
    let pid = libc::c_int::try_from(pid).ok()?;
    let list = |buffer: *mut libc::c_void, size| {
        // SAFETY: the buffer is as large as `size` says.
        #[expect(unsafe_code, reason = "proc_pidinfo")]
        unsafe {
            libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, buffer, size)
        }
    };
    let open = filled(libc::proc_fdinfo { proc_fd: 0, proc_fdtype: 0 }, list)?;
    let path_of = |fd: &libc::proc_fdinfo| {
        let mut info = [0u8; INFO];
        // SAFETY: `info` is as large as we say.
        #[expect(unsafe_code, reason = "proc_pidfdinfo")]
        let filled = unsafe {
            libc::proc_pidfdinfo(pid, fd.proc_fd, WITH_PATH, info.as_mut_ptr().cast(), INFO as libc::c_int)
        };
        let path = info[INFO - PATH..].split(|byte| *byte == 0).next()?;
        let flags = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        (filled == INFO as libc::c_int && !path.is_empty() && such(flags))
            .then(|| PathBuf::from(OsStr::from_bytes(path)))
    };
    let files = open.iter().filter(|fd| fd.proc_fdtype == libc::PROX_FDTYPE_VNODE as u32);
    Some(files.filter_map(path_of).collect())
}

pub(super) fn terminal(_pid: u32) -> Option<String> {
    None
}

pub(super) fn user(pid: u32) -> Option<u32> {
    Some(bsd_info(pid)?.pbi_ruid)
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
    match record_lock::on_byte(&file, 128) {
        Ok(None) => LockHolders::default(),
        Ok(Some(found)) if found.pid().is_some_and(|pid| !super::counts(pid)) => {
            LockHolders { strangers: true, ..LockHolders::default() }
        }
        Ok(Some(_)) => holders_among_openers(&[shm.to_owned()]),
        Err(_) => unknown,
    }
}

/// Returns who has one of these locked files open. Each of them may be a holder, so that each counts as one.
fn holders_among_openers(locked: &[PathBuf]) -> LockHolders {
    let me = std::process::id();
    let pids = match super::with_open_file(locked) {
        Openers::Known(pids) => pids.into_iter().filter(|pid| *pid != me).collect(),
        Openers::Unknown => Vec::new(),
    };
    LockHolders { others: pids.is_empty(), pids, strangers: false }
}

pub(super) fn ofd_lock_holders(_file: &std::fs::File) -> Vec<u32> {
    Vec::new()
}

pub(super) fn flock_holders(paths: &[PathBuf]) -> LockHolders {
    let locked: Vec<PathBuf> = paths.iter().filter(|path| is_flocked(path)).cloned().collect();
    if locked.is_empty() { LockHolders::default() } else { holders_among_openers(&locked) }
}

fn is_flocked(path: &Path) -> bool {
    use fs2::FileExt;
    files::open(path).is_ok_and(|file| FileExt::try_lock_shared(&file).is_err())
}

pub(super) fn holds_flock_in(pid: u32, dir: &Path) -> Option<bool> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Some(false) };
    let locked: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|path| is_flocked(path)).collect();
    if locked.is_empty() {
        return Some(false);
    }
    let locked: Vec<PathBuf> = locked.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    Some(open_files(pid)?.iter().any(|file| locked.contains(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_its_start_and_its_files_are_known() {
        let me = std::process::id();
        assert!(pids().unwrap().contains(&me));
        let arguments: Vec<OsString> = std::env::args_os().collect();
        assert_eq!(super::arguments(me).unwrap(), arguments);
        assert!(
            environ(me).is_none_or(|vars| vars.iter().any(|entry| entry.as_bytes().starts_with(b"PATH=")))
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("x.lock");
        let file = std::fs::File::create(&path).unwrap();
        assert!(open_files(me).unwrap().contains(&path));
        assert_eq!(holds_flock_in(me, dir.path()), Some(false));
        fs2::FileExt::lock_exclusive(&file).unwrap();
        assert_eq!(holds_flock_in(me, dir.path()), Some(true));
        // A lock of this process, which asks, has no other holder.
        assert_eq!(flock_holders(&[path]), LockHolders { others: true, ..LockHolders::default() });
    }
}
