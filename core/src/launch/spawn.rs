//! Children of a launch: a program on the same terminal that the launch waits for, and a detached one. Both get the
//! signal dispositions that this process was started with.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::exec::{Program, become_program};
pub(super) use crate::carry::exec::End;

static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(signal: libc::c_int) {
    let child = CHILD.load(Ordering::Relaxed);
    if let Ok(signal) = Signal::try_from(signal)
        && child > 0
    {
        // It is async-signal-safe.
        let _ = kill(Pid::from_raw(child), signal);
    }
}

extern "C" fn swallow(_signal: libc::c_int) {}

/// Runs a program as a child on this terminal, in this process group, and waits for its end. Signals from the terminal
/// reach the child directly; signals to this process alone are passed on.
///
/// # Errors
/// The child cannot be started, or its end is not known.
pub(super) fn run_child(program: &Program) -> io::Result<End> {
    // If this process inherited an ignored SIGCHLD, the child's status would be lost. The others get handlers rather
    // than "ignore": exec resets handlers, so that the child starts with the dispositions that this process had.
    let saved = Dispositions::install(&[
        (libc::SIGINT, swallow),
        (libc::SIGQUIT, swallow),
        (libc::SIGTERM, pass_on),
        (libc::SIGHUP, pass_on),
        (libc::SIGUSR1, pass_on),
        (libc::SIGUSR2, pass_on),
    ]);
    // SAFETY: this program has one thread.
    #[expect(unsafe_code, reason = "fork")]
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            saved.restore();
            let error = become_program(program);
            exit_child(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
        }
        pid => {
            CHILD.store(pid, Ordering::Relaxed);
            let status = wait(pid, None);
            CHILD.store(0, Ordering::Relaxed);
            saved.restore();
            status?.ok_or_else(|| io::Error::other("the child's end was not told"))
        }
    }
}

/// Waits for a child. `Ok(None)`: it has not ended within `limit`. Not by nix, which knows no real-time signals.
fn wait(pid: i32, limit: Option<Duration>) -> io::Result<Option<End>> {
    let start = Instant::now();
    loop {
        let mut status = 0;
        let flags = if limit.is_some() { libc::WNOHANG } else { 0 };
        // SAFETY: `status` is ours.
        #[expect(unsafe_code, reason = "waitpid")]
        let result = unsafe { libc::waitpid(pid, &mut status, flags) };
        match result {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                if limit.is_some_and(|limit| start.elapsed() >= limit) {
                    return Ok(None);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            _ if libc::WIFSIGNALED(status) => return Ok(Some(End::Killed(libc::WTERMSIG(status)))),
            _ => return Ok(Some(End::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(1)))),
        }
    }
}

