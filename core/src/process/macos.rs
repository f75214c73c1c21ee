//! macOS, and in part other Unix: libproc and sysctl. The holders of a lock cannot be listed here, so that a held lock
//! means unknown holders.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Inherited, LockHolders, Stat};
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
        libc::proc_pidinfo(i32::try_from(pid).ok()?, libc::PROC_PIDTBSDINFO, 0, (&raw mut info).cast(), size)
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

pub(super) fn environ(_pid: u32) -> Option<Vec<OsString>> {
    None
}

pub(super) fn arguments(_pid: u32) -> Option<Vec<OsString>> {
    None
}

pub(super) fn pids() -> Option<Vec<u32>> {
    None
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

pub(super) fn open_files(pid: u32) -> Vec<PathBuf> {
    const FILE: u32 = 1;
    const WITH_PATH: libc::c_int = 2;
    /// `struct vnode_fdinfowithpath`, which ends with the path.
    const INFO: usize = 1200;
    const PATH: usize = 1024;
    let Ok(pid) = libc::c_int::try_from(pid) else { return Vec::new() };
    let mut open = vec![libc::proc_fdinfo { proc_fd: 0, proc_fdtype: 0 }; 1024];
    let size = size_of::<libc::proc_fdinfo>();
    let room = libc::c_int::try_from(open.len() * size).unwrap_or(0);
    // SAFETY: `open` is as large as `room` says.
    #[expect(unsafe_code, reason = "proc_pidinfo")]
    let filled = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, open.as_mut_ptr().cast(), room) };
    open.truncate(usize::try_from(filled).unwrap_or(0) / size);
    let path_of = |fd: &libc::proc_fdinfo| {
        let mut info = [0u8; INFO];
        // SAFETY: `info` is as large as we say.
        #[expect(unsafe_code, reason = "proc_pidfdinfo")]
        let filled = unsafe {
            libc::proc_pidfdinfo(pid, fd.proc_fd, WITH_PATH, info.as_mut_ptr().cast(), INFO as libc::c_int)
        };
        let path = info[INFO - PATH..].split(|byte| *byte == 0).next()?;
        (filled == INFO as libc::c_int && !path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
    };
    open.iter().filter(|fd| fd.proc_fdtype == FILE).filter_map(path_of).collect()
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
        // One pid is known, but not whether it is the only one.
        _ => unknown,
    }
}

pub(super) fn ofd_lock_holders(_file: &std::fs::File) -> Vec<u32> {
    Vec::new()
}

pub(super) fn flock_holders(path: &Path) -> LockHolders {
    use fs2::FileExt;
    let Ok(file) = files::open(path) else { return LockHolders::default() };
    let held = FileExt::try_lock_shared(&file).is_err();
    LockHolders { others: held, ..LockHolders::default() }
}

pub(super) fn holds_flock_in(_pid: u32, dir: &Path) -> Option<bool> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Some(false) };
    let held = entries.filter_map(Result::ok).any(|e| flock_holders(&e.path()).others);
    // The holder is unknown.
    if held { None } else { Some(false) }
}
