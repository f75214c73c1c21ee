//! Stands in Codex's place and records what it was started with, as JSON in the file that `PROBE_OUT` names
//! (`{pid}` in the name is replaced); see `testkit::probe::Record`. Before, it locks the file named by `PROBE_LOCK`.
//! Then it waits until the file named by `PROBE_HOLD` is there, and ends with the exit status `PROBE_EXIT` or by the
//! signal `PROBE_KILL`.
//!
//! It has a C `main`: Rust's own start-up would open closed standard descriptors and ignore SIGPIPE.

#![no_main]
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use testkit::probe::{Descriptor, Record, hex};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Called by the C runtime.
// SAFETY: this is the program's only `main`.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, argv: *const *const c_char) -> c_int {
    // First of all, before anything can open a descriptor.
    let descriptors = descriptors();
    // SAFETY: the runtime gives arrays of C strings that end with a null pointer.
    let (argv, env) = unsafe { (strings(argv), strings(environ)) };
    let var = |name: &str| {
        let entry = env.iter().find_map(|e| e.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(OsStr::from_bytes(entry).to_owned())
    };
    let number = |name: &str| var(name).and_then(|v| v.to_str()?.parse::<c_int>().ok());
    let record = Record {
        argv: argv.iter().map(|a| hex(a)).collect(),
        env: env.iter().map(|e| hex(e)).collect(),
        cwd: std::env::current_dir().map(|d| hex(d.as_os_str().as_bytes())).unwrap_or_default(),
        umask: current_umask(),
        descriptors,
        blocked: blocked(),
        ignored: ignored(),
        pid: std::process::id().cast_signed(),
        ppid: nix::unistd::getppid().as_raw(),
        pgid: nix::unistd::getpgrp().as_raw(),
        sid: nix::unistd::getsid(None).map_or(-1, nix::unistd::Pid::as_raw),
        terminal: std::fs::metadata("/dev/tty").is_ok() && std::fs::File::open("/dev/tty").is_ok(),
        // SAFETY: tcgetpgrp only looks at the descriptor, and says so if it is not a terminal.
        foreground: unsafe { libc::tcgetpgrp(0) },
        limits: limits(),
    };
    let _lock = var("PROBE_LOCK").map(|path| testkit::files::lock(Path::new(&path)));
    if let Some(out) = var("PROBE_OUT") {
        let path = out.to_string_lossy().replace("{pid}", &record.pid.to_string());
        if write(Path::new(&path), &record).is_err() {
            return 121;
        }
    }
    if let Some(gate) = var("PROBE_HOLD").map(PathBuf::from) {
        while !gate.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if let Some(signal) = number("PROBE_KILL") {
        // SAFETY: restores the default action, lets the signal through, and sends it to this process.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            let all = SigSet::all();
            let _ = all.thread_unblock();
            libc::raise(signal);
        }
    }
    number("PROBE_EXIT").unwrap_or(0)
}

/// Whole or not at all, since a test may be waiting for it.
fn write(path: &Path, record: &Record) -> std::io::Result<()> {
    let part = path.with_extension(format!("part{}", record.pid));
    std::fs::write(&part, serde_json::to_vec_pretty(record)?)?;
    std::fs::rename(part, path)
}

/// # Safety
/// `list` is null or an array of C strings that ends with a null pointer.
unsafe fn strings<'a>(list: *const *const c_char) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: stays within the array, by its null at the end; the strings live as long as the process.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            found.push(CStr::from_ptr(*at).to_bytes());
            at = at.add(1);
        }
    }
    found
}

fn descriptors() -> Vec<Descriptor> {
    (0..1024)
        .filter_map(|fd| {
            // SAFETY: fcntl with F_GETFL only asks; a closed descriptor is an error.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
            (flags >= 0).then_some((fd, flags))
        })
        .map(|(fd, flags)| {
            let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            Descriptor { fd, flags, target: target.to_string_lossy().into_owned() }
        })
        .collect()
}

// The bits have 16 on macOS.
#[allow(clippy::useless_conversion)]
fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    u32::from(mask.bits())
}

/// Signals that exist; the C library keeps some to itself and says that they do not.
fn signals(matches: impl Fn(c_int) -> bool) -> Vec<i32> {
    (1..=64).filter(|signal| matches(*signal)).collect()
}

fn blocked() -> Vec<i32> {
    let set = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
    // SAFETY: only looks into the set.
    signals(|signal| unsafe { libc::sigismember(set.as_ref(), signal) } == 1)
}

fn ignored() -> Vec<i32> {
    signals(|signal| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: with a null new action it only fills in the old one, which is large enough.
        unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    })
}

fn limits() -> BTreeMap<String, (u64, u64)> {
    use nix::sys::resource::{Resource, getrlimit};
    let all = [
        ("core", Resource::RLIMIT_CORE),
        ("cpu", Resource::RLIMIT_CPU),
        ("data", Resource::RLIMIT_DATA),
        ("fsize", Resource::RLIMIT_FSIZE),
        // nix does not know these two on macOS.
        #[cfg(target_os = "linux")]
        ("memlock", Resource::RLIMIT_MEMLOCK),
        #[cfg(target_os = "linux")]
        ("nproc", Resource::RLIMIT_NPROC),
        ("nofile", Resource::RLIMIT_NOFILE),
        ("stack", Resource::RLIMIT_STACK),
    ];
    all.into_iter().filter_map(|(name, which)| Some((name.to_owned(), getrlimit(which).ok()?))).collect()
}