/// Starts a detached program: without the terminal, our descriptors, or a parent that must wait for it. `wait_for`: how
/// long its end is waited for.
pub(super) fn run_detached(
    program: &Path,
    args: &[&OsStr],
    env: &[(CString, CString)],
    wait_for: Option<Duration>,
) {
    let c = |text: &OsStr| CString::new(text.as_bytes()).ok();
    let (Some(path), Some(args)) =
        (c(program.as_os_str()), args.iter().map(|a| c(a)).collect::<Option<Vec<_>>>())
    else {
        return;
    };
    let vars: Vec<CString> = env
        .iter()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let pointers = |first: Option<&CString>, list: &[CString]| -> Vec<*const libc::c_char> {
        first.into_iter().chain(list).map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    // Everything is allocated before the fork. Between fork and exec there are only system calls.
    let (argv, envp) = (pointers(Some(&path), &args), pointers(None, &vars));
    let saved = Dispositions::install(&[]);
    // SAFETY: this program has one thread.
    #[expect(unsafe_code, reason = "fork")]
    match unsafe { libc::fork() } {
        -1 => {}
        0 => detach_and_exec(&path, &argv, &envp, wait_for.is_none()),
        child => {
            if matches!(wait(child, wait_for), Ok(None)) {
                // The process in between is of no more use, and must not become a child of Codex.
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
                let _ = wait(child, None);
            }
        }
    }
    saved.restore();
}

/// In the child: leaves the terminal, closes the descriptors, and starts the program in a grandchild, which init adopts
/// when the child ends. `alone`: the child does not wait for it.
fn detach_and_exec(
    path: &CString,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    alone: bool,
) -> ! {
    // SAFETY: only system calls on values that were made before the fork.
    #[expect(unsafe_code, reason = "system calls between fork and exec")]
    unsafe {
        libc::setsid();
        let grandchild = libc::fork();
        if grandchild != 0 {
            if !alone {
                libc::waitpid(grandchild, std::ptr::null_mut(), 0);
            }
            libc::_exit(0);
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..=2 {
            libc::dup2(null, fd);
        }
        close_from(3);
        libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr());
    }
    exit_child(127)
}

/// Closes every descriptor from `first` on.
fn close_from(first: libc::c_int) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: closing descriptors of a process that is about to become another program.
        #[expect(unsafe_code, reason = "close_range")]
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
        if done == 0 {
            return;
        }
    }
    // SAFETY: as above; sysconf has no preconditions.
    #[expect(unsafe_code, reason = "close")]
    unsafe {
        let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536);
        for fd in first..most as libc::c_int {
            libc::close(fd);
        }
    }
}

fn exit_child(status: libc::c_int) -> ! {
    // SAFETY: ends the process without running what belongs to the parent.
    #[expect(unsafe_code, reason = "_exit")]
    unsafe {
        libc::_exit(status)
    }
}

/// Returns the status with which a shell tells of an end.
pub(super) fn end_as_status(end: End) -> u8 {
    match end {
        End::Exited(status) => status,
        End::Killed(signal) => u8::try_from(128 + signal).unwrap_or(255),
    }
}

/// Ends this process by the signal that killed the child. Returns the status to exit with otherwise.
pub(super) fn end_as(end: End) -> u8 {
    match end {
        End::Exited(status) => status,
        End::Killed(signal) => {
            // No core dump: it would hold credentials.
            // SAFETY: plain system calls on constants.
            #[expect(unsafe_code, reason = "die by a signal")]
            unsafe {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &none);
                libc::signal(signal, libc::SIG_DFL);
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, signal);
                libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
                libc::kill(libc::getpid(), signal);
            }
            // The signal does not kill, as SIGCHLD. This is the status that shells give.
            end_as_status(end)
        }
    }
}

/// Signal dispositions to restore. SIGCHLD is always set to its default meanwhile.
struct Dispositions(Vec<(libc::c_int, libc::sigaction)>);

impl Dispositions {
    fn install(handlers: &[(libc::c_int, extern "C" fn(libc::c_int))]) -> Self {
        let mut saved = Vec::with_capacity(handlers.len() + 1);
        let handlers =
            handlers.iter().map(|(signal, handler)| (*signal, *handler as *const () as libc::sighandler_t));
        for (signal, handler) in handlers.chain([(libc::SIGCHLD, libc::SIG_DFL)]) {
            // SAFETY: both structures are plain data of ours.
            #[expect(unsafe_code, reason = "sigaction")]
            unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                let mut new: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut old);
                // A signal that the user ignores (nohup) stays ignored.
                if old.sa_sigaction == libc::SIG_IGN && signal != libc::SIGCHLD {
                    continue;
                }
                new.sa_sigaction = handler;
                libc::sigemptyset(&mut new.sa_mask);
                if libc::sigaction(signal, &new, std::ptr::null_mut()) == 0 {
                    saved.push((signal, old));
                }
            }
        }
        Dispositions(saved)
    }

    fn restore(&self) {
        for (signal, old) in &self.0 {
            // SAFETY: `old` is what sigaction gave us.
            #[expect(unsafe_code, reason = "sigaction")]
            unsafe {
                libc::sigaction(*signal, old, std::ptr::null_mut());
            }
        }
    }
}
