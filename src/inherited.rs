//! What this process inherited and the start of Rust's runtime changes: closed standard descriptors, which it opens,
//! and SIGPIPE, which it ignores. It is recorded before that, so that a program that this process becomes gets what
//! came.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};

/// Whether SIGPIPE was ignored.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);
/// Which of the descriptors 0 to 2 were closed, a bit for each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Called by the C runtime before `main`.
#[used]
#[expect(unsafe_code, reason = "a section of its own")]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static RECORD: extern "C" fn() = record;

/// Makes only system calls and stores, since Rust's library is not set up yet.
extern "C" fn record() {
    // SAFETY: fcntl only reads; sigaction fills the structure, for which zeroes are a valid value.
    #[expect(unsafe_code, reason = "fcntl and sigaction")]
    unsafe {
        let closed = |fd: &i32| nix::libc::fcntl(*fd, nix::libc::F_GETFD) == -1;
        CLOSED.store((0..3).filter(closed).fold(0, |bits, fd| bits | 1 << fd), Ordering::Relaxed);
        let mut action: nix::libc::sigaction = std::mem::zeroed();
        let known = nix::libc::sigaction(nix::libc::SIGPIPE, std::ptr::null(), &raw mut action) == 0;
        PIPE_IGNORED.store(known && action.sa_sigaction == nix::libc::SIG_IGN, Ordering::Relaxed);
    }
}

/// Restores what was inherited, for the program that this process becomes.
pub(crate) fn restore() {
    if !PIPE_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: the default disposition.
        #[expect(unsafe_code, reason = "SIGPIPE")]
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    }
    for fd in (0..3).filter(|fd| CLOSED.load(Ordering::Relaxed) >> fd & 1 == 1) {
        // SAFETY: Rust's runtime opened it.
        #[expect(unsafe_code, reason = "a descriptor by its number")]
        let opened = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(opened, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}
